"""Callbacks of platforms: which were taken, so that none takes effect twice, and what was refused, so that it is seen.

Nothing of a refused body is kept but its digest: whoever can reach the address can send anything.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import CALLBACK_TTL_S, Keys
from schemas.ids import derive

KEPT_MAX: Final = 10_000
COUNTED_MAX: Final = 1000
_PAGE: Final = 500
TAKEN: Final = "callback_taken"
REFUSED: Final = "callback_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What became of a callback of the same id: whether it said the same, and what was answered, if anything yet."""

    same: bool
    status: int | None = None
    content: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCallback:
    """One callback, or items of one, that changed nothing. `platform` is empty where it named none that calls back."""

    at: datetime
    platform: str
    why: str
    items: int
    digest: str


class Callbacks:
    """Knows callbacks by platform and `webhook-id` for longer than their signatures are good."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def begin(self, platform: str, message: str, body: bytes) -> Earlier | None:
        """Claim the id of a message for its body; None if it is new. What was begun and not ended may be done again."""
        key, digest = self._key(platform, message), digest_of(body)

        def claim() -> list[Any]:
            pipe = self._client.pipeline(transaction=True)
            pipe.hsetnx(key, "digest", digest)
            pipe.expire(key, CALLBACK_TTL_S, nx=True)
            pipe.hmget(key, "digest", "status", "content")
            return list(pipe.execute()[2])

        kept, status, content = patiently(claim)
        if text(kept) != digest:
            return Earlier(same=False)
        return None if status is None else Earlier(same=True, status=int(status), content=orjson.loads(content))

    def end(self, platform: str, message: str, *, status: int, content: dict[str, Any], taken: int) -> None:
        """Remember what was answered; the same again gets the same."""
        key = self._key(platform, message)

        def write() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(key, mapping={"status": status, "content": orjson.dumps(content)})
            # The claim may just have ended by itself.
            pipe.expire(key, CALLBACK_TTL_S, nx=True)
            pipe.hincrby(self._keys.platform(platform), TAKEN, taken)
            pipe.execute()

        patiently(write)

    def refuse(self, platform: str, why: str, *, items: int, body: bytes) -> None:
        """Keep that something was refused, and count it. An empty `platform` is counted nowhere."""
        fields: dict[Any, Any] = {"platform": platform, "why": why, "items": items, "digest": digest_of(body)}

        def write() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.xadd(self._keys.callbacks_refused, fields, maxlen=KEPT_MAX, approximate=True)
            if platform:
                pipe.hincrby(self._keys.platform(platform), f"{REFUSED}:{why}", items)
            pipe.execute()

        patiently(write)

    def newest(self, *, at_most: int, platform: str | None = None) -> list[RefusedCallback]:
        """Return what was refused, the newest last."""
        fitting = (found for found in self._newest_first() if platform in {None, found.platform})
        return list(islice(fitting, at_most))[::-1]

    def refused_since(self, since: datetime) -> Counter[str]:
        """Count by platform what was refused since then; no more than the newest thousand are looked at."""
        oldest = str(int(since.timestamp() * 1000))
        found: Any = self._client.xrevrange(self._keys.callbacks_refused, "+", oldest, count=COUNTED_MAX)
        return Counter(text(fields[b"platform"]) for _, fields in found)

    def _newest_first(self) -> Iterator[RefusedCallback]:
        newest = "+"
        while page := self._client.xrevrange(self._keys.callbacks_refused, newest, "-", count=_PAGE):
            found: Any = page
            for ident, fields in found:
                yield RefusedCallback(
                    at=datetime.fromtimestamp(int(text(ident).partition("-")[0]) / 1000, UTC),
                    platform=text(fields[b"platform"]),
                    why=text(fields[b"why"]),
                    items=int(fields[b"items"]),
                    digest=text(fields[b"digest"]),
                )
            newest = f"({text(found[-1][0])}"

    def _key(self, platform: str, message: str) -> str:
        # The id is the platform's text, of any length up to 256: a digest has one length and no number in it.
        return self._keys.callback(platform, derive(message))


def digest_of(body: bytes) -> str:
    """Return what is kept of a body: enough to see that two are the same."""
    return hashlib.sha256(body).hexdigest()[:32]
