"""The actions log: who changed what, when and why. It only grows; nothing trims it.

Its times are those of the store's server, so that no clock of an operator's machine can put an entry elsewhere.
"""

import getpass
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Final

import orjson
import structlog
from redis import Redis
from redis.exceptions import RedisError

from backends.connect import text
from backends.keys import Keys
from schemas.errors import BackendUnavailable
from schemas.number import mask_text

_PAGE: Final = 200
log = structlog.get_logger()


class What(StrEnum):
    """Everything that a person can change."""

    PLATFORM_PAUSE = "platform.pause"
    PLATFORM_RESUME = "platform.resume"
    PLATFORM_SUSPEND = "platform.suspend"
    PLATFORM_PROBE = "platform.probe"
    PLATFORM_LIMIT = "platform.limit"
    RUN_CANCEL = "run.cancel"
    RETRIES_RUN_NOW = "retries.run_now"
    RETRIES_CANCEL = "retries.cancel"
    DEAD_REPLAY = "dead.replay"
    DEAD_REPLAY_STOP = "dead.replay_stop"
    DEAD_REPLAY_RESUME = "dead.replay_resume"
    DEAD_DISCARD = "dead.discard"
    NUMBER_REVEAL = "number.reveal"
    NUMBERS_EXPORT = "numbers.export"
    AUDIT_REPAIR = "audit.repair"
    KEPT_DROP = "kept.drop"
    SWEEP_RUN = "sweep.run"
    SWEEP_PAUSE = "sweep.pause"
    SWEEP_RESUME = "sweep.resume"
    SWEEP_RECLAIM = "sweep.reclaim"
    SWEEP_TOLD = "sweep.told"
    EVENTS_RESUME = "events.resume"
    RUN_SUBMIT = "run.submit"
    AUTHORISATION_WITHDRAW = "authorisation.withdraw"
    INSTRUMENT_RECORD = "instrument.record"
    INSTRUMENT_END = "instrument.end"
    OWNER_LINK_MAKE = "owner_link.make"
    OWNER_LINK_REVOKE = "owner_link.revoke"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"


def whoami() -> str:
    """Name the person who runs this process, as the system knows them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # In a container there is often a number without a name.
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One change by a person. `before` and `after` are small, and hold no number."""

    what: What
    target: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any]
    who: str = field(default_factory=whoami)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One entry of the log."""

    id: str
    at: datetime
    action: Action

    def row(self) -> dict[str, Any]:
        """Return it as a list shows it."""
        return {
            "at": self.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "who": self.action.who,
            "what": self.action.what.value,
            "target": self.action.target,
            "reason": self.action.reason,
            "before": self.action.before,
            "after": self.action.after,
            "id": self.id,
        }


class Actions:
    """Append and read; nothing is ever changed or taken out."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._key = client, keys.actions

    def append(self, action: Action) -> str:
        """Write an action down, free text masked; returns its id. Raises BackendUnavailable: then it is not written."""
        said = {
            "what": action.what.value,
            "target": action.target,
            "reason": mask_text(action.reason),
            "before": _masked(action.before),
            "after": _masked(action.after),
            "who": mask_text(action.who),
        }
        fields: dict[Any, Any] = {
            name: orjson.dumps(value) if isinstance(value, dict) else value for name, value in said.items()
        }
        try:
            ident = text(self._client.xadd(self._key, fields))
        except (RedisError, OSError) as error:
            raise BackendUnavailable(f"{action.what} could not be written down ({type(error).__name__})") from error
        log.info("action.taken", **said)
        return ident

    def list(
        self, *, what: What | None = None, target: str | None = None, since: datetime | None = None,
        before: str | None = None, limit: int = 50,
    ) -> list[Recorded]:  # fmt: skip
        """Return the newest that fit, the newest last; with `before`, of those that are older than that entry.

        A target is found by its whole name, also among several.
        """
        fitting = (
            found
            for found in self._newest_first(since, before=before)
            if (what is None or found.action.what is what) and (target is None or target in _targets(found.action))
        )
        return list(islice(fitting, limit))[::-1]

    def _newest_first(self, since: datetime | None, *, before: str | None) -> Iterator[Recorded]:
        oldest = "-" if since is None else str(int(since.timestamp() * 1000))
        newest = "+" if before is None else f"({before}"
        while page := self._client.xrevrange(self._key, newest, oldest, count=_PAGE):
            for ident, fields in page:
                yield _read(text(ident), fields)
            newest = f"({text(page[-1][0])}"


def _targets(action: Action) -> set[str]:
    return {action.target, *action.target.split(", ")}


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    return mask_text(value) if isinstance(value, str) else value


def _read(ident: str, fields: Any) -> Recorded:
    said = {text(name): text(value) for name, value in fields.items()}
    return Recorded(
        id=ident,
        at=datetime.fromtimestamp(int(ident.partition("-")[0]) / 1000, UTC),
        action=Action(
            what=What(said["what"]),
            target=said["target"],
            reason=said["reason"],
            before=orjson.loads(said["before"]),
            after=orjson.loads(said["after"]),
            who=said["who"],
        ),
    )
