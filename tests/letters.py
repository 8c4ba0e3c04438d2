"""What tests of dead letters build on: cases, results for them without a worker, and the batches that then wait."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from backends.bootstrap import Backends
from backends.connect import text
from backends.waiting import Why
from schemas.batch import Basis, Batch, Job, seal_context
from schemas.case import Case
from schemas.ids import derive, new_id
from schemas.outcome import Fault, Reason
from schemas.record import JobRecord
from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import State
from tests.fixtures_valkey import NOON

CUTOFF = "2026-11-01T00:00:00+08:00"


def mobile(index: int) -> str:
    """Return one of many numbers."""
    return f"+86138{index:08d}"


def accept(
    backends: Backends, platforms: Sequence[str], *, count: int = 1, first: int = 0, run: str = "",
    cutoff_at: str = CUTOFF,
) -> list[str]:  # fmt: skip
    """Let cases of different numbers be accepted. Returns their ids."""
    run = run or new_id()
    backends.runs.begin(run, file="numbers.csv", now=NOON)
    cases = [
        Case(
            id=derive(run, str(index), cutoff_at), number=mobile(index), token=backends.vault.token(mobile(index)),
            line=index + 2, cutoff_at=cutoff_at, basis=Basis.PLANNED_RELEASE, cycle=cutoff_at[:10], reference="",
            platforms=tuple(platforms),
        )
        for index in range(first, first + count)
    ]  # fmt: skip
    backends.store.accept(run, cases, now=NOON)
    backends.store.mark_queued(case.id for case in cases)
    return [case.id for case in cases]


def record(
    backends: Backends, platform: str, cases: Sequence[str], *, state: State = State.DEAD,
    reason: Reason | None = None, attempt: int = 1, generation: int = 0, at: datetime = NOON, detail: str = "",
) -> None:  # fmt: skip
    """Let one attempt at jobs of one platform have ended so."""
    if state is State.DEAD and reason is None:
        reason = Fault.REJECTED_REQUEST
    data = AttemptData(
        batch=new_id(), run=new_id(), platform=platform, attempt=attempt, generation=generation, started_at=at,
        ended_at=at, worker="w", calls=1, latencies=(1,) + (0,) * len(LATENCY_BOUNDS_MS),
        jobs=tuple(
            JobResult(case=case, state=state, reason=reason, http_status=400 if reason else None, detail=detail or None)
            for case in cases
        ),
    )  # fmt: skip
    backends.store.apply(ResultEvent(id=new_id(), time=at, subject=platform, data=data))


def die(backends: Backends, platforms: Sequence[str], *, count: int, first: int = 0) -> list[str]:
    """Let every job of new cases be a dead letter. Returns the cases."""
    cases = accept(backends, platforms, count=count, first=first)
    for platform in platforms:
        record(backends, platform, cases)
    return cases


def record_of(backends: Backends, case: str, platform: str) -> JobRecord:
    """Return what is known of one job."""
    return backends.store.records(platform, [case])[0]


def wait(
    backends: Backends, platform: str, cases: Sequence[str], *, due: datetime = NOON, why: Why = Why.RETRY,
    attempt: int = 2, run: str = "",
) -> Batch:  # fmt: skip
    """Let jobs wait in one batch."""
    numbers = [origin.number for origin in backends.origins.of(cases).values()] or [mobile(0)] * len(cases)
    batch = Batch(
        id=new_id(), run=run or new_id(), platform=platform, attempt=attempt, deadline=NOON.replace(year=2027),
        jobs=tuple(Job(case=case, cutoff_at=CUTOFF, basis=Basis.PLANNED_RELEASE) for case in cases),
        sealed=backends.vault.seal_numbers(numbers, context=seal_context(tuple(cases))),
    )  # fmt: skip
    assert backends.waiting.put(batch, due=due, why=why)
    return batch


def waiting(backends: Backends) -> list[Batch]:
    """Return every batch that waits."""
    return [backends.waiting_view.show(ident, now=NOON)[1].batch for ident in _ids(backends)]


def _ids(backends: Backends) -> list[str]:
    found: list[Any] = backends.redis.zrange(backends.keys.waiting, 0, -1)
    return [text(ident) for ident in found]


def drain(backends: Backends) -> list[Batch]:
    """Take every batch that waits out of the waiting set, as a scheduler does."""
    found: list[Batch] = []
    while (leased := backends.waiting.lease(backends.clock.now(), at_most=100)).batches:
        backends.waiting.finish(leased)
        found += leased.batches
    return found
