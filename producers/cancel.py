"""Cancelling what is open of a run: out of the queue, out of the waiting set, and what nobody holds.

Whatever is cancelled is first taken from whoever could send it: a batch in custody by compare-and-set, as a worker
begins one; a waiting batch under a scheduler's lease. So nothing is cancelled while a platform is asked about it; what
is in flight is waited for, and only what would be tried again is cancelled then.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from backends.bootstrap import Backends
from backends.custody import Entry, Phase
from backends.failpoint import reach
from backends.waiting_view import WaitingFilter
from producers.decision import JOBS_AT_ONCE, decision
from schemas.batch import Batch
from schemas.ids import new_id
from schemas.outcome import Hold
from schemas.state import DISPATCHER_STATES, State

_AT_ONCE = 50
_HOLDER = "cancel/"
# Longer than the decision about one batch can take; then its message may be sent again, and finds nothing left to do.
_LEASE_S = 30.0
# No attempt holds its slot longer than two minutes; a little is added for its result to be recorded.
_LOOKS_MAX = 150
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """One look at everything that holds jobs of a run: what was taken out, and batches that others hold now."""

    jobs: int
    busy: int


def cancel_open(
    backends: Backends, run: str, *, tell: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> int:
    """Let every open job of a run be CANCELLED, but for those that are answered meanwhile. Returns how many were.

    Waits for what is in flight, up to two and a half minutes. Ended in the middle, the same again goes on with what is
    left. Jobs of other runs are left alone. Raises BackendUnavailable.
    """
    jobs, looked_for_rest = 0, False
    for _ in range(_LOOKS_MAX):
        if not backends.runs.counters(run).held:
            break
        found = _pass(backends, run)
        jobs += found.jobs
        if not found.jobs and not found.busy and not looked_for_rest:
            jobs, looked_for_rest = jobs + _cancel_unheld(backends, run, tell=tell), True
            continue
        tell(f"{jobs:,} jobs cancelled · {found.busy:,} batches are in flight")
        if not found.jobs:
            pause(_LOOK_S)
    return jobs


def cancel_batch(backends: Backends, batch: Batch, *, detail: str = "") -> int:
    """Let the open jobs of a batch be CANCELLED; who calls must hold it, so that nobody sends it meanwhile.

    `detail` is kept beside each job: for few jobs only.
    """
    return _decide(
        backends,
        backends.manifests.cases(batch),
        platform=batch.platform,
        run=batch.run,
        batch=batch.id,
        detail=detail,
        attempt=batch.attempt - 1,
        generation=batch.generation,
    )


def _decide(
    backends: Backends, cases: Sequence[str], *, platform: str, run: str, batch: str, detail: str = "",
    attempt: int = 0, generation: int = 0,
) -> int:  # fmt: skip
    changed = 0
    for start in range(0, len(cases), JOBS_AT_ONCE):
        event = decision(
            cases[start : start + JOBS_AT_ONCE],
            platform=platform,
            run=run,
            batch=batch,
            state=State.CANCELLED,
            reason=Hold.STOPPED,
            detail=detail,
            attempt=attempt,
            generation=generation,
            who="operator",
            now=backends.clock.now(),
        )
        changed += backends.store.decide(event, only_from=DISPATCHER_STATES).changed
    return changed


def _pass(backends: Backends, run: str) -> _Pass:
    # The waiting set first: what leaves the queue for it meanwhile is found by the next pass.
    waiting = _cancel_waiting(backends, run)
    queued = _cancel_queued(backends, run)
    return _Pass(jobs=waiting.jobs + queued.jobs, busy=waiting.busy + queued.busy)


def _cancel_waiting(backends: Backends, run: str) -> _Pass:
    chosen = backends.waiting_view.select(WaitingFilter(run=run), now=backends.clock.now())
    names = [waiting.batch for waiting in chosen]
    jobs = busy = 0
    for start in range(0, len(names), _AT_ONCE):
        taken = backends.waiting_view.take(names[start : start + _AT_ONCE], now=backends.clock.now())
        jobs += sum(cancel_batch(backends, batch) for batch in taken.leased.batches)
        backends.waiting.finish(taken.leased)
        busy += len(taken.busy)
        reach("cancel.waiting")
    return _Pass(jobs=jobs, busy=busy)


def _cancel_queued(backends: Backends, run: str) -> _Pass:
    jobs = busy = 0
    holder = f"{_HOLDER}{new_id()[:8]}"
    for entry, body in _held_bodies(backends):
        if orjson.loads(body)["run"] != run:
            continue
        now = backends.clock.now()
        # What another who cancels has seized may be seized again: they may have died over it.
        free = entry.note.phase is Phase.QUEUED or entry.note.holder.startswith(_HOLDER)
        if not free or not backends.custody.seize(entry, holder=holder, lease_s=_LEASE_S, now=now):
            busy += 1
            continue
        reach("cancel.seized")
        jobs += cancel_batch(backends, Batch.model_validate_json(body))
        reach("cancel.decided")
        backends.custody.end(entry.batch)
    return _Pass(jobs=jobs, busy=busy)


def _held_bodies(backends: Backends) -> Iterator[tuple[Entry, bytes]]:
    entries = list(backends.custody.every())
    for start in range(0, len(entries), _AT_ONCE):
        page = entries[start : start + _AT_ONCE]
        bodies = backends.custody.bodies([entry.batch for entry in page])
        yield from ((entry, bodies[entry.batch]) for entry in page if entry.batch in bodies)


def _cancel_unheld(backends: Backends, run: str, *, tell: Callable[[str], None]) -> int:
    """Cancel what neither a queue nor a worker nor the waiting set has: intake died before it was sent."""
    jobs, looked_at = 0, backends.runs.counters(run).get("cancel_cursor")
    for page in backends.runs.pages(run, after=looked_at):
        jobs, looked_at = jobs + _cancel_unheld_page(backends, run, page), looked_at + len(page)
        backends.runs.save_cancel_cursor(run, looked_at)
        reach("cancel.page")
        tell(f"{jobs:,} jobs cancelled that nobody held · {looked_at:,} cases looked at")
    backends.runs.save_cancel_cursor(run, 0)
    return jobs


def _cancel_unheld_page(backends: Backends, run: str, cases: Sequence[str]) -> int:
    """Let the open jobs of a run's cases be CANCELLED that nobody holds. Cases of other runs are left alone."""
    open_at: dict[str, list[str]] = defaultdict(list)
    for view in backends.store.cases(cases):
        if view.run == run:
            for platform in view.platforms:
                if view.record(platform).state in DISPATCHER_STATES:
                    open_at[platform].append(view.id)
    if not open_at:
        return 0
    held = set(_held(backends, run))
    jobs = 0
    for platform, wanted in open_at.items():
        free = [case for case in wanted if (platform, case) not in held]
        jobs += _decide(backends, free, platform=platform, run=run, batch=run)
    return jobs


def _held(backends: Backends, run: str) -> Iterator[tuple[str, str]]:
    """Yield platform and case of each job of a run that anybody holds."""
    # Twice, since a batch may pass from a worker to the waiting set between two looks.
    yield from _jobs_of(backends, run, (body for _, body in _held_bodies(backends)))
    for waiting in backends.waiting_view.select(WaitingFilter(run=run), now=backends.clock.now()):
        yield from ((waiting.platform, case) for case in waiting.cases)
    yield from _jobs_of(backends, run, (body for _, body in _held_bodies(backends)))


def _jobs_of(backends: Backends, run: str, bodies: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    for body in bodies:
        batch = orjson.loads(body)
        if batch["run"] == run:
            yield from ((batch["platform"], case) for case in backends.manifests.cases_of(batch))
