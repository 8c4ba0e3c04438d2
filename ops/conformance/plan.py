"""What is sent to an endpoint, step by step: good calls, the same ones again, and calls that must be turned away.

Pure. Every call is one that the dispatcher's own connector has made, or such a call with one thing wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from math import ceil
from typing import Final

import orjson

from backends.manifests import Item
from backends.signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, new_pair, new_secret, sign
from ops.conformance.numbers import EXPECTED, Lent, Role
from platforms.model import Bearer, NoAuth, Platform, StandardWebhooks
from schemas.batch import Basis, Job
from schemas.ids import derive, job_id
from schemas.outcome import Outcome
from workers.connector import build_calls, build_polls, build_withdrawal
from workers.transport import Call

# Twice the tolerance: a clock that is a little wrong does not let it through.
STALE_S: Final = 600
_BURST_CALLS_MAX: Final = 50
_SHANGHAI_H: Final = 8
# The same instant, spelled so that a comparison of texts says the opposite: a cut-off after the binding looks earlier
# when it is told in the west, and one at the binding looks later when it is told in the far east.
_WEST_H: Final = -11
_EAST_H: Final = 14


class Step(StrEnum):
    """One thing that is tried, in this order."""

    FIRST = "first"
    AGAIN = "again"  # the same items in another batch, in another order
    SAME = "same"  # the very same bodies
    WRONG_KEY = "wrong-key"
    UNSIGNED = "unsigned"
    STALE = "stale"
    ALTERED = "altered"
    OTHER_ID = "other-id"
    ROTATED = "rotated"
    UNKNOWN_FIELD = "unknown-field"
    BROKEN_BODY = "broken-body"
    FULL = "full"
    POLLED = "polled"
    WITHDRAWN = "withdrawn"
    WITHDRAWN_AGAIN = "withdrawn-again"
    WITHDRAWN_UNSIGNED = "withdrawn-unsigned"
    BURST = "burst"


SIGNED_ONLY: Final = frozenset({Step.STALE, Step.ALTERED, Step.OTHER_ID, Step.ROTATED})
_WITHDRAWALS: Final = frozenset({Step.WITHDRAWN, Step.WITHDRAWN_AGAIN, Step.WITHDRAWN_UNSIGNED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One item, what its role expects, and whether its cut-off is spelled in an offset that is not Shanghai's."""

    item: Item
    job: str
    role: Role
    abroad: bool = False

    @property
    def expected(self) -> Outcome:
        """The outcome of a platform that does everything right."""
        return EXPECTED[self.role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The calls of one rehearsal. `run` makes its ids its own: a platform has never heard of them."""

    platform: Platform
    numbers: tuple[Lent, ...]
    credentials: tuple[str, ...] = field(repr=False)
    run: str
    begun_at: datetime

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The items of the first step."""
        return tuple(asked for place, lent in enumerate(self.numbers) for asked in self._parts(lent, place))

    def needs(self, step: Step) -> bool:
        """Whether a step has a meaning for this catalogue entry."""
        auth = self.platform.auth
        if step in _WITHDRAWALS and self.platform.withdraw is None:
            return False
        if step in {Step.WRONG_KEY, Step.UNSIGNED, Step.WITHDRAWN_UNSIGNED}:
            return not isinstance(auth, NoAuth)
        if step in SIGNED_ONLY:
            return isinstance(auth, StandardWebhooks)
        return step is not Step.FULL or self.platform.protocol == "bulk-json"

    def calls(self, step: Step, *, now: datetime) -> tuple[Call, ...]:
        """Return the calls of a step, but for polls and withdrawals."""
        items = [asked.item for asked in self.asked]
        match step:
            case Step.FIRST | Step.SAME:
                return self._build(items, label="first", now=now)
            case Step.AGAIN:
                return self._build(items[::-1], label="again", now=now)
            case Step.FULL:
                count = self.platform.limits.items_per_call
                return self._build([self._spare(f"full-{n}") for n in range(count)], label="full", now=now)
            case Step.BURST:
                count = min(2 * ceil(self.platform.limits.calls_per_s), _BURST_CALLS_MAX)
                return tuple(self._one(f"burst-{n}", now=now) for n in range(count))
            case Step.STALE:
                off = timedelta(seconds=STALE_S)
                return self._one("old", now=now - off), self._one("early", now=now + off)
            case _:
                return (self._changed(step, self._one(step, now=now), now=now),)

    def polls(self, references: Mapping[str, str | None], *, message: str, now: datetime) -> tuple[Call, ...]:
        """Return the calls that ask what became of jobs that were accepted."""
        return build_polls(self.platform, references, message=message, credentials=self.credentials, now=now)

    def withdrawal(self, step: Step, *, reference: str | None, now: datetime) -> Call:
        """Return the call that takes the first item back."""
        asked = self.asked[0]
        call = build_withdrawal(
            self.platform, job=asked.job, number=asked.item.number, reference=reference,
            credentials=self.credentials, now=now,
        )  # fmt: skip
        return _without_proof(call) if step is Step.WITHDRAWN_UNSIGNED else call

    def _parts(self, lent: Lent, place: int) -> list[Asked]:
        if lent.bound_at is None:
            return [self._asked(lent, f"{place}", cutoff=self.begun_at, hours=_SHANGHAI_H)]
        if lent.role is Role.BOUND_BEFORE:
            # A binding can be removed once, so each number is asked about once.
            hours = _WEST_H if place % 2 else _SHANGHAI_H
            return [self._asked(lent, f"{place}", cutoff=lent.bound_at + timedelta(seconds=1), hours=hours)]
        return [
            self._asked(lent, f"{place}-{hours}", cutoff=lent.bound_at, hours=hours)
            for hours in (_SHANGHAI_H, 0, _EAST_H)
        ]

    def _asked(self, lent: Lent, label: str, *, cutoff: datetime, hours: int) -> Asked:
        item = self._item(label, lent.number, cutoff_at=_spelled(cutoff, hours))
        job = job_id(item.job.case, self.platform.key)
        return Asked(item=item, job=job, role=lent.role, abroad=hours != _SHANGHAI_H)

    def _item(self, label: str, number: str, *, cutoff_at: str) -> Item:
        case = derive("conformance", self.run, label)
        return Item.of(Job(case=case, cutoff_at=cutoff_at, basis=Basis.PLANNED_RELEASE), number, place=0)

    def _spare(self, label: str) -> Item:
        """Return an item about a number to which nothing is bound: whatever is done with it does no harm."""
        number = next(lent.number for lent in self.numbers if lent.role is Role.NOT_BOUND)
        return self._item(label, number, cutoff_at=_spelled(self.begun_at, _SHANGHAI_H))

    def _one(self, label: str, *, now: datetime) -> Call:
        (call,) = self._build([self._spare(label)], label=label, now=now)
        return call

    def _build(self, items: Sequence[Item], *, label: str, now: datetime) -> tuple[Call, ...]:
        size = self.platform.limits.items_per_call if self.platform.protocol == "bulk-json" else len(items)
        return tuple(
            call
            for start in range(0, len(items), size)
            for call in build_calls(
                self.platform,
                derive("conformance", self.run, label, str(start)),
                items[start : start + size],
                credentials=self.credentials,
                now=now,
            )
        )

    def _changed(self, step: Step, call: Call, *, now: datetime) -> Call:
        """Return a good call with the one thing wrong, or odd, that the step is about."""
        match step:
            case Step.WRONG_KEY:
                return self._by_another(call, now=now)
            case Step.UNSIGNED:
                return _without_proof(call)
            case Step.ALTERED:
                return replace(call, body=orjson.dumps(orjson.loads(call.body), option=orjson.OPT_INDENT_2))
            case Step.OTHER_ID:
                return _with_headers(call, {ID_HEADER: derive("conformance", self.run, "other")})
            case Step.ROTATED:
                stranger = self._by_another(call, now=now).headers[SIGNATURE_HEADER]
                return _with_headers(call, {SIGNATURE_HEADER: f"v9,AAAA {stranger} {call.headers[SIGNATURE_HEADER]}"})
            case _:
                return self._rewritten(step, call, now=now)

    def _by_another(self, call: Call, *, now: datetime) -> Call:
        """Return the call as somebody would make it who does not know the secret."""
        if isinstance(self.platform.auth, Bearer):
            return _with_headers(call, {"Authorization": f"Bearer {new_secret()}"})
        strangers = [new_pair()[0] if key.startswith("whsk_") else new_secret() for key in self.credentials]
        return _signed_with(strangers, call, now=now)

    def _rewritten(self, step: Step, call: Call, *, now: datetime) -> Call:
        """Return the call with another body, signed for it."""
        if step is Step.UNKNOWN_FIELD:
            body = orjson.dumps(orjson.loads(call.body) | {"x_conformance": True})
        else:
            body = call.body[: len(call.body) // 2]
        call = replace(call, body=body)
        signed = isinstance(self.platform.auth, StandardWebhooks)
        return _signed_with(self.credentials, call, now=now) if signed else call


def _signed_with(secrets: Sequence[str], call: Call, *, now: datetime) -> Call:
    signature = sign(secrets, message_id=call.headers[ID_HEADER], timestamp=now, body=call.body)
    return _with_headers(call, {SIGNATURE_HEADER: signature})


def _with_headers(call: Call, changes: Mapping[str, str]) -> Call:
    return replace(call, headers={**call.headers, **changes})


def _without_proof(call: Call) -> Call:
    proofs = {ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER, "Authorization"}
    return replace(call, headers={name: value for name, value in call.headers.items() if name not in proofs})


def _spelled(instant: datetime, hours: int) -> str:
    zone = UTC if hours == 0 else timezone(timedelta(hours=hours))
    return instant.astimezone(zone).isoformat().replace("+00:00", "Z")
