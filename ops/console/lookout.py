"""The lookout: one look at the whole system at a time, shared by everybody who watches, and what was seen lately."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, cast

from fastapi import Depends, Request

from ops.alerts import Alert, alerts
from ops.api.door import Door
from ops.health import PlatformHealth
from ops.snapshot import Rates, Snapshot, healths, rates, take

FRESH_S: Final = 0.9
_WINDOW_S: Final = 10.0
_MARK_S: Final = 10.0
_MARKS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was counted at evenly spaced moments of the last ten minutes, as far as somebody looked: a second each."""

    settled: tuple[float, ...]
    calls: tuple[float, ...]


class Lookout:
    """Looks at most about once a second, however many browsers are open; rates are those of the last ten seconds."""

    def __init__(self, door: Door, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._door, self._clock = door, clock
        self._seen: deque[Snapshot] = deque()
        self._one_at_a_time = threading.Lock()
        self._outdated = False
        self._marks: deque[Snapshot] = deque(maxlen=_MARKS)

    def now(self, *, fresh_s: float = FRESH_S) -> Snapshot:
        """Return a look that is at most so old. Raises BackendUnavailable, RedisError."""
        with self._one_at_a_time:
            if not self._seen or self._outdated or self._clock() - self._seen[-1].taken_s > fresh_s:
                self._outdated = False
                self._seen.append(take(self._door.backends, self._door.catalogue, taken_s=self._clock()))
                self._forget()
                self._mark()
            return self._seen[-1]

    def earlier(self) -> Snapshot | None:
        """Return what the newest look is compared with; None before there are two."""
        with self._one_at_a_time:
            return self._seen[0] if len(self._seen) > 1 else None

    def forget(self) -> None:
        """Look again at once: somebody changed something and wants to see it."""
        self._outdated = True

    def alerts(self) -> list[Alert]:
        """Return what is wrong, the most severe first."""
        return alerts(self.now(), self.earlier())

    def healths(self) -> list[PlatformHealth]:
        """Return how each platform does, in the order of the catalogue."""
        return healths(self._door.catalogue, self.now(), earlier=self.earlier())

    def rates(self) -> Rates | None:
        """Return how fast the system is; None before there are two looks."""
        now, earlier = self.now(), self.earlier()
        return rates(now, earlier) if earlier is not None else None

    def history(self) -> History:
        """Return how fast the system was lately."""
        with self._one_at_a_time:
            speeds = [rates(after, before) for before, after in pairwise(self._marks)]
        return History(
            settled=tuple(speed.jobs_per_s for speed in speeds), calls=tuple(speed.calls_per_s for speed in speeds)
        )

    def _mark(self) -> None:
        newest = self._seen[-1]
        if self._marks and newest.taken_s - self._marks[-1].taken_s > 6 * _MARK_S:
            # A curve over a time at which nobody looked would be made up.
            self._marks.clear()
        if not self._marks or newest.taken_s - self._marks[-1].taken_s >= _MARK_S:
            self._marks.append(newest)

    def _forget(self) -> None:
        while len(self._seen) > 2 and self._seen[-1].taken_s - self._seen[1].taken_s >= _WINDOW_S:  # noqa: PLR2004 - now, before
            self._seen.popleft()
        # Nobody looked for a while: what was seen before says nothing of now.
        if any(after.taken_s - before.taken_s > 6 * _WINDOW_S for before, after in pairwise(self._seen)):
            newest = self._seen[-1]
            self._seen.clear()
            self._seen.append(newest)


def lookout_of(request: Request) -> Lookout:
    """Return the lookout of the console that a request came to."""
    return cast("Lookout", request.app.state.lookout)


TheLookout = Annotated[Lookout, Depends(lookout_of)]
