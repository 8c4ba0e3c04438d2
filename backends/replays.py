"""Replays as they are stored: what was asked for, how far each platform is, and who steps it now.

What a person asks (stop, resume) and what the engine writes (progress) are different fields, so that neither
overwrites the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import REPLAY_LOCK_TTL_S, Keys
from backends.scripts import script
from schemas.errors import NotFound
from schemas.ids import split_job_id
from schemas.state import State

_PAGE: Final = 1000
_PROGRESS: Final = "at:"


class Phase(StrEnum):
    """How far a replay is at one platform, or as a whole."""

    CANARY = "canary"  # a few jobs are tried first
    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"


class Skip(StrEnum):
    """Why a job of a replay was not sent."""

    NO_CASE = "no_case"  # the case is not known any more
    NO_PLATFORM = "no_platform"  # the catalogue has no such platform any more
    CHANGED = "changed"  # it is no dead letter any more: another replay, or a late answer
    SUPERSEDED = "superseded"  # the number has been recycled again: the newer case counts
    GENERATIONS = "generations"  # it has been replayed as often as can be counted
    SEALED = "sealed"  # no number key opens it
    NOT_AUTHORISED = "not_authorised"  # its owner's authorisation is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Jobs of one platform that are sent together: same run, generation and attempts so far."""

    run: str
    generation: int
    attempts: int
    cases: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a replay is at one platform: the jobs from `start` to `end` of its list are the platform's.

    `chunk` is what is being sent at this moment, written down before anything is changed. `recent` has one letter for
    each of the last jobs that ended: `f` failed again, `s` settled. The canary counts begin anew with each resumption.
    """

    platform: str
    start: int
    end: int
    at: int
    phase: Phase = Phase.CANARY
    round: int = 1
    why: str = ""
    canary_sent: int = 0
    canary_ended: int = 0
    canary_failed: int = 0
    recent: str = ""
    sent: int = 0
    out: int = 0  # sent, and neither settled nor failed again
    settled: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    chunk: list[dict[str, Any]] | None = None
    taken: int = 0  # how many jobs of the list the chunk stands for

    @property
    def groups(self) -> list[Group]:
        """The chunk's groups."""
        return [Group(**(group | {"cases": tuple(group["cases"])})) for group in self.chunk or ()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replay, as it stands."""

    id: str
    who: str
    reason: str
    wanted: str
    state: State
    canary: int
    total: int
    asked_ms: int
    halt: str
    round: int
    platforms: tuple[Progress, ...]

    @property
    def phase(self) -> Phase:
        """Where it stands as a whole."""
        phases = {progress.phase for progress in self.platforms}
        if phases <= {Phase.DONE}:
            return Phase.DONE
        if self.halt:
            return Phase.STOPPED
        return next(phase for phase in (Phase.RUNNING, Phase.CANARY, Phase.STOPPED) if phase in phases)

    @property
    def out(self) -> int:
        """How many jobs were sent and have neither settled nor failed again."""
        return sum(progress.out for progress in self.platforms)


class Replays:
    """Create, find, stop, resume; and for the engine: lock, read, write."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._write = script(client, "replay_write")
        self._release = script(client, "replay_release")

    # -- people ----------------------------------------------------------------------------------------------------

    def create(
        self, ident: str, *, jobs: Sequence[str], who: str, reason: str, wanted: str, state: State, canary: int,
        now: datetime,
    ) -> None:  # fmt: skip
        """Write a replay down, to be begun by the next scheduler. The jobs keep their order within a platform."""
        ordered = sorted(jobs, key=lambda job: split_job_id(job)[1])
        # Whoever began to write it and died has left a part of the list.
        self._client.delete(self._keys.replay_jobs(ident))
        for start in range(0, len(ordered), _PAGE):
            self._client.rpush(self._keys.replay_jobs(ident), *ordered[start : start + _PAGE])
        asked_ms = int(now.timestamp() * 1000)
        about = {
            "who": who, "reason": reason, "wanted": wanted, "state": state, "canary": canary, "total": len(ordered),
            "asked_ms": asked_ms,
        }  # fmt: skip
        fields: dict[Any, Any] = {"about": orjson.dumps(about), "round": 1, "halt": ""}
        for progress in _ranges(ordered):
            fields[_PROGRESS + progress.platform] = orjson.dumps(asdict(progress))
        self._client.hset(self._keys.replay(ident), mapping=fields)
        self._client.zadd(self._keys.replays, {ident: asked_ms})
        # Last: from here on it is stepped.
        self._client.sadd(self._keys.replays_open, ident)

    def newest_first(self, *, after: str | None = None) -> list[str]:
        """Return every replay; with `after`, those that are older than that one."""
        place: Any = None if after is None else self._client.zrevrank(self._keys.replays, after)
        start = 0 if place is None else place + 1
        return [text(ident) for ident in self._client.zrevrange(self._keys.replays, start, -1)]

    def exists(self, ident: str) -> bool:
        """Tell whether a replay was asked for under this id."""
        return self._client.zscore(self._keys.replays, ident) is not None

    def get(self, ident: str) -> Replay:
        """Return one replay. Raises NotFound."""
        found: Any = patiently(lambda: self._client.hgetall(self._keys.replay(ident)))
        if not found:
            raise NotFound(f"no replay {ident}")
        return _read(ident, {text(name): value for name, value in found.items()})

    def jobs(self, ident: str, *, start: int, count: int) -> list[str]:
        """Return a part of a replay's jobs."""
        found: list[Any] = patiently(
            lambda: self._client.lrange(self._keys.replay_jobs(ident), start, start + count - 1)
        )
        return [text(job) for job in found]

    def stop(self, ident: str, *, why: str) -> None:
        """Send no more of it. What was sent goes on by itself, and is still watched."""
        self._client.hset(self._keys.replay(ident), "halt", why or "stopped")

    def resume(self, ident: str) -> None:
        """Go on with what has not been sent, by a new canary at each platform that had stopped."""
        pipe = self._client.pipeline(transaction=True)
        pipe.hset(self._keys.replay(ident), "halt", "")
        pipe.hincrby(self._keys.replay(ident), "round", 1)
        pipe.sadd(self._keys.replays_open, ident)
        pipe.execute()

    # -- the engine ------------------------------------------------------------------------------------------------

    def awake(self) -> list[str]:
        """Return the replays that have something to send or to watch."""
        return sorted(text(ident) for ident in self._client.smembers(self._keys.replays_open))

    def lock(self, ident: str, token: str) -> bool:
        """Take the right to step a replay, for REPLAY_LOCK_TTL_S. Returns False if somebody else has it."""
        return bool(self._client.set(self._keys.replay_lock(ident), token, nx=True, ex=REPLAY_LOCK_TTL_S))

    def release(self, ident: str, token: str, *, asleep: bool, round_: int) -> bool:
        """Give the right back; with `asleep` the replay is stepped no more unless it was resumed meanwhile."""
        keys = [self._keys.replay_lock(ident), self._keys.replay(ident), self._keys.replays_open]
        args: list[str | int] = [token, ident, "1" if asleep else "", round_]
        return bool(patiently(lambda: self._release(keys=keys, args=args)))

    def sent(self, ident: str, platform: str) -> list[Group]:
        """Return the jobs of one platform that were sent and whose end has not been seen."""
        found: Any = patiently(lambda: self._client.hget(self._keys.replay_sent(ident), platform))
        return [Group(**(group | {"cases": tuple(group["cases"])})) for group in orjson.loads(found)] if found else []

    def write(self, ident: str, token: str, *, progress: Progress, sent: Sequence[Group]) -> bool:
        """Write down how far a platform is. Returns False if the lock has passed to somebody else."""
        keys = [self._keys.replay_lock(ident), self._keys.replay(ident), self._keys.replay_sent(ident)]
        out = orjson.dumps([asdict(group) for group in sent]) if sent else b""
        args: list[str | int | bytes] = [
            token, REPLAY_LOCK_TTL_S, progress.platform, orjson.dumps(asdict(progress)), out,
        ]  # fmt: skip
        return bool(patiently(lambda: self._write(keys=keys, args=args)))


def _ranges(ordered: Sequence[str]) -> Iterator[Progress]:
    """Yield a beginning for each platform of a list that is ordered by platform."""
    start = 0
    for place, job in enumerate(ordered):
        platform = split_job_id(job)[1]
        if place + 1 == len(ordered) or split_job_id(ordered[place + 1])[1] != platform:
            yield Progress(platform=platform, start=start, end=place + 1, at=start)
            start = place + 1


def _read(ident: str, found: Mapping[str, bytes]) -> Replay:
    about = orjson.loads(found["about"])
    platforms = [
        Progress(**(facts | {"phase": Phase(facts["phase"])}))
        for facts in (orjson.loads(body) for name, body in sorted(found.items()) if name.startswith(_PROGRESS))
    ]
    return Replay(
        id=ident,
        **about | {"state": State(about["state"])},
        halt=text(found["halt"]),
        round=int(found["round"]),
        platforms=tuple(platforms),
    )
