"""Runs, and the counters that `record.lua` keeps for each run and platform."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis

from backends.connect import text
from backends.keys import Keys
from schemas.errors import NotFound
from schemas.state import STATES, State

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Counters of a run or platform, by name as `record.lua` keeps them."""

    values: dict[str, int]

    def get(self, name: str) -> int:
        """Return one counter; 0 where nothing was counted."""
        return self.values.get(name, 0)

    def family(self, prefix: str) -> dict[str, int]:
        """Return the counters whose name starts with `prefix:`, without it."""
        start = f"{prefix}:"
        return {name.removeprefix(start): n for name, n in self.values.items() if name.startswith(start)}

    def by_state(self, total: int | None = None) -> dict[State, int]:
        """Return jobs by state. With `total`, those nobody has tried yet count as QUEUED."""
        found: dict[State, int] = {
            state: self.get(f"state:{rule.code}") for state, rule in STATES.items() if state is not State.QUEUED
        }
        if total is not None:
            found[State.QUEUED] = total - sum(found.values())
        return {state: n for state, n in found.items() if n}


class Runs:
    """What runs are, which cases they name, and how far they and the platforms are."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def begin(self, run: str, *, file: str, now: datetime) -> None:
        """Record what a run is; beginning it again (to take it up) keeps its counters."""
        self._client.hset(self._keys.run(run), "file", file)
        self._client.zadd(self._keys.runs, {run: now.timestamp()}, nx=True)

    def note_intake(self, run: str, *, rejected: int, duplicate: int) -> None:
        """Write down what the whole file held beside the accepted cases."""
        self._client.hset(self._keys.run(run), mapping={"rejected": rejected, "duplicate": duplicate})

    def newest_first(self) -> list[str]:
        """Return every run."""
        return [text(run) for run in self._client.zrevrange(self._keys.runs, 0, -1)]

    def begun_between(self, start: datetime, end: datetime) -> list[str]:
        """Return the runs that were begun from `start` and before `end`, the oldest first."""
        found = self._client.zrangebyscore(self._keys.runs, start.timestamp(), f"({end.timestamp()}")
        return [text(run) for run in found]

    def began_at(self, run: str) -> datetime:
        """Return when a run was begun first. Raises NotFound for an unknown run."""
        began_s = self._client.zscore(self._keys.runs, run)
        if began_s is None:
            raise NotFound(f"no run {run}")
        return datetime.fromtimestamp(float(began_s), UTC)

    def cases(self, run: str) -> Iterator[str]:
        """Yield the cases that a run's file names, in the order of its lines. Raises NotFound for an unknown run."""
        if not self._client.exists(self._keys.run(run)):
            raise NotFound(f"no run {run}")
        start = 0
        while page := self._client.zrange(self._keys.run_cases(run), start, start + _PAGE - 1):
            yield from map(text, page)
            start += len(page)

    def counters(self, run: str) -> Counters:
        """Return the counters of a run; empty for a run that is not known."""
        return _counters(self._client.hgetall(self._keys.run(run)))

    def platform_counters(self, platforms: Sequence[str]) -> dict[str, Counters]:
        """Return the counters of each platform, in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for platform in platforms:
            pipe.hgetall(self._keys.platform(platform))
        return {platform: _counters(found) for platform, found in zip(platforms, pipe.execute(), strict=True)}


def _counters(found: dict[Any, Any]) -> Counters:
    return Counters(values={text(name): int(value) for name, value in found.items() if value.lstrip(b"-").isdigit()})
