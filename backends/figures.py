"""Figures: how much there is of everything that may pile up, in a few round trips. Changes nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from redis import Redis

from backends.admission import quota_day
from backends.connect import text
from backends.dead import DeadGroup
from backends.keys import Keys
from backends.runs import Counters
from backends.scripts import script
from schemas.outcome import REASON_CODES, Reason

# A script that reads large bodies serves nobody else meanwhile: few at once.
_PAGE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFigures:
    """Batches of the waiting set. `oldest_due_s` is how long the first of them has been due; 0 if none is."""

    due: int
    later: int
    oldest_due_s: float
    by_platform: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piles:
    """Lists that a person has to look through."""

    poison: int = 0
    unreadable: int = 0
    orphans: int = 0
    disputes: int = 0
    late: int = 0
    undelivered: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How the status store's server keeps what it is given."""

    maxmemory_policy: str
    appendonly: bool
    used_memory: int


class Figures:
    """Counts what the stores hold."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._whys = script(client, "waiting_whys")

    def waiting(self, platforms: Sequence[str], *, now: datetime) -> WaitingFigures:
        """Count what waits, by platform too."""
        now_ms = int(now.timestamp() * 1000)
        pipe = self._client.pipeline(transaction=False)
        pipe.zcount(self._keys.waiting, "-inf", now_ms)
        pipe.zcard(self._keys.waiting)
        pipe.zrange(self._keys.waiting, 0, 0, withscores=True)
        for platform in platforms:
            pipe.zcard(self._keys.waiting_at(platform))
        due, total, first, *counts = pipe.execute()
        oldest_due_s = max(0.0, (now_ms - first[0][1]) / 1000) if first else 0.0
        return WaitingFigures(
            due=due,
            later=max(0, total - due),
            oldest_due_s=oldest_due_s,
            by_platform=dict(zip(platforms, counts, strict=True)),
        )

    def totals(self) -> Counters:
        """Return the counters of the whole store: `cases`, `jobs`, and both by state and verdict."""
        return Counters.of(self._client.hgetall(self._keys.totals))

    def jobs_today(self, platforms: Sequence[str], *, now: datetime) -> dict[str, int]:
        """Count the jobs of the bulk lane that each platform was sent this day, where it has a daily quota."""
        pipe = self._client.pipeline(transaction=False)
        for platform in platforms:
            pipe.hmget(self._keys.quota(platform), ["day", "used"])
        today = quota_day(now)
        return {
            platform: int(used) if int(day or 0) == today else 0
            for platform, (day, used) in zip(platforms, pipe.execute(), strict=True)
        }

    def waiting_for(self, platform: str) -> list[str]:
        """Return the ids of the batches that wait for one platform, the first due first."""
        found: list[Any] = self._client.zrange(self._keys.waiting_at(platform), 0, -1)
        return [text(ident) for ident in found]

    def whys(self) -> dict[str, int]:
        """Count the batches that wait by why they do, the most frequent first."""
        ids: list[Any] = self._client.zrange(self._keys.waiting, 0, -1)
        counts: Counter[str] = Counter()
        for start in range(0, len(ids), _PAGE):
            found = self._whys(keys=[self._keys.waiting_batches], args=ids[start : start + _PAGE])
            counts.update({text(why): count for why, count in zip(found[::2], found[1::2], strict=True)})
        return dict(counts.most_common())

    def piles(self) -> Piles:
        """Count what a person has to look through."""
        pipe = self._client.pipeline(transaction=False)
        names = [field.name for field in fields(Piles)]
        for name in names:
            pipe.llen(getattr(self._keys, name))
        return Piles(**dict(zip(names, pipe.execute(), strict=True)))

    def dead_since(self, groups: Iterable[DeadGroup], *, since: datetime) -> dict[tuple[str, Reason | None], int]:
        """Count the dead letters of each group that died since then; groups without any are left out."""
        since_ms = int(since.timestamp() * 1000)
        grown = [group for group in groups if group.last_ms >= since_ms]
        pipe = self._client.pipeline(transaction=False)
        for group in grown:
            code = REASON_CODES[group.reason] if group.reason else 0
            pipe.zcount(self._keys.dead_at(group.platform, code), since_ms, "+inf")
        counts = zip(grown, pipe.execute(), strict=True)
        return {(group.platform, group.reason): count for group, count in counts if count}

    def dead_until(self, groups: Iterable[DeadGroup], until: Mapping[str, datetime]) -> dict[str, int]:
        """Count the dead letters of each platform that died until its moment there; other platforms are left out."""
        counted = [group for group in groups if group.platform in until]
        pipe = self._client.pipeline(transaction=False)
        for group in counted:
            code = REASON_CODES[group.reason] if group.reason else 0
            pipe.zcount(self._keys.dead_at(group.platform, code), "-inf", int(until[group.platform].timestamp() * 1000))
        found: Counter[str] = Counter()
        for group, count in zip(counted, pipe.execute(), strict=True):
            found[group.platform] += count
        return dict(found)

    def server(self) -> Server:
        """Return how the server is set up. By INFO, since a hosted one often refuses CONFIG."""
        memory, persistence = self._client.info("memory"), self._client.info("persistence")
        return Server(
            maxmemory_policy=str(memory["maxmemory_policy"]),
            appendonly=bool(persistence["aof_enabled"]),
            used_memory=int(memory["used_memory"]),
        )
