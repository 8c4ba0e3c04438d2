"""Sessions of the console: a browser that showed a key once. The cookie is random; the store knows only its digest."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently
from backends.keys import SESSION_TTL_S, Keys

_COOKIE_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Which key was shown, and what a form must bring back so that no other site can send it."""

    key_id: str
    form_token: str


class Sessions:
    """Begin, look up, end."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def begin(self, key_id: str) -> tuple[str, Session]:
        """Return the text of the cookie, and the session."""
        cookie, session = secrets.token_urlsafe(_COOKIE_BYTES), Session(key_id=key_id, form_token=secrets.token_hex(16))
        body = orjson.dumps({"key_id": session.key_id, "form_token": session.form_token})
        patiently(lambda: self._client.set(self._key(cookie), body, ex=SESSION_TTL_S))
        return cookie, session

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie, if it has not ended."""
        body: Any = patiently(lambda: self._client.get(self._key(cookie))) if cookie else None
        return None if body is None else Session(**orjson.loads(body))

    def end(self, cookie: str) -> None:
        """Forget a session."""
        patiently(lambda: self._client.delete(self._key(cookie)))

    def _key(self, cookie: str) -> str:
        return self._keys.session(hashlib.sha256(cookie.encode()).hexdigest())
