"""Numbers whose holder took them back, and the withdrawals of what platforms were asked about them, or about others.

A withdrawal is written down before it is sent, and stays as a record of what a platform was told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import RECLAIMED_TTL_S, Keys
from backends.scripts import script

# A call that was under way when its job was cancelled is known long before; a recorder may be away for a weekend.
LATE_ANSWERS_S: Final = 7 * 86400


class Stage(StrEnum):
    """How far a withdrawal is."""

    REQUESTED = "requested"
    SENT = "sent"  # a call was made, and has not been acknowledged yet: it is made again
    ACKNOWLEDGED = "acknowledged"
    NOT_SUPPORTED = "not_supported"  # the platform has no way to withdraw: a person tells it
    REJECTED = "rejected"  # the platform said no, or nothing for as long as its retries last: a person asks


class Cause(StrEnum):
    """Why a platform is to leave a number alone."""

    NUMBER_RETURNED = "number_returned"  # its old owner has it back, and may want back what was removed
    AUTHORISATION_WITHDRAWN = "authorisation_withdrawn"  # its owner wants no more of it; what is done stays done


BY_HAND: Final = frozenset({Stage.NOT_SUPPORTED, Stage.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """One job that a platform is to be told about."""

    job: str
    stage: Stage = Stage.REQUESTED
    requested_ms: int
    changed_ms: int
    attempts: int = 0
    detail: str = ""
    cause: Cause = Cause.NUMBER_RETURNED


class Withdrawals:
    """Numbers that were taken back, cases to be looked after, and jobs to be withdrawn."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._request = script(client, "withdraw_request")
        self._take = script(client, "take_due")

    # -- numbers ---------------------------------------------------------------------------------------------------

    def note_reclaimed(self, token: str, *, at: datetime) -> None:
        """Remember that a number was taken back, so that no sweep of this cycle sends it."""
        patiently(lambda: self._client.set(self._keys.reclaimed(token), _ms(at), ex=RECLAIMED_TTL_S))

    def reclaimed_ms(self, tokens: Sequence[str]) -> list[int | None]:
        """Return when each number was last taken back, None where it was not."""
        if not tokens:
            return []
        found: Any = patiently(lambda: self._client.mget([self._keys.reclaimed(token) for token in tokens]))
        return [int(at) if at else None for at in found]

    # -- cases -----------------------------------------------------------------------------------------------------

    def watch(self, case: str, *, now: datetime) -> None:
        """Look after a case for answers that are still to come."""
        until_ms = _ms(now) + LATE_ANSWERS_S * 1000
        patiently(lambda: self._client.zadd(self._keys.reclaimed_cases, {case: until_ms}))

    def watched(self, *, now: datetime) -> list[str]:
        """Return the cases to be looked after; those whose time is over are forgotten."""
        key = self._keys.reclaimed_cases
        patiently(lambda: self._client.zremrangebyscore(key, "-inf", f"({_ms(now)}"))
        found: Any = patiently(lambda: self._client.zrange(key, 0, -1))
        return [text(case) for case in found]

    # -- jobs ------------------------------------------------------------------------------------------------------

    def request(self, jobs: Sequence[str], *, now: datetime, cause: Cause = Cause.NUMBER_RETURNED) -> int:
        """Write down that these jobs are to be withdrawn. Returns how many were not written down before."""
        if not jobs:
            return 0
        begun = orjson.dumps(_facts(Withdrawal(job="", requested_ms=_ms(now), changed_ms=_ms(now), cause=cause)))
        keys = [self._keys.withdrawals, self._keys.withdrawals_due]
        args: list[Any] = [_ms(now), begun, *jobs]
        return int(patiently(lambda: self._request(keys=keys, args=args)))

    def take(self, *, now: datetime, until: datetime, at_most: int) -> list[Withdrawal]:
        """Return withdrawals to be sent now, the first due first; nobody else gets them before `until`."""
        args: list[Any] = [_ms(now), _ms(until), at_most]
        taken: Any = patiently(lambda: self._take(keys=[self._keys.withdrawals_due], args=args))
        return self._read([text(job) for job in taken[::2]])

    def note(self, withdrawal: Withdrawal, *, again_at: datetime | None) -> None:
        """Write down how far a withdrawal is, and when it is to be sent again, if at all."""
        pipe = self._client.pipeline(transaction=True)
        pipe.hset(self._keys.withdrawals, withdrawal.job, orjson.dumps(_facts(withdrawal)))
        if again_at is None:
            pipe.zrem(self._keys.withdrawals_due, withdrawal.job)
        else:
            pipe.zadd(self._keys.withdrawals_due, {withdrawal.job: _ms(again_at)})
        pipe.execute()

    def every(self) -> Iterable[Withdrawal]:
        """Yield every withdrawal, in no order."""
        for job, body in self._client.hscan_iter(self._keys.withdrawals, count=500):
            yield _withdrawal(text(job), body)

    def _read(self, jobs: Sequence[str]) -> list[Withdrawal]:
        if not jobs:
            return []
        found: Any = patiently(lambda: self._client.hmget(self._keys.withdrawals, jobs))
        return [_withdrawal(job, body) for job, body in zip(jobs, found, strict=True) if body]


def _facts(withdrawal: Withdrawal) -> dict[str, Any]:
    return {name: value for name, value in asdict(withdrawal).items() if name != "job"}


def _withdrawal(job: str, body: bytes) -> Withdrawal:
    facts = orjson.loads(body)
    cause = Cause(facts.get("cause", Cause.NUMBER_RETURNED))
    return Withdrawal(job=job, **facts | {"stage": Stage(facts["stage"]), "cause": cause})


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
