"""Keys of the HTTP API and the console: who may come in, and how far.

Only a digest is kept. A key is 32 random bytes, so a plain SHA-256 cannot be turned back.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from schemas.errors import NotFound

_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 5
_KEY: Final = re.compile(r"nrk_([0-9a-f]{10})_([A-Za-z0-9_-]{43})")


class Scope(StrEnum):
    """What a key may do; each may do what those before it may."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def covers(self, wanted: "Scope") -> bool:
        """Whether who has this may do what asks for `wanted`."""
        order = list(Scope)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key; `digest` is all that is left of its secret."""

    id: str
    name: str
    scope: Scope
    created_at: str
    created_by: str
    digest: str = ""
    expires_at: str = ""
    revoked_at: str = ""

    def valid_at(self, now: datetime) -> bool:
        """Whether it opens anything now."""
        return not self.revoked_at and (not self.expires_at or now < datetime.fromisoformat(self.expires_at))


class ApiKeys:
    """Create, look up, revoke. A key that was revoked stays in the list."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._key = client, keys.api_keys

    def create(
        self, name: str, scope: Scope, *, by: str, now: datetime, expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key. Returns it with its text, which nobody can ever read again."""
        ident, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(
            id=ident, name=name, scope=scope, created_at=now.isoformat(), created_by=by, digest=_digest(secret),
            expires_at=expires_at.isoformat() if expires_at else "",
        )  # fmt: skip
        self._write(key)
        return key, f"nrk_{ident}_{secret}"

    def find(self, given: str, *, now: datetime) -> ApiKey | None:
        """Return the key that was given, if it is one and valid."""
        found = _KEY.fullmatch(given)
        key = self._read(found[1]) if found else None
        # Compared also where there is no such key, so that the time does not tell which ids exist.
        same = hmac.compare_digest(key.digest if key else "", _digest(found[2] if found else ""))
        return key if key is not None and same and key.valid_at(now) else None

    def get(self, ident: str) -> ApiKey:
        """Return a key by its id. Raises NotFound."""
        key = self._read(ident)
        if key is None:
            raise NotFound("no key with this id; `renewal keys api list` shows them")
        return key

    def revoke(self, ident: str, *, now: datetime) -> ApiKey:
        """Let a key open nothing from now on; sessions that were begun with it end too. Raises NotFound."""
        key = self.get(ident)
        if not key.revoked_at:
            key = replace(key, revoked_at=now.isoformat())
            self._write(key)
        return key

    def list(self) -> Iterator[ApiKey]:
        """Yield every key, the oldest first."""
        found: Any = patiently(lambda: self._client.hgetall(self._key))
        keys = (_read(text(ident), body) for ident, body in found.items())
        yield from sorted(keys, key=lambda key: (key.created_at, key.id))

    def _write(self, key: ApiKey) -> None:
        said = {name: value for name, value in asdict(key).items() if name != "id"}
        patiently(lambda: self._client.hset(self._key, key.id, orjson.dumps(said)))

    def _read(self, ident: str) -> ApiKey | None:
        body: Any = patiently(lambda: self._client.hget(self._key, ident))
        return None if body is None else _read(ident, body)


def _read(ident: str, body: bytes) -> ApiKey:
    said = orjson.loads(body)
    return ApiKey(id=ident, **said | {"scope": Scope(said["scope"])})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
