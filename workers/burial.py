"""Burial: what no worker can finish becomes dead letters, and is kept whole where a person sees it. Never lost."""

import orjson
import structlog

from backends.bootstrap import Backends
from backends.heartbeat import process_name
from schemas.batch import Batch
from schemas.errors import ContractError
from schemas.ids import new_id
from schemas.outcome import Hold
from schemas.result import DETAIL_CHARS_MAX, LATENCY_BOUNDS_MS, Alike, AttemptData, ResultEvent
from schemas.state import State

log = structlog.get_logger()


def bury_message(backends: Backends, body: dict[str, object], *, why: str) -> None:
    """Keep a message of the jobs queue as it came; if it is a batch, its jobs become dead letters.

    Raises BackendUnavailable.
    """
    queue = str(body.get("lane", "unknown"))[:40]
    log.error("message.poison", batch=str(body.get("id"))[:40], queue=queue, reason=why)
    backends.kept.bury_message(orjson.dumps(body).decode(), why=why, queue=queue, now=backends.clock.now())
    try:
        batch = Batch.parse(body)
    except ContractError:
        return
    bury_batch(backends, batch, why=why)


def bury_batch(backends: Backends, batch: Batch, *, why: str) -> None:
    """Make dead letters of a batch's jobs, by a result event like any other.

    Raises BackendUnavailable, and ContractError if nobody can say which jobs those are.
    """
    log.error("batch.buried", batch=batch.id, run=batch.run, platform=batch.platform, jobs=batch.size, reason=why)
    now, cases = backends.clock.now(), backends.manifests.cases(batch)
    data = AttemptData(
        batch=batch.id,
        run=batch.run,
        platform=batch.platform,
        attempt=batch.attempt,
        generation=batch.generation,
        started_at=now,
        ended_at=now,
        worker=process_name(),
        calls=0,
        latencies=(0,) * (len(LATENCY_BOUNDS_MS) + 1),
        alike=(Alike(state=State.DEAD, reason=Hold.POISON, detail=why[:DETAIL_CHARS_MAX], cases=tuple(cases)),),
    )
    backends.broker.publish_event(ResultEvent(id=new_id(), time=now, subject=batch.platform, data=data))
