"""The outbox: what the operator's own systems are to be told, in the order in which it happened.

A stream that only the store's server numbers and dates. Nothing is written while nobody subscribes; what every
subscriber has got is forgotten, so it is as long as the slowest of them is behind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from backends.scripts import script
from schemas.ids import derive
from schemas.notice import DATA_OF, Notice, NoticeData, NoticeType

START: Final = "0-0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One notice, and its place in the outbox."""

    place: str
    notice: Notice

    @property
    def at(self) -> datetime:
        """When it happened, by the clock of the store's server."""
        return posted_at(self.place)


class Outbox:
    """Put in, read, forget. `wanted` says whether anybody subscribes."""

    def __init__(self, client: Redis, keys: Keys, *, wanted: bool) -> None:
        self._client, self._keys, self.wanted = client, keys, wanted
        self._announce = script(client, "announce")

    def announce(self, about: str, becomes: str, data: NoticeData | None) -> bool:
        """Tell of a change, once, whoever sees it first. Returns whether it was new. Raises BackendUnavailable.

        `about` is what has a state (a gate, a sweep), `becomes` its state now; without data it is remembered in
        silence.
        """
        if not self.wanted:
            return False
        args = [about, becomes, *((data.type.value, data.model_dump_json()) if data else ("", ""))]
        return bool(patiently(lambda: self._announce(keys=[self._keys.announced, self._keys.outbox], args=args)))

    def announced(self) -> dict[str, str]:
        """Return the last state that was told or remembered of each thing."""
        found: Any = patiently(lambda: self._client.hgetall(self._keys.announced))
        return {text(about): text(state) for about, state in found.items()}

    def after(self, place: str, *, at_most: int) -> list[Posted]:
        """Return the notices behind a place, the oldest first."""
        found: Any = patiently(lambda: self._client.xrange(self._keys.outbox, f"({place}", "+", count=at_most))
        return list(self._read(found))

    def _read(self, found: list[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[Posted]:
        for ident, fields in found:
            place, kind = text(ident), NoticeType(text(fields[b"type"]))
            data = DATA_OF[kind].model_validate_json(fields[b"data"])
            name = derive("notice", self._keys.namespace, place)
            yield Posted(place=place, notice=Notice.of(data, ident=name, time=posted_at(place)))

    def count(self) -> int:
        """How many notices somebody has not got yet."""
        return int(self._client.xlen(self._keys.outbox))

    def forget(self, before: str) -> None:
        """Forget the notices up to and with this place."""
        millis, _, number = before.partition("-")
        patiently(lambda: self._client.xtrim(self._keys.outbox, minid=f"{millis}-{int(number) + 1}", approximate=False))


def posted_at(place: str) -> datetime:
    """Return when a place of the outbox was written."""
    return datetime.fromtimestamp(int(place.partition("-")[0]) / 1000, UTC)
