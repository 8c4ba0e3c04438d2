"""The waiting set: batches that are not due yet. Nobody's slot is held meanwhile (rule 6)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import orjson
from redis import Redis

from backends.connect import patiently
from backends.keys import Keys
from backends.scripts import script
from schemas.batch import Batch

LEASE_S = 30


class Why(StrEnum):
    """Why a batch waits."""

    RETRY = "retry"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """Batches taken out under one lease, as published bodies by batch id."""

    fence: int
    batches: tuple[Batch, ...]


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
        keys = [self._keys.waiting, self._keys.waiting_batches, self._keys.waiting_at(batch.platform)]
        return bool(patiently(lambda: self._wait(keys=keys, args=[batch.id, _ms(due), body])))

    def lease(self, now: datetime, *, at_most: int) -> Leased:
        """Take what is due for LEASE_S seconds; publish it, then `finish` it."""
        fence, *found = self._lease(
            keys=[
                self._keys.waiting,
                self._keys.waiting_batches,
                self._keys.waiting_leases,
                self._keys.fence,
            ],
            args=[_ms(now), LEASE_S * 1000, at_most],
        )
        batches = tuple(Batch.parse(orjson.loads(body)["batch"]) for body in found[1::2])
        return Leased(fence=fence, batches=batches)

    def finish(self, leased: Leased) -> int:
        """Forget what was published, unless the lease has passed to somebody else. Returns how many."""
        keys = [self._keys.waiting, self._keys.waiting_batches, self._keys.waiting_leases]
        keys += [self._keys.waiting_at(batch.platform) for batch in leased.batches]
        args: list[str | int] = [leased.fence, *(batch.id for batch in leased.batches)]
        return int(patiently(lambda: self._finish(keys=keys, args=args)))

    def count(self) -> int:
        """How many batches wait."""
        return int(self._client.zcard(self._keys.waiting))


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
