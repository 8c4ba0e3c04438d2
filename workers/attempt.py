"""The attempt: one try to deliver one batch, read from top to bottom.

Failures by stage. Before the call: ours; the batch comes again and no attempt is spent. The call: theirs; `interpret`
makes an answer or a fault of it. After the call: ours, but the call has happened, so only the publishing is repeated.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from random import Random
from threading import Lock
from typing import Any

import structlog
import tenacity

from backends.admission import FIRST_CALL_S, HORIZON_S, BulkTerms, GateChange, NotNow, Permit, Report, Stop
from backends.bootstrap import Backends
from backends.custody import Note
from backends.failpoint import reach
from backends.heartbeat import process_name
from backends.manifests import Item
from backends.waiting import Why
from platforms.catalogue import Catalogue
from platforms.maintenance import next_window
from platforms.model import Platform
from schemas.batch import Batch
from schemas.errors import BackendUnavailable, ContractError
from schemas.ids import new_id
from schemas.record import JobRecord
from schemas.result import ResultEvent
from schemas.state import STATES
from workers.connector import build_calls
from workers.judgement import Judgement
from workers.transport import Transport

# No attempt holds its worker's slot longer, whatever the platform does; far below the broker's visibility timeout.
HOLD_S_MAX = 120.0
# From the end of the calls to the published result; a worker that needs longer is taken for dead.
_PUBLISH_S = 10.0
_PUBLISH_TRIES = 12
# Jobs that meet an ill platform come back this soon; admission then says how long it is to be left in peace.
_PLATFORM_S = 2.0
# Retries of bulk platforms come due on a common beat, so that small ones travel together.
_BEAT_S = 2
_WHY = {
    Stop.RATE: Why.LIMIT,
    Stop.IN_FLIGHT: Why.LIMIT,
    Stop.PAUSED: Why.PAUSED,
    Stop.SUSPENDED: Why.SUSPENDED,
    Stop.BREAKER: Why.BREAKER,
    Stop.WINDOW: Why.WINDOW,
    Stop.HOURS: Why.HOURS,
    Stop.QUOTA: Why.QUOTA,
}
log = structlog.get_logger()


class Attempt:
    """Runs attempts; safe to use from many threads."""

    def __init__(
        self,
        backends: Backends,
        catalogue: Catalogue,
        *,
        transport: Transport,
        credentials: Callable[[Platform], tuple[str, ...]],
        rng: Random,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._backends, self._catalogue, self._pause = backends, catalogue, pause
        self._transport, self._credentials, self._rng = transport, credentials, rng
        self._lock, self._running, self._batches = Lock(), Counter[str](), 0

    def close(self) -> None:
        """Close the connections to platforms."""
        self._transport.close()

    def doing(self) -> dict[str, Any]:
        """Return what this process does now, for its sign of life."""
        with self._lock:
            platforms = [platform for platform, _ in self._running.most_common(5)]
            return {"running": self._running.total(), "platforms": platforms, "batches": self._batches,
                    "transport": self._transport.name}  # fmt: skip

    def run(self, body: dict[str, object]) -> ResultEvent | None:
        """Deliver one message of the jobs queue. Returns the first published event, or None if nothing was called.

        Raises BackendUnavailable when Redis or the broker stays away: then the message must come again. Raises
        ContractError for a message that can never be read.
        """
        batch = Batch.parse(body)
        platform = self._platform(batch)
        with self._noted(batch.platform):
            calls = 1 if platform.protocol == "bulk-json" else batch.size
            now = self._backends.clock.now()
            lease_s = FIRST_CALL_S + _hold_s(platform, calls) + _PUBLISH_S
            note = self._backends.custody.begin(batch, holder=_holder(), lease_s=lease_s, now=now)
            if note is None:
                log.info("attempt.ended", **_who(batch), end="copy")
                return None
            reach("attempt.begun")
            reach(f"poison.{batch.platform}")
            try:
                return self._run(platform, batch, note=note)
            except BackendUnavailable:
                # The message comes again at once: it must not be taken for a copy then.
                with contextlib.suppress(BackendUnavailable):
                    self._backends.custody.put_back(batch.id, note, now=self._backends.clock.now())
                raise

    def _run(self, platform: Platform, batch: Batch, *, note: Note) -> ResultEvent | None:
        items = self._still_open(batch, self._backends.manifests.open(batch))
        permit = self._admit(platform, batch, items) if items else None
        if permit is None:
            self._backends.custody.end(batch.id)
            if not items:
                log.info("attempt.ended", **_who(batch), end="nothing_left")
            return None
        reach("attempt.admitted")
        sent = items if platform.protocol == "bulk-json" else items[: permit.calls]
        started_at = self._backends.clock.now()
        judged = self._deliver(platform, batch, sent, permit=permit)
        reach("attempt.called")
        # First what must wait, then the event, then the broker's acknowledgement: a crash between any two of them
        # repeats an attempt, and none of them loses a job.
        unsent = [item for item in sent if item.job.case in judged.unsent]
        self._defer(batch, sorted([*items[len(sent) :], *unsent], key=attrgetter("place")), permit=permit)
        reach("attempt.deferred")
        self._wait_again(batch, judged, sent)
        reach("attempt.waiting_put")
        ended_at = self._backends.clock.now()
        events = tuple(judged.events(started_at=started_at, ended_at=ended_at, worker=process_name()))
        self._publish(batch, events, note=note)
        reach("attempt.published")
        took_ms = int((ended_at - started_at).total_seconds() * 1000)
        log.info(
            "attempt.ended",
            **_who(batch),
            **_found(judged),
            end="called",
            ms=took_ms,
            starts=note.starts,
            probe=permit.probe,
            deferred=len(items) - len(sent) + len(unsent),
            events=[event.id for event in events],
        )
        return events[0] if events else None

    @contextlib.contextmanager
    def _noted(self, platform: str) -> Iterator[None]:
        with self._lock:
            self._running[platform] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[platform] -= 1
                self._running += Counter()  # drops what is at zero
                self._batches += 1

    # -- before the call -------------------------------------------------------------------------------------------

    def _platform(self, batch: Batch) -> Platform:
        if batch.platform not in self._catalogue:
            raise ContractError(f"platform {batch.platform} is not in the catalogue of this worker")
        return self._catalogue.get(batch.platform)

    def _still_open(self, batch: Batch, items: list[Item]) -> list[Item]:
        """Leave out what is final, and what this very attempt has been made for already."""
        store = self._backends.store
        records: Sequence[JobRecord | None] | None = None
        if batch.manifest is None:
            records = store.records(batch.platform, [item.job.case for item in items])
        elif column := store.column(batch.manifest.id, batch.platform):
            records = [JobRecord.at(column, item.place) for item in items]
        if records is None:
            return items
        asked = batch.generation, batch.attempt
        return [
            item
            for item, record in zip(items, records, strict=True)
            if record is None or (not STATES[record.state].final and (record.generation, record.attempts) < asked)
        ]

    def _admit(self, platform: Platform, batch: Batch, items: list[Item]) -> Permit | None:
        calls, now = 1 if platform.protocol == "bulk-json" else len(items), self._backends.clock.now()
        answer = self._backends.admission.ask(
            platform.key,
            calls=calls,
            calls_per_s=platform.limits.calls_per_s,
            in_flight=platform.limits.in_flight,
            hold_s=_hold_s(platform, calls),
            holder=new_id(),
            window=next_window(platform.maintenance, now),
            lane=batch.lane,
            jobs=len(items),
            terms=BulkTerms(jobs_per_day=platform.limits.jobs_per_day, hours=next_window(platform.bulk_hours, now)),
        )
        if isinstance(answer, Permit):
            _tell(answer.change)
            return answer
        why, delay_s = _WHY[answer.why], _spread(answer, self._rng)
        # A batch that was made before there was a quota would never fit whole into a day.
        most = platform.jobs_per_batch if answer.why is Stop.QUOTA else len(items)
        parts = [items[start : start + most] for start in range(0, len(items), most)]
        due, *_ = [self._wait(batch, part, why=why, attempt=batch.attempt, delay_s=delay_s) for part in parts]
        log.info("attempt.ended", **_who(batch), end="not_now", why=why, due=due.isoformat())
        return None

    # -- the call --------------------------------------------------------------------------------------------------

    def _deliver(self, platform: Platform, batch: Batch, items: Sequence[Item], *, permit: Permit) -> Judgement:
        judged = Judgement(platform, batch, items, permit.probe, self._rng)
        report = Report()
        try:
            self._pause(permit.first_after_s)  # a second or a few: the permit was given for then
            calls = build_calls(
                platform,
                batch.id,
                items,
                credentials=self._credentials(platform),
                now=self._backends.clock.now(),
            )
            answers = self._transport.send(
                calls,
                in_flight=permit.in_flight,
                deadline_s=_hold_s(platform, len(calls)),
                interval_s=permit.interval_s,
            )
            for answer in answers:
                judged.add(answer, now=self._backends.clock.now())
            report = judged.report()
        finally:
            change = self._backends.admission.settle(permit, report)
        _tell(change)
        if judged.invented:
            log.warning("answer.invented", platform=platform.key, batch=batch.id, items=judged.invented)
        return judged

    # -- after the call --------------------------------------------------------------------------------------------

    def _wait_again(self, batch: Batch, judged: Judgement, sent: Sequence[Item]) -> None:
        """Let those wait that are to be tried again, each kind in a batch of its own."""
        for kind, cases in judged.again.items():
            items = [item for item in sent if item.job.case in cases] if cases else []
            if not items:
                continue
            if kind == "retry":
                beat_s = _BEAT_S if judged.platform.protocol == "bulk-json" else 0
                self._wait(batch, items, why=Why.RETRY, attempt=batch.attempt + 1, delay_s=judged.retry_in_s,
                           beat_s=beat_s)  # fmt: skip
            elif kind == "platform":
                delay_s = _PLATFORM_S * (1 + self._rng.random())
                self._wait(batch, items, why=Why.SUSPENDED, attempt=batch.attempt, delay_s=delay_s)
            else:
                middle = len(items) // 2
                for half in (items[:middle], items[middle:]):
                    self._wait(batch, half, why=Why.SPLIT, attempt=batch.attempt, delay_s=0)

    def _defer(self, batch: Batch, items: list[Item], *, permit: Permit) -> None:
        """Let those wait that got no leave this time; they spend no attempt."""
        if items:
            delay_s = permit.first_after_s + permit.calls * permit.interval_s
            self._wait(batch, items, why=Why.LIMIT, attempt=batch.attempt, delay_s=delay_s)

    def _wait(
        self, batch: Batch, items: Sequence[Item], *, why: Why, attempt: int, delay_s: float, beat_s: int = 0
    ) -> datetime:
        child = self._backends.manifests.child(batch, why, items=items, attempt=attempt)
        due = self._backends.clock.now() + timedelta(seconds=delay_s)
        if beat_s:
            due = datetime.fromtimestamp(math.ceil(due.timestamp() / beat_s) * beat_s, UTC)
        self._backends.waiting.put(child, due=due, why=why)
        return due

    def _publish(self, batch: Batch, events: Sequence[ResultEvent], *, note: Note) -> None:
        """Repeat only the publishing, never the call; an event keeps its id."""
        for event in events:
            for attempt in tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(BackendUnavailable),
                wait=tenacity.wait_exponential(multiplier=0.1, max=5),
                stop=tenacity.stop_after_attempt(_PUBLISH_TRIES),
                reraise=True,
            ):
                with attempt:
                    self._backends.broker.publish_event(event)
        if not events:
            self._backends.custody.end(batch.id)
            return
        # The result is out: whatever happens to this note, the recorder ends the custody.
        with contextlib.suppress(BackendUnavailable):
            self._backends.custody.answered(batch.id, note, now=self._backends.clock.now())


def _hold_s(platform: Platform, calls: int) -> float:
    """How long an attempt may hold its slots: each serves its share of the calls, each up to its timeout."""
    limits = platform.limits
    rounds = -(-calls // min(calls, limits.in_flight))
    return min(HOLD_S_MAX, 2 * HORIZON_S + rounds * limits.timeout_s)


def _spread(answer: NotNow, rng: Random) -> float:
    """Lengthen a wait a little, so that those who wait do not come back in one moment.

    By a fixed bit and not by a share: admission has given each a time of its own already, and a share of a long wait
    would leave the platform idle.
    """
    return answer.retry_in_s + 0.2 * rng.random()


def _holder() -> str:
    return f"{process_name()}/{new_id()[:8]}"


def _who(batch: Batch) -> dict[str, Any]:
    """Return what ties a log line to its batch, its run and its platform."""
    return {
        "batch": batch.id,
        "run": batch.run,
        "platform": batch.platform,
        "lane": batch.lane,
        "attempt": batch.attempt,
        "generation": batch.generation,
        "jobs": batch.size,
    }


def _found(judged: Judgement) -> dict[str, Any]:
    unspent = judged.unspent.states()
    states = judged.results.states() + unspent
    return {
        "calls": judged.calls,
        "statuses": dict(judged.statuses),
        "faults": dict(judged.faults),
        "states": dict(states),
        "unspent": unspent.total(),
    }


def _tell(change: GateChange | None) -> None:
    if change is not None:
        log.warning(
            "gate.changed", platform=change.platform, before=change.before, after=change.after, reason=change.reason
        )
