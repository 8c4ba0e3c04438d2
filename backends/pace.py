"""Paces: how fast one caller may go, counted in Redis for all processes together."""

from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis

from backends.admission import now_arg
from backends.connect import patiently
from backends.keys import PACE_TTL_S, Keys
from backends.scripts import script


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """So many requests a second for each caller, and a burst of so many at once, free again within PACE_TTL_S."""

    name: str
    per_s: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """Whether a caller may go on. `more` may come at once; after `full_s` the whole burst may, after `next_s` one."""

    allowed: bool
    more: int
    full_s: float
    next_s: float


class Paces:
    """Counts, or only looks. What was refused costs nothing. BackendUnavailable when Redis stays away."""

    def __init__(self, client: Redis, keys: Keys, *, clock_us: Callable[[], int] | None = None) -> None:
        self._keys, self._clock_us = keys, clock_us
        self._pace = script(client, "pace")

    def take(self, pace: Pace, who: str) -> Paced:
        """Let one request of a caller go on, if it may."""
        return self._ask(pace, who, cost=1)

    def look(self, pace: Pace, who: str) -> Paced:
        """Say whether a request might go on."""
        return self._ask(pace, who, cost=0)

    def _ask(self, pace: Pace, who: str, *, cost: int) -> Paced:
        keys = [self._keys.pace(pace.name, who)]
        args = [now_arg(self._clock_us), round(1_000_000 / pace.per_s), pace.burst, cost, PACE_TTL_S]
        # Asked twice for one request it counts twice: in the worst case somebody has to wait a moment longer.
        may, more, full_us, next_us = patiently(lambda: self._pace(keys=keys, args=args))
        return Paced(allowed=bool(may), more=more, full_s=full_us / 1e6, next_s=next_us / 1e6)
