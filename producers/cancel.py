"""Cancelling: jobs that nobody has sent are taken out; what a platform is being asked at this moment is left alone."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from backends.bootstrap import Backends
from backends.custody import Phase
from producers.decision import JOBS_AT_ONCE, decision
from schemas.outcome import Hold
from schemas.state import DISPATCHER_STATES, State

_BODIES_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledPage:
    """What became of some cases: jobs that were taken out, and cases with jobs that are in flight."""

    jobs: int
    in_flight: frozenset[str]


def cancel_page(backends: Backends, run: str, cases: Sequence[str]) -> CancelledPage:
    """Let the open jobs of a run's cases be CANCELLED, but for those that are in flight: their answers are to come.

    Cases that another run owns are left alone. Doing it twice changes nothing. A job that a worker takes between the
    look and the decision is answered and cancelled: that answer is kept as a dispute. Raises BackendUnavailable.
    """
    open_at: dict[str, list[str]] = defaultdict(list)
    for view in backends.store.cases(cases):
        if view.run == run:
            for platform in view.platforms:
                if view.record(platform).state in DISPATCHER_STATES:
                    open_at[platform].append(view.id)
    busy = set(_in_flight(backends, run)) if open_at else set()
    now = backends.clock.now()
    jobs = 0
    for platform, wanted in open_at.items():
        free = [case for case in wanted if (platform, case) not in busy]
        for start in range(0, len(free), JOBS_AT_ONCE):
            # No word of why beside each job: it stands once, with the run, and there are millions of jobs.
            event = decision(
                free[start : start + JOBS_AT_ONCE],
                platform=platform,
                run=run,
                batch=run,
                state=State.CANCELLED,
                reason=Hold.STOPPED,
                who="operator",
                now=now,
            )
            jobs += backends.store.decide(event, only_from=DISPATCHER_STATES).changed
    in_flight = {case for platform, wanted in open_at.items() for case in wanted if (platform, case) in busy}
    return CancelledPage(jobs=jobs, in_flight=frozenset(in_flight))


def _in_flight(backends: Backends, run: str) -> Iterator[tuple[str, str]]:
    """Yield platform and case of each job of a run that a worker has begun or that was answered a moment ago."""
    names = [entry.batch for entry in backends.custody.every() if entry.note.phase is not Phase.QUEUED]
    for start in range(0, len(names), _BODIES_AT_ONCE):
        for body in backends.custody.bodies(names[start : start + _BODIES_AT_ONCE]).values():
            batch = orjson.loads(body)
            if batch["run"] == run:
                yield from ((batch["platform"], case) for case in backends.manifests.cases_of(batch))
