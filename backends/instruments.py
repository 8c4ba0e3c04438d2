"""Instruments: the legal document on which the operator has a bulk run rest, and who approved it (requirement 8)."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from schemas.errors import NotFound, Refused
from schemas.instrument import Instrument


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An instrument as it is kept. `ended_at` is when somebody ended it before its time."""

    instrument: Instrument
    recorded_by: str
    recorded_at: str
    ended_by: str = ""
    ended_at: str = ""

    def obstacle(self, now: datetime) -> str:
        """Return why nothing may rest on it now; nothing where it may."""
        if self.ended_at:
            return f"was ended on {self.ended_at[:10]}"
        if now < self.instrument.valid_from:
            return f"is valid from {self.instrument.valid_from:%Y-%m-%d} on"
        if now >= self.instrument.valid_until:
            return f"was valid until {self.instrument.valid_until:%Y-%m-%d}"
        return ""


class Instruments:
    """Record, look up, end; none is ever changed or taken out."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._key = client, keys.instruments

    def record(self, instrument: Instrument, *, by: str, now: datetime) -> Recorded:
        """Keep an instrument; the very same one again changes nothing. Raises Refused if its key has another."""
        made = Recorded(instrument=instrument, recorded_by=by, recorded_at=now.isoformat())
        patiently(lambda: self._client.hsetnx(self._key, instrument.key, _packed(made)))
        kept = self.get(instrument.key)
        if kept.instrument != instrument:
            raise Refused(
                f"instrument {instrument.key} is recorded already, and says something else; choose another key"
            )
        return kept

    def get(self, key: str) -> Recorded:
        """Return one instrument. Raises NotFound."""
        body: Any = patiently(lambda: self._client.hget(self._key, key))
        if body is None:
            raise NotFound("no instrument of this key; `renewal instruments list` shows them")
        return _recorded(body)

    def end(self, key: str, *, by: str, now: datetime) -> Recorded:
        """Let nothing rest on it from now on. Raises NotFound, and Refused for one that has ended."""
        kept = self.get(key)
        if kept.ended_at:
            raise Refused(f"instrument {key} was ended on {kept.ended_at[:10]}")
        ended = replace(kept, ended_by=by, ended_at=now.isoformat())
        patiently(lambda: self._client.hset(self._key, key, _packed(ended)))
        return ended

    def valid(self, key: str, *, now: datetime) -> Recorded:
        """Return an instrument on which a run may rest now. Raises NotFound, Refused."""
        kept = self.get(key)
        if why := kept.obstacle(now):
            raise Refused(f"instrument {kept.instrument.key} {why}: nothing may be sent on it")
        return kept

    def list(self) -> Iterator[Recorded]:
        """Yield every instrument in the order of their keys."""
        found: Any = patiently(lambda: self._client.hgetall(self._key))
        yield from (_recorded(found[key]) for key in sorted(found, key=text))


def _packed(recorded: Recorded) -> bytes:
    said = {name: value for name, value in asdict(recorded).items() if name != "instrument"}
    return orjson.dumps(said | {"instrument": recorded.instrument.model_dump(mode="json")})


def _recorded(body: bytes) -> Recorded:
    said = orjson.loads(body)
    return Recorded(**said | {"instrument": Instrument.model_validate(said["instrument"])})
