"""Authorisations by case: recorded once, withdrawn or run out, and kept (requirement 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from schemas.authorisation import Authorisation

# A call that was under way when it was withdrawn is known only by its answer; a recorder may be away for a weekend.
LATE_ANSWERS: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An authorisation as it is kept."""

    authorisation: Authorisation
    recorded_by: str
    recorded_at: datetime
    withdrawn_by: str = ""
    withdrawn_at: datetime | None = None

    def row(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return {
            **self.authorisation.model_dump(mode="json"),
            "recorded_by": self.recorded_by,
            "recorded_at": self.recorded_at.isoformat(timespec="seconds"),
            "withdrawn_by": self.withdrawn_by or None,
            "withdrawn_at": self.withdrawn_at.isoformat(timespec="seconds") if self.withdrawn_at else None,
        }

    def over_at(self, now: datetime) -> bool:
        """Whether nothing more may be sent under it."""
        return self.withdrawn_at is not None or now >= self.authorisation.expires_at


class Authorisations:
    """Record, look up, withdraw; and for who lets go: which are over."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def record(self, case: str, authorisation: Authorisation, *, by: str, now: datetime) -> Given:
        """Keep the authorisation of a case. Returns what is kept: the first one, whatever comes later."""

        def write() -> Any:
            pipe = self._client.pipeline(transaction=True)
            key = self._keys.authorisation(case)
            pipe.hsetnx(key, "said", authorisation.model_dump_json())
            pipe.hsetnx(key, "recorded_by", by)
            pipe.hsetnx(key, "recorded_ms", str(_ms(now)))
            # A moment late rather than early: what is over is over at the millisecond that follows.
            pipe.zadd(self._keys.authorisations_ending, {case: _ms(authorisation.expires_at) + 1}, nx=True)
            pipe.hgetall(key)
            return pipe.execute()[-1]

        return _given(patiently(write))

    def of(self, case: str) -> Given | None:
        """Return the authorisation of a case; None for a case that was opened without one."""
        return self.of_each([case]).get(case)

    def of_each(self, cases: Sequence[str]) -> dict[str, Given]:
        """Return the authorisations of those cases that have one, in one round trip."""

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for case in cases:
                pipe.hgetall(self._keys.authorisation(case))
            return list(pipe.execute())

        found = zip(cases, patiently(read) if cases else [], strict=True)
        return {case: _given(said) for case, said in found if said}

    def over(self, cases: Sequence[str], *, now: datetime) -> set[str]:
        """Return those of these cases that rest on an authorisation under which nothing more may be sent."""
        return {case for case, given in self.of_each(cases).items() if given.over_at(now)}

    def withdraw(self, case: str, *, by: str, now: datetime) -> None:
        """Note that it is withdrawn; the first time counts. From now on its case is one of `withdrawn`."""

        def write() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.hsetnx(self._keys.authorisation(case), "withdrawn_ms", str(_ms(now)))
            pipe.hsetnx(self._keys.authorisation(case), "withdrawn_by", by)
            pipe.zadd(self._keys.authorisations_withdrawn, {case: _ms(now + LATE_ANSWERS)}, nx=True)
            pipe.execute()

        patiently(write)

    def run_out(self, *, now: datetime, at_most: int) -> list[str]:
        """Return cases whose authorisation has run out and that nobody has let go yet, the oldest first."""
        key = self._keys.authorisations_ending
        found: Any = patiently(lambda: self._client.zrangebyscore(key, "-inf", _ms(now), start=0, num=at_most))
        return [text(case) for case in found]

    def let_go(self, cases: Sequence[str]) -> None:
        """Say that nothing is left to be done about these cases that ran out."""
        if cases:
            patiently(lambda: self._client.zrem(self._keys.authorisations_ending, *cases))

    def withdrawn(self, *, now: datetime) -> list[str]:
        """Return the cases to be looked after; those whose time is over are forgotten."""
        key = self._keys.authorisations_withdrawn
        patiently(lambda: self._client.zremrangebyscore(key, "-inf", f"({_ms(now)}"))
        found: Any = patiently(lambda: self._client.zrange(key, 0, -1))
        return [text(case) for case in found]


def _given(found: dict[bytes, bytes]) -> Given:
    said = {text(name): text(value) for name, value in found.items()}
    withdrawn_ms = said.get("withdrawn_ms")
    return Given(
        authorisation=Authorisation.model_validate_json(said["said"]),
        recorded_by=said["recorded_by"],
        recorded_at=_instant(said["recorded_ms"]),
        withdrawn_by=said.get("withdrawn_by", ""),
        withdrawn_at=_instant(withdrawn_ms) if withdrawn_ms else None,
    )


def _instant(ms: str) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
