"""Keys of the API and the console, for people: make one, see them, end one."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from backends.actions import Action, What, whoami
from backends.api_keys import ApiKey, Scope
from backends.bootstrap import Backends
from schemas.errors import InputError

LIST_FIELDS: Final = ("id", "name", "scope", "state", "created_at", "created_by", "expires_at", "revoked_at")


class KeyDesk:
    """Whoever reaches the store may do this: there is no scope above it."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def create(self, name: str, scope: Scope, *, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
        """Make a key. Returns it with its text, which nobody can ever read again. Raises InputError."""
        now = self._backends.clock.now()
        if expires_at is not None and expires_at <= now:
            raise InputError("the end of a key lies ahead")
        key, text = self._backends.api_keys.create(name, scope, by=whoami(), now=now, expires_at=expires_at)
        after = {"name": name, "scope": scope.value, "expires_at": key.expires_at or None}
        self._log(What.KEY_CREATE, key, reason="", before={}, after=after)
        return key, text

    def revoke(self, ident: str, *, reason: str) -> ApiKey:
        """Let a key open nothing from now on. Raises NotFound."""
        before, now = self._backends.api_keys.get(ident), self._backends.clock.now()
        key = self._backends.api_keys.revoke(ident, now=now)
        self._log(
            What.KEY_REVOKE, key, reason=reason, before={"name": key.name, "state": _state(before, now=now)},
            after={"state": _state(key, now=now)},
        )  # fmt: skip
        return key

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every key, the oldest first; never more of it than who may show it."""
        now = self._backends.clock.now()
        for key in self._backends.api_keys.list():
            yield {
                "id": key.id,
                "name": key.name,
                "scope": key.scope,
                "state": _state(key, now=now),
                "created_at": key.created_at,
                "created_by": key.created_by,
                "expires_at": key.expires_at or None,
                "revoked_at": key.revoked_at or None,
            }

    def _log(self, what: What, key: ApiKey, *, reason: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        self._backends.actions.append(Action(what=what, target=key.id, reason=reason, before=before, after=after))


def _state(key: ApiKey, *, now: datetime) -> str:
    if key.revoked_at:
        return "revoked"
    return "valid" if key.valid_at(now) else "expired"
