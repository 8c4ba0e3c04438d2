"""Sweeps as they are stored: where each stands, who steps it now, and what became of each night.

One night a day is settled, and none before one that is settled already. Whoever steps a night holds a lease with a
fencing number; what an older number writes is refused.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import FORECAST_TTL_S, Keys
from backends.scripts import script

# Longer than a chunk takes, short enough that a killed stepper is soon replaced.
LEASE_S: Final = 30
# The message by which beat asks for a look.
TICK_TASK: Final = "renewal.sweeps_due"


class Ending(StrEnum):
    """How a night ended."""

    COMPLETED = "completed"
    OVERTAKEN = "overtaken"  # the next night began before everything was sent
    FAILED = "failed"  # its inventory could not be read as long as it lasted
    SKIPPED = "skipped"  # it was never begun


class Denied(StrEnum):
    """Why a night may not be stepped now."""

    PAUSED = "paused"
    LEASED = "leased"  # somebody else steps it
    SETTLED = "settled"  # this day, or a later one, is over
    OTHER = "other"  # the night of another day is still open


@dataclass(slots=True, kw_only=True)
class Night:
    """The night of one day. Counts are absolute, so that writing them twice is harmless.

    `cursor` is the place in the sorted inventory up to which everything has been sent, with the `fingerprint` of the
    inventory for which it holds. `stopped` are numbers that were planned and refused when their turn came.
    """

    day: str
    run: str
    begun_ms: int
    late: bool = False
    who: str = ""
    source: str = ""
    fingerprint: str = ""
    rows: int = 0
    rejected: int = 0
    planned: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    planned_by_release: dict[str, int] = field(default_factory=dict)
    jobs_by_platform: dict[str, int] = field(default_factory=dict)  # of what was planned
    let_go: int = 0  # cases of earlier nights whose number is taken back
    cursor: int = 0
    sent: int = 0
    stopped: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    known: int = 0
    problem: str = ""
    ending: Ending | None = None
    why: str = ""
    ended_ms: int = 0

    def packed(self) -> bytes:
        """Return the JSON that is stored."""
        return orjson.dumps(asdict(self))

    @classmethod
    def unpack(cls, body: bytes) -> "Night":
        """Read it back."""
        facts = orjson.loads(body)
        return cls(**facts | {"ending": Ending(facts["ending"]) if facts["ending"] else None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a sweep stands. `done` is the last settled day; no night up to it can begin any more.

    `completed_ms` is when the last night ended that sent all it had planned; 0 if none did.
    """

    done: date | None = None
    open: date | None = None
    problem: str = ""
    paused: str = ""
    paused_ms: int = 0
    held_until_ms: int = 0
    holder: str = ""
    fence: int = 0
    completed_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to step one night."""

    sweep: str
    day: date
    fence: int


class Sweeps:
    """Look, pause, resume; and for who steps them: begin, write, settle."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._begin = script(client, "sweep_begin")
        self._write = script(client, "sweep_write")

    # -- people ----------------------------------------------------------------------------------------------------

    def standing(self, name: str) -> Standing:
        """Return where a sweep stands; one that nobody has stepped stands at its beginning."""
        found: Any = patiently(lambda: self._client.hgetall(self._keys.sweep(name)))
        return _standing({text(key): text(value) for key, value in found.items()})

    def nights(self, name: str) -> list[Night]:
        """Return every night, the newest first."""
        found: Any = patiently(lambda: self._client.hgetall(self._keys.sweep_nights(name)))
        return [Night.unpack(body) for _, body in sorted(found.items(), reverse=True)]

    def night(self, name: str, day: date) -> Night | None:
        """Return one night, None if there is none."""
        found: Any = patiently(lambda: self._client.hget(self._keys.sweep_nights(name), day.isoformat()))
        return Night.unpack(found) if found else None

    def keep_forecast(self, name: str, day: date, body: bytes) -> None:
        """Keep what is foreseen of a night; the first one stays."""
        key = self._keys.sweep_forecast(name, day.isoformat())
        patiently(lambda: self._client.set(key, body, nx=True, ex=FORECAST_TTL_S))

    def forecast(self, name: str, day: date) -> bytes | None:
        """Return what was foreseen of a night when it began; None where that is not known any more."""
        found: Any = patiently(lambda: self._client.get(self._keys.sweep_forecast(name, day.isoformat())))
        return found or None

    def pause(self, name: str, *, reason: str, now: datetime) -> None:
        """Let nothing be begun or sent any more. What was sent goes on by itself."""
        facts: dict[Any, Any] = {"paused": reason or "paused", "paused_ms": _ms(now)}
        self._client.hset(self._keys.sweep(name), mapping=facts)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._client.hset(self._keys.sweep(name), mapping={"paused": "", "paused_ms": 0})

    # -- who steps them --------------------------------------------------------------------------------------------

    def begin(self, name: str, night: Night, *, holder: str, now: datetime) -> tuple[Lease, Night] | Denied:
        """Take the lease of a night: a new one as it is given, an open one as it is stored."""
        day = date.fromisoformat(night.day)
        args: list[Any] = [night.day, _ms(now), _ms(now) + LEASE_S * 1000, night.packed(), holder]
        keys = [self._keys.sweep(name), self._keys.sweep_nights(name)]
        # Twice is harmless: the second call finds the first one's lease, which then runs out.
        fence, body = patiently(lambda: self._begin(keys=keys, args=args))
        if not fence:
            return Denied(text(body))
        return Lease(sweep=name, day=day, fence=int(fence)), Night.unpack(body)

    def write(self, lease: Lease, night: Night | None, *, now: datetime) -> bool:
        """Write how far a night is, and keep the lease. Returns False if it has passed on, or the sweep is paused."""
        problem = night.problem if night else ""
        return self._fenced(lease, night, until_ms=_ms(now) + LEASE_S * 1000, problem=problem) == 1

    def settle(self, lease: Lease, night: Night) -> bool:
        """End a night for good. Returns False if the lease has passed on."""
        return self._fenced(lease, night, until_ms=0, settled=True) != 0

    def give_back(self, lease: Lease, night: Night | None = None) -> bool:
        """End the lease, so that anybody may go on at once. Returns False if it had passed on."""
        return self._fenced(lease, night, until_ms=0, problem=night.problem if night else "") != 0

    def _fenced(
        self, lease: Lease, night: Night | None, *, until_ms: int, settled: bool = False, problem: str = ""
    ) -> int:
        body = night.packed() if night else b""
        completed_ms = night.ended_ms if settled and night and night.ending is Ending.COMPLETED else ""
        args: list[Any] = [
            lease.fence, lease.day.isoformat(), body, until_ms, "1" if settled else "", problem, completed_ms,
        ]  # fmt: skip
        keys = [self._keys.sweep(lease.sweep), self._keys.sweep_nights(lease.sweep)]
        return int(patiently(lambda: self._write(keys=keys, args=args)))

    # -- beat ------------------------------------------------------------------------------------------------------

    def tick(self, now: datetime) -> None:
        """Ask for a look at the sweeps. Asking often, or not at all, changes only how soon it comes."""
        patiently(lambda: self._client.set(self._keys.sweep_tick, _ms(now)))

    def ticked_ms(self) -> int:
        """Return when that was last asked for."""
        return int(self._client.get(self._keys.sweep_tick) or 0)


def _standing(found: Mapping[str, str]) -> Standing:
    def day(name: str) -> date | None:
        return date.fromisoformat(found[name]) if found.get(name) else None

    return Standing(
        done=day("done"),
        open=day("open"),
        problem=found.get("problem", ""),
        paused=found.get("paused", ""),
        paused_ms=int(found.get("paused_ms", 0)),
        held_until_ms=int(found.get("until", 0)),
        holder=found.get("holder", ""),
        fence=int(found.get("fence", 0)),
        completed_ms=int(found.get("completed", 0)),
    )


def _ms(now: datetime) -> int:
    return int(now.timestamp() * 1000)
