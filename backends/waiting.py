"""The waiting set: batches that are not due yet. Nobody's slot is held meanwhile (rule 6)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from backends.scripts import script
from schemas.batch import Batch, Lane
from schemas.errors import ContractError

LEASE_S = 30
# Of what is leased at once; the rest goes by due time alone.
_FIRST_RATIO = 0.9


class Why(StrEnum):
    """Why a batch waits."""

    RETRY = "retry"  # an attempt failed, and another is planned
    LIMIT = "limit"  # the platform's rate or its calls in flight are used up
    PAUSED = "paused"  # a person has paused the platform
    SUSPENDED = "suspended"  # the connection to the platform is wrong; it is probed
    BREAKER = "breaker"  # the platform fails; it is left in peace for a while
    WINDOW = "window"  # the platform's maintenance
    HOURS = "hours"  # outside the hours of the bulk lane
    QUOTA = "quota"  # the platform's jobs of this day are used up
    SPLIT = "split"  # a half of a batch that the platform rejected whole
    REPLAY = "replay"  # a person sent the dead letter again


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """One batch that waits, and why."""

    batch: Batch
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """What stands in the waiting set and is no batch."""

    id: str
    body: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """Batches held under one lease; `unreadable` is to be kept elsewhere and finished with them."""

    fence: int
    waiters: tuple[Waiter, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def batches(self) -> tuple[Batch, ...]:
        """The batches alone."""
        return tuple(waiter.batch for waiter in self.waiters)


class WaitingSet:
    """Put, lease, finish; safe with many schedulers."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._wait = script(client, "wait")
        self._lease = script(client, "lease_due")
        self._finish = script(client, "finish_due")

    def put(self, batch: Batch, *, due: datetime, why: Why) -> bool:
        """Keep a batch until `due`. The same batch again changes nothing and returns False."""
        body = orjson.dumps({"why": why, "batch": batch.model_dump(mode="json")})
        keys = [self._keys.waiting_batches, self._keys.waiting, self._keys.waiting_at(batch.platform)]
        if batch.lane is Lane.INTERACTIVE:
            keys += [self._keys.waiting_first, self._keys.waiting_first_at(batch.platform)]
        return bool(patiently(lambda: self._wait(keys=keys, args=[batch.id, _ms(due), body])))

    def lease(self, now: datetime, *, at_most: int, interactive_only: bool = False) -> Leased:
        """Take what is due for LEASE_S seconds, interactive ones first; publish it, then `finish` it.

        A tenth is left to those that are due longest, so that a flood of interactive ones stops nobody.
        """
        fence, *found = self._lease(
            keys=[
                self._keys.waiting,
                self._keys.waiting_batches,
                self._keys.waiting_leases,
                self._keys.fence,
                self._keys.waiting_first,
            ],
            args=[
                _ms(now),
                LEASE_S * 1000,
                at_most,
                at_most if interactive_only else math.ceil(_FIRST_RATIO * at_most),
                int(interactive_only),
            ],
        )
        waiters: list[Waiter] = []
        unreadable: list[Unreadable] = []
        for ident, body in zip(found[::2], found[1::2], strict=True):
            try:
                waiters.append(read_waiter(body or b""))
            except ContractError as error:
                unreadable.append(Unreadable(id=text(ident), body=text(body or b""), problem=str(error)))
        return Leased(fence=fence, waiters=tuple(waiters), unreadable=tuple(unreadable))

    def finish(self, leased: Leased) -> int:
        """Forget what was published, unless the lease has passed to somebody else. Returns how many."""
        keys = [self._keys.waiting, self._keys.waiting_batches, self._keys.waiting_leases, self._keys.waiting_first]
        # Of what cannot be read nobody knows the platform: its entry there is only counted, and ends when it is read.
        for platform in [*(batch.platform for batch in leased.batches), *("unknown" for _ in leased.unreadable)]:
            keys += [self._keys.waiting_at(platform), self._keys.waiting_first_at(platform)]
        args: list[str | int] = [leased.fence, *(b.id for b in leased.batches), *(u.id for u in leased.unreadable)]
        return int(patiently(lambda: self._finish(keys=keys, args=args)))

    def bodies(self) -> Iterator[bytes]:
        """Yield the JSON of every batch that waits, as `put` wrote it; in no order."""
        for _, body in self._client.hscan_iter(self._keys.waiting_batches, count=100):
            yield body

    def count(self) -> int:
        """How many batches wait."""
        return int(self._client.zcard(self._keys.waiting))


def read_waiter(body: bytes) -> Waiter:
    """Read a body of the waiting set. Raises ContractError."""
    try:
        content = orjson.loads(body)
        why, batch = Why(content["why"]), content["batch"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise ContractError("waiting batch: expected a JSON object with why and batch") from None
    return Waiter(batch=Batch.parse(batch), why=why)


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
