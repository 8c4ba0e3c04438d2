"""The waiting set as a person sees it: what waits, until when and why; and a person's hand on it.

A batch that a scheduler holds under a lease is on its way already: nobody else touches it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from backends.manifests import Manifests
from backends.scripts import script
from backends.waiting import LEASE_S, Leased, Waiter, Why, read_waiter
from schemas.errors import NotFound

# A body may hold a thousand jobs: few at once, so that Redis serves others in between.
_PAGE: Final = 100
_LEASED, _GONE = 0, -1


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFilter:
    """What is looked for; what is not given does not matter. `cases` of None means any case."""

    platforms: frozenset[str] = frozenset()
    whys: frozenset[Why] = frozenset()
    batches: frozenset[str] = frozenset()
    cases: frozenset[str] | None = None
    run: str | None = None
    due_before: datetime | None = None

    @property
    def needs_bodies(self) -> bool:
        """Whether the indexes alone cannot tell."""
        return bool(self.whys or self.run or self.cases is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingBatch:
    """One batch that waits, as far as it can be read without opening anything."""

    batch: str
    platform: str
    why: str
    due_ms: int
    attempt: int
    generation: int
    run: str
    deadline: str
    cases: tuple[str, ...]
    leased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Batches under a lease of ours, to be finished with `WaitingSet.finish`; and those that could not be had."""

    leased: Leased
    busy: tuple[str, ...]
    gone: tuple[str, ...]


