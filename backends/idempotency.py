"""What was asked under an Idempotency-Key, and what was answered: asked again, it is answered again and not done again.

Sealed, for an answer may hold what is shown only once. The request is kept as a keyed token: a plain digest of a small
body could be turned back into the number in it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently
from backends.keys import IDEMPOTENCY_TTL_S, Keys
from backends.vault import Vault

# A process that died over a request leaves its key taken for so long.
_BUSY_TTL_S: Final = 600


class Standing(StrEnum):
    """What is known of a key."""

    BEGUN = "begun"  # it was free: whoever asked does it now
    BUSY = "busy"  # another request with it has not been answered yet
    OTHER = "other"  # it was used for another request
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as it was given."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request under a key, and where it stands."""

    name: str
    request: str
    standing: Standing
    answer: Answer | None = None


class Idempotency:
    """Begin, then finish or give up."""

    def __init__(self, client: Redis, keys: Keys, vault: Vault) -> None:
        self._client, self._keys, self._vault = client, keys, vault

    def begin(self, *, caller: str, key: str, request: str) -> Asked:
        """Take a caller's key for a request, or say what it was taken for. `request` is all that was asked."""
        name = self._keys.idempotency(self._vault.token(f"idempotency\0{caller}\0{key}"))
        token = self._vault.token(f"request\0{request}")
        taken = self._seal(name, {"request": token})
        if patiently(lambda: self._client.set(name, taken, nx=True, ex=_BUSY_TTL_S)):
            return Asked(name=name, request=token, standing=Standing.BEGUN)
        body: Any = patiently(lambda: self._client.get(name))
        if body is None:
            # It ended between the two: who asked before us has given up.
            return Asked(name=name, request=token, standing=Standing.BUSY)
        return self._found(name, token, orjson.loads(self._vault.open(body, context=name.encode())))

    def _found(self, name: str, token: str, said: dict[str, Any]) -> Asked:
        if said["request"] != token:
            return Asked(name=name, request=token, standing=Standing.OTHER)
        if "status" not in said:
            return Asked(name=name, request=token, standing=Standing.BUSY)
        answer = Answer(status=said["status"], headers=said["headers"], body=said["body"].encode())
        return Asked(name=name, request=token, standing=Standing.ANSWERED, answer=answer)

    def finish(self, asked: Asked, answer: Answer) -> None:
        """Keep an answer for as long as somebody may ask again. Its body is text."""
        said = {
            "request": asked.request, "status": answer.status, "headers": answer.headers, "body": answer.body.decode(),
        }  # fmt: skip
        kept = self._seal(asked.name, said)
        patiently(lambda: self._client.set(asked.name, kept, ex=IDEMPOTENCY_TTL_S))

    def give_up(self, asked: Asked) -> None:
        """Let the key be used again: nothing was done."""
        patiently(lambda: self._client.delete(asked.name))

    def _seal(self, name: str, said: dict[str, Any]) -> bytes:
        return self._vault.seal(orjson.dumps(said), context=name.encode())
