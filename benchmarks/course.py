"""The course of one load: how many jobs were done when, and the rates that follow from it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_FROM_SHARE = 0.05
_TO_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Points are (seconds since the start, jobs done by then), in order; the last one is the end."""

    jobs: int
    points: Sequence[tuple[float, int]]

    @property
    def seconds(self) -> float:
        """How long it took from the start to the last job."""
        return next(at_s for at_s, done in self.points if done >= self.jobs)

    @property
    def per_s(self) -> float:
        """Jobs a second from the start to the last job."""
        return self.jobs / self.seconds

    @property
    def steady_per_s(self) -> float:
        """Jobs a second between 5 % and 95 % of all: neither start-up nor the tail of retries."""
        begin_s, end_s = self.at(_FROM_SHARE * self.jobs), self.at(_TO_SHARE * self.jobs)
        return (_TO_SHARE - _FROM_SHARE) * self.jobs / max(end_s - begin_s, 1e-9)

    def at(self, done: float) -> float:
        """Return when so many were done, on the straight line between the points around it."""
        for (before_s, before), (after_s, after) in pairwise([(0.0, 0), *self.points]):
            if after >= done:
                share = (done - before) / (after - before) if after > before else 1.0
                return before_s + share * (after_s - before_s)
        raise ValueError(f"{done:.0f} jobs were never done")