class WaitingView:
    """Look, hurry, take out."""

    def __init__(self, client: Redis, keys: Keys, manifests: Manifests) -> None:
        self._client, self._keys, self._manifests = client, keys, manifests
        self._run_now = script(client, "waiting_run_now")
        self._take = script(client, "waiting_take")

    # -- look ------------------------------------------------------------------------------------------------------

    def select(
        self, wanted: WaitingFilter, *, now: datetime, after: tuple[int, str] | None = None
    ) -> Iterator[WaitingBatch]:
        """Yield what fits, the first due first. It is read page by page, so a few cost little.

        With `after`, a due time in milliseconds and a batch, only what comes behind them.
        """
        found = [item for item in self._due(wanted) if after is None or (item[1], item[0]) > after]
        for start in range(0, len(found), _PAGE):
            page = found[start : start + _PAGE]
            ids = [ident for ident, _ in page]
            bodies: list[Any] = self._client.hmget(self._keys.waiting_batches, ids)
            leases: list[Any] = self._client.hmget(self._keys.waiting_leases, ids)
            for (ident, due_ms), body, lease in zip(page, bodies, leases, strict=True):
                waiting = self._read(ident, body, due_ms=due_ms, leased=bool(lease) and due_ms > _ms(now))
                if waiting is not None and _fits(waiting, wanted):
                    yield waiting

    def count(self, wanted: WaitingFilter, *, now: datetime) -> int:
        """Count what fits."""
        if not wanted.needs_bodies and not (wanted.batches and wanted.platforms):
            return len(self._due(wanted))
        return sum(1 for _ in self.select(wanted, now=now))

    def show(self, batch: str, *, now: datetime) -> tuple[WaitingBatch, Waiter]:
        """Return one batch that waits, whole. Raises NotFound, and ContractError if it cannot be read."""
        found = next(self.select(WaitingFilter(batches=frozenset({batch})), now=now), None)
        body: Any = self._client.hget(self._keys.waiting_batches, batch)
        if found is None or body is None:
            raise NotFound(f"no batch {batch} waits")
        return found, read_waiter(body)

    def _due(self, wanted: WaitingFilter) -> list[tuple[str, int]]:
        if wanted.batches or wanted.platforms:
            ids = sorted(wanted.batches) or self._waiting_at(wanted.platforms)
            # The index of a platform does not know of leases: the time is always that of the whole.
            scores: list[Any] = self._client.zmscore(self._keys.waiting, ids) if ids else []
            found = [(ident, int(score)) for ident, score in zip(ids, scores, strict=True) if score is not None]
            found.sort(key=lambda item: (item[1], item[0]))
        else:
            rows: list[Any] = self._client.zrange(self._keys.waiting, 0, -1, withscores=True)
            found = [(text(ident), int(score)) for ident, score in rows]
        if wanted.due_before is not None:
            limit_ms = _ms(wanted.due_before)
            found = [item for item in found if item[1] < limit_ms]
        return found

    def _waiting_at(self, platforms: frozenset[str]) -> list[str]:
        pipe = self._client.pipeline(transaction=False)
        for platform in sorted(platforms):
            pipe.zrange(self._keys.waiting_at(platform), 0, -1)
        return [text(ident) for found in pipe.execute() for ident in found]

    def _read(self, ident: str, body: bytes | None, *, due_ms: int, leased: bool) -> WaitingBatch | None:
        """Read what a row needs; what cannot be read is not shown: a scheduler buries it when it is due."""
        if body is None:
            return None
        try:
            content = orjson.loads(body)
            batch = content["batch"]
            return WaitingBatch(
                batch=ident,
                platform=batch["platform"],
                why=content["why"],
                due_ms=due_ms,
                attempt=batch["attempt"],
                generation=batch["generation"],
                run=batch["run"],
                deadline=batch["deadline"],
                cases=tuple(self._manifests.cases_of(batch)),
                leased=leased,
            )
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None

    # -- change ----------------------------------------------------------------------------------------------------

    def run_now(self, batches: Sequence[WaitingBatch], *, now: datetime) -> tuple[int, tuple[str, ...]]:
        """Let batches be due now. Returns how many are, and the ids of those that a scheduler holds at this moment.

        What does not wait any more is neither. Whether the platform may be called is still for admission to say.
        """
        hurried, busy = 0, []
        for start in range(0, len(batches), _PAGE):
            page = batches[start : start + _PAGE]
            keys = [self._keys.waiting, self._keys.waiting_leases, self._keys.waiting_first]
            for waiting in page:
                keys += [self._keys.waiting_at(waiting.platform), self._keys.waiting_first_at(waiting.platform)]
            args: list[str | int] = [_ms(now), *(waiting.batch for waiting in page)]
            answers = self._due_now(keys, args)
            hurried += sum(answer > _LEASED for answer in answers)
            busy += [waiting.batch for waiting, answer in zip(page, answers, strict=True) if answer == _LEASED]
        return hurried, tuple(busy)

    def _due_now(self, keys: list[str], args: list[str | int]) -> list[int]:
        return list(patiently(lambda: self._run_now(keys=keys, args=args)))

    def take(self, batches: Sequence[str], *, now: datetime) -> Taken:
        """Hold up to a page of batches, due or not, for as long as a scheduler's lease; then they wait again."""
        keys = [self._keys.waiting, self._keys.waiting_batches, self._keys.waiting_leases]
        keys += [self._keys.fence, self._keys.waiting_first]
        fence, *found = self._take(keys=keys, args=[_ms(now), LEASE_S * 1000, *batches])
        waiters, busy, gone = [], [], []
        for ident, body in zip(batches, found, strict=True):
            if body == _LEASED:
                busy.append(ident)
            elif body == _GONE or body is None:
                gone.append(ident)
            else:
                waiters.append(read_waiter(body))
        return Taken(leased=Leased(fence=fence, waiters=tuple(waiters)), busy=tuple(busy), gone=tuple(gone))


def _fits(waiting: WaitingBatch, wanted: WaitingFilter) -> bool:
    return (
        (not wanted.platforms or waiting.platform in wanted.platforms)
        and (not wanted.whys or waiting.why in wanted.whys)
        and (wanted.run is None or waiting.run == wanted.run)
        and (wanted.cases is None or not wanted.cases.isdisjoint(waiting.cases))
    )


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
