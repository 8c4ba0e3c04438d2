"""The deadline of jobs that a platform has accepted: nothing heard until then ends them, and says so.

Any number of schedulers may look: only a job that is still ACCEPTED changes, in one step, so each ends once.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

import structlog

from backends.bootstrap import Backends
from platforms.catalogue import Catalogue
from platforms.model import Platform, Sla
from schemas.ids import derive, new_id, split_job_id
from schemas.outcome import Hold
from schemas.result import LATENCY_BOUNDS_MS, Alike, AttemptData, ResultEvent
from schemas.state import State

# What one event decides at most: a script call blocks the store for as long as it takes.
_AT_ONCE: Final = 500
log = structlog.get_logger()


class Calendar(Protocol):
    """Knows which days are working days."""

    def latest_start_of(self, sla: Sla, now: datetime) -> datetime:
        """Return the latest start from which the time of this promise is over now."""
        ...


class Promises(Protocol):
    """Knows single jobs: a clock that stood still is told by the trail alone."""

    def over(self, jobs: Sequence[str]) -> list[str]:
        """Return those of these jobs whose time is over."""
        ...


class Deadlines:
    """Ends what is overdue. Raises BackendUnavailable, RedisError."""

    def __init__(self, backends: Backends, catalogue: Catalogue, calendar: Calendar, promises: Promises) -> None:
        self._backends, self._catalogue = backends, catalogue
        self._calendar, self._promises = calendar, promises
        self._cursors: dict[str, int] = {}

    def step(self) -> int:
        """End a page of each platform's overdue jobs. Returns how many ended."""
        now = self._backends.clock.now()
        latest: dict[Sla, datetime] = {}
        ended = 0
        for platform in self._catalogue:
            if platform.sla not in latest:
                latest[platform.sla] = self._calendar.latest_start_of(platform.sla, now)
            jobs = self._backends.expected.sent_until(platform.key, latest[platform.sla], at_most=_AT_ONCE)
            ended += self._end(platform, jobs, now=now)
            ended += self._end(platform, self._paused(platform, latest=latest[platform.sla]), now=now)
        return ended

    def _paused(self, platform: Platform, *, latest: datetime) -> list[str]:
        """Return those whose owner had to act, and whose time is over all the same; a part of them in each step."""
        cursor = self._cursors.get(platform.key, 0)
        self._cursors[platform.key], jobs = self._backends.expected.paused_page(platform.key, cursor, until=latest)
        return self._promises.over(jobs) if jobs else []

    def _end(self, platform: Platform, jobs: Sequence[str], *, now: datetime) -> int:
        if not jobs:
            return 0
        event = passed(platform, [split_job_id(job)[0] for job in jobs], now=now)
        changed = self._backends.store.decide(event, only_from=frozenset({State.ACCEPTED})).changed
        if changed:
            log.warning("deadline.passed", platform=platform.key, jobs=changed)
        return changed


def passed(platform: Platform, cases: Sequence[str], *, now: datetime) -> ResultEvent:
    """Return the event that ends jobs of a platform for want of an answer. Pure but for its name.

    Where no answer could have reached us they were delivered, and nobody can say more (requirement 10).
    """
    message = derive("deadline", new_id())
    state = State.EXPIRED if platform.answers_later else State.DELIVERED_UNCONFIRMED
    data = AttemptData(
        batch=message,
        run=message,
        platform=platform.key,
        attempt=0,
        started_at=now,
        ended_at=now,
        worker="deadline",
        calls=0,
        latencies=(0,) * (len(LATENCY_BOUNDS_MS) + 1),
        closes=False,
        alike=(Alike(state=state, reason=Hold.DEADLINE, cases=tuple(cases)),),
    )
    return ResultEvent(id=message, time=now, subject=platform.key, data=data)
