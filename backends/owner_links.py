"""Links by which the owner of a number follows one case without a login. Only a digest of each is kept."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from redis import Redis

from backends.connect import patiently, text
from backends.keys import OWNER_LINK_TTL_S, Keys

TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerLink:
    """A link that was just made: its token is shown once."""

    token: str
    expires_at: datetime


class OwnerLinks:
    """Make, follow, revoke."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def make(self, case: str, *, now: datetime) -> OwnerLink:
        """Make a link to a case that lasts OWNER_LINK_TTL_S; others of the same case stay."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        digest = _digest(token)

        def write() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.set(self._keys.owner_link(digest), case, ex=OWNER_LINK_TTL_S)
            pipe.sadd(self._keys.owner_links(case), digest)
            pipe.expire(self._keys.owner_links(case), OWNER_LINK_TTL_S)
            pipe.execute()

        patiently(write)
        return OwnerLink(token=token, expires_at=now + timedelta(seconds=OWNER_LINK_TTL_S))

    def follow(self, token: str) -> str | None:
        """Return the case that a link leads to; None alike for one that never was, has ended or was revoked."""
        found: Any = patiently(lambda: self._client.get(self._keys.owner_link(_digest(token))))
        return None if found is None else text(found)

    def revoke(self, case: str) -> int:
        """Let no link lead to this case any more. Returns how many did."""
        found: Any = patiently(lambda: self._client.smembers(self._keys.owner_links(case)))
        links = [self._keys.owner_link(text(digest)) for digest in found]

        def forget() -> list[int]:
            pipe = self._client.pipeline(transaction=True)
            for link in links:
                pipe.delete(link)
            pipe.delete(self._keys.owner_links(case))
            return list(pipe.execute())

        return sum(patiently(forget)[:-1])


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
