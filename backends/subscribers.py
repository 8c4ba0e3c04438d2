"""Subscribers as they are stored: how far each has been told, and how it does.

One process at a time tells a subscriber, by a lease. A lease that passes on too early costs a notice that is told
twice, which its id shows; so nothing is fenced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import SUBSCRIBER_LEASE_TTL_S, Keys
from backends.outbox import START, Outbox, Posted
from backends.scripts import script

# How a record of an undelivered notice names what it was.
_KEPT: Final = ("at", "why", "subscriber", "notice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How far a subscriber is. Times are milliseconds since 1970, 0 where there is none.

    `place` is that of the last notice that it has got or did not want. `failures` are those in a row since
    `failing_ms`; it is tried again at `again_ms`. Since `gone_ms`, when it said that it is gone (410), nothing is sent.
    """

    place: str = START
    delivered: int = 0
    undelivered: int = 0
    last_ms: int = 0
    failures: int = 0
    failing_ms: int = 0
    again_ms: int = 0
    gone_ms: int = 0
    problem: str = ""


class Subscribers:
    """Lease, read, write."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._lease = script(client, "subscriber_lease")

    def lease(self, name: str, *, holder: str) -> bool:
        """Take or keep the right to tell a subscriber, for SUBSCRIBER_LEASE_TTL_S; False while another has it."""
        args: list[str | int] = [holder, SUBSCRIBER_LEASE_TTL_S]
        return bool(patiently(lambda: self._lease(keys=[self._keys.subscriber_lease(name)], args=args)))

    def told(self, name: str) -> Told:
        """Return how far a subscriber is; one that is new begins with the oldest notice there is."""
        found: Any = patiently(lambda: self._client.hgetall(self._keys.subscriber(name)))
        said = {text(field): text(value) for field, value in found.items()}
        place, problem = said.pop("place", START), said.pop("problem", "")
        return Told(place=place, problem=problem, **{field: int(value) for field, value in said.items()})

    def note(self, name: str, **changed: str | int) -> None:
        """Write down what has changed of a subscriber. Raises BackendUnavailable."""
        said: dict[Any, Any] = dict(changed)
        patiently(lambda: self._client.hset(self._keys.subscriber(name), mapping=said))

    def give_up(self, name: str, posted: Sequence[Posted], *, told: Told, place: str) -> None:
        """Keep notices whole that a subscriber does not take, and go on behind `place`."""
        pipe = self._client.pipeline(transaction=True)
        for each in posted:
            kept = (each.at.isoformat(), told.problem, name, each.notice.model_dump(mode="json"))
            pipe.rpush(self._keys.undelivered, orjson.dumps(dict(zip(_KEPT, kept, strict=True))))
        changed: dict[Any, Any] = {"place": place, "undelivered": told.undelivered + len(posted)}
        pipe.hset(self._keys.subscriber(name), mapping=changed)
        pipe.execute()

    def forget_what_all_have(self, names: Sequence[str], outbox: Outbox) -> None:
        """Take out of the outbox what every subscriber has been told."""
        places = [self.told(name).place for name in names]
        if places and START not in places:
            outbox.forget(min(places, key=_order))


def _order(place: str) -> tuple[int, int]:
    millis, _, number = place.partition("-")
    return int(millis), int(number)
