"""Heartbeats: which processes live, and what each does now."""

import os
import socket
import time
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from backends.connect import text
from backends.keys import Keys

# A process that has been silent this long is taken for dead, and after a day forgotten.
SILENT_S = 15
_FORGOTTEN_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The last sign of life of one process. `gone` says that it is known to have ended without a word."""

    role: str
    name: str
    facts: dict[str, Any]
    silent_s: float = 0.0
    gone: bool = False

    @property
    def alive(self) -> bool:
        """Whether it is taken for living."""
        return self.silent_s <= SILENT_S and not self.gone


class Heartbeats:
    """Written by each process every few seconds."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._key = client, keys.heartbeats

    def beat(self, role: str, *, facts: dict[str, Any]) -> None:
        """Say that this process lives."""
        self._client.hset(self._key, f"{role}:{process_name()}", orjson.dumps({**facts, "at_s": time.time()}))

    def leave(self, role: str) -> None:
        """Say that this process ends."""
        self._client.hdel(self._key, f"{role}:{process_name()}")

    def alive(self, role: str | None = None) -> list[Heartbeat]:
        """Return the living processes of a role, or all, by name."""
        return [beat for beat in self.every() if beat.alive and role in {None, beat.role}]

    def every(self) -> list[Heartbeat]:
        """Return every process that has not said good-bye, by name; the silent ones for a day."""
        found: list[Heartbeat] = []
        for field, body in sorted(self._client.hgetall(self._key).items()):
            role, _, name = text(field).partition(":")
            facts = orjson.loads(body)
            silent_s = time.time() - facts["at_s"]
            if silent_s > _FORGOTTEN_S:
                self._client.hdel(self._key, field)
            else:
                found.append(Heartbeat(role=role, name=name, facts=facts, silent_s=silent_s, gone=_ended_here(name)))
        return found


def process_name() -> str:
    """Name this process: host and process id."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _ended_here(name: str) -> bool:
    """Whether a process of this host is known to be gone: one that was killed could not say good-bye."""
    host, _, pid = name.rpartition("-")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
