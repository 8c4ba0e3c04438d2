"""What was kept because nothing else could be done with it: whole, with the reason, until a person drops it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import WatchError

from backends.connect import patiently
from backends.keys import Keys


class Kind(StrEnum):
    """Which list."""

    POISON = "poison"  # messages that can never be read, or that crashed a worker
    ORPHANS = "orphans"  # results for cases that are not known here
    DISPUTES = "disputes"  # final answers that contradict the recorded one
    LATE = "late"  # answers that came after their job had ended for want of one
    UNREADABLE = "unreadable"  # entries of the broker that are no message
    UNDELIVERED = "undelivered"  # notices that a subscriber did not take in all that time


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptItem:
    """One item; `position` counts from 1, the oldest."""

    position: int
    content: dict[str, Any]


class KeptItems:
    """Lists that only grow until a person drops them."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def _key(self, kind: Kind) -> str:
        return str(getattr(self._keys, kind.value))

    def bury_message(self, body: str, *, why: str, queue: str, now: datetime) -> None:
        """Keep a message that can never be read, whole, where a person can see it."""
        entry = orjson.dumps({"at": now.isoformat(), "queue": queue, "why": why, "body": body})
        patiently(lambda: self._client.rpush(self._keys.poison, entry))

    def count(self, kind: Kind) -> int:
        """How many there are."""
        return int(self._client.llen(self._key(kind)))

    def newest(self, kind: Kind, *, at_most: int, before: int | None = None) -> list[KeptItem]:
        """Return the newest, the newest last; with `before`, of those that are older than that position."""
        key, count = self._key(kind), self.count(kind)
        end = count if before is None else max(0, min(count, before - 1))
        first = max(1, end - at_most + 1)
        found: list[Any] = self._client.lrange(key, first - 1, end - 1) if end else []
        return [KeptItem(position=first + index, content=_content(body)) for index, body in enumerate(found)]

    def drop(self, kind: Kind, *, expected: int) -> bool:
        """Forget a whole list if it is still as long as the person thinks. Returns whether it was."""
        key = self._key(kind)
        pipe: Any
        with self._client.pipeline(transaction=True) as pipe:
            try:
                pipe.watch(key)
                if pipe.llen(key) != expected:
                    return False
                pipe.multi()
                pipe.delete(key)
                pipe.execute()
            except WatchError:
                return False
        return True


def _content(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"body": body.decode("utf-8", "replace")}
    return content if isinstance(content, dict) else {"body": content}
