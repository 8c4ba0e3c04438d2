"""Runs, and the counters that `record.lua` keeps for each run and platform."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from schemas.errors import NotFound
from schemas.state import DISPATCHER_STATES, STATES, State

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Counters of a run or platform, by name as `record.lua` keeps them."""

    values: dict[str, int]

    @classmethod
    def of(cls, found: dict[Any, Any]) -> "Counters":
        """Take the counters out of a hash that may say other things too."""
        return cls(values={text(name): int(value) for name, value in found.items() if value.lstrip(b"-").isdigit()})

    def get(self, name: str) -> int:
        """Return one counter; 0 where nothing was counted."""
        return self.values.get(name, 0)

    def family(self, prefix: str) -> dict[str, int]:
        """Return the counters whose name starts with `prefix:`, without it."""
        start = f"{prefix}:"
        return {name.removeprefix(start): n for name, n in self.values.items() if name.startswith(start)}

    def by_state(self, total: int | None = None) -> dict[State, int]:
        """Return jobs by state. With `total`, those nobody has tried yet count as QUEUED."""
        found: dict[State, int] = {
            state: self.get(f"state:{rule.code}") for state, rule in STATES.items() if state is not State.QUEUED
        }
        if total is not None:
            found[State.QUEUED] = total - sum(found.values())
        return {state: n for state, n in found.items() if n}

    @property
    def held(self) -> int:
        """Jobs of a run that the dispatcher still holds."""
        return sum(n for state, n in self.by_state(self.get("jobs")).items() if state in DISPATCHER_STATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far the file of a run has been read: every row up to `line` is on its way or was refused.

    The counts are those of the rows up to there; `rejected_bytes` is how long the file of refused rows was then.
    """

    line: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    batches: int = 0
    rejected_bytes: int = 0
    other_runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of one run. Times are seconds since 1970, 0 where nothing has happened yet."""

    run: str
    file: str
    started_s: float
    counters: Counters
    cursor: Cursor
    read_whole: bool
    read_s: int  # the last sign of life of who reads the file
    waits: str  # why reading waits, where it does
    cancelled: str  # why it was cancelled, where it was
    instrument: str = ""  # the key of the legal instrument on which it rests, where one was named

    @property
    def rejected(self) -> int:
        """Rows that were refused so far."""
        return self.counters.get("rejected") if self.read_whole else self.cursor.rejected

    @property
    def duplicate(self) -> int:
        """Rows so far whose case was known already."""
        return self.counters.get("duplicate") if self.read_whole else self.cursor.duplicate


class Runs:
    """What runs are, which cases they name, and how far they and the platforms are."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def begin(self, run: str, *, file: str, now: datetime, instrument: str = "") -> None:
        """Record what a run is; beginning it again (to take it up) keeps its counters."""
        said: dict[Any, Any] = {"file": file, "read_s": int(now.timestamp())}
        if instrument:
            said["instrument"] = instrument
        self._client.hset(self._keys.run(run), mapping=said)
        self._client.zadd(self._keys.runs, {run: now.timestamp()}, nx=True)

    def save_cursor(self, run: str, cursor: Cursor, *, now: datetime) -> None:
        """Write down how far the file has been read; what comes next may be the end of this process."""
        said: dict[Any, Any] = {"cursor": orjson.dumps(asdict(cursor)), "read_s": int(now.timestamp()), "waits": ""}
        patiently(lambda: self._client.hset(self._keys.run(run), mapping=said))

    def cursor(self, run: str) -> Cursor:
        """Return how far the file has been read; the beginning for a run that is not known."""
        return _cursor(self._client.hget(self._keys.run(run), "cursor"))

    def note_waits(self, run: str, why: str, *, now: datetime) -> None:
        """Say that reading waits, and that who reads is still there."""
        said: dict[Any, Any] = {"waits": why, "read_s": int(now.timestamp())}
        patiently(lambda: self._client.hset(self._keys.run(run), mapping=said))

    def note_intake(self, run: str, *, rejected: int, duplicate: int) -> None:
        """Say that the whole file has been read, and what it held beside the accepted cases."""
        self._client.hset(self._keys.run(run), mapping={"rejected": rejected, "duplicate": duplicate, "waits": ""})

    def cancel(self, run: str, *, reason: str) -> None:
        """Let nobody read the file of this run any further. Raises NotFound."""
        self._known(run)
        patiently(lambda: self._client.hset(self._keys.run(run), "cancelled", reason))

    def cancelled(self, run: str) -> str:
        """Return why a run was cancelled, or nothing."""
        return text(patiently(lambda: self._client.hget(self._keys.run(run), "cancelled")) or b"")

    def save_cancel_cursor(self, run: str, cases: int) -> None:
        """Write down how many cases of a run have been looked at by who cancels it, as its counter `cancel_cursor`."""
        patiently(lambda: self._client.hset(self._keys.run(run), "cancel_cursor", cases))

    def newest_first(self, *, after: str | None = None) -> Iterator[str]:
        """Yield every run, a page at a time; with `after`, those that are older than that one."""
        seen: set[str] = set()
        place: Any = None if after is None else self._client.zrevrank(self._keys.runs, after)
        start = 0 if place is None else place + 1
        while page := self._client.zrevrange(self._keys.runs, start, start + _PAGE - 1):
            names = list(map(text, page))
            # A run that begins meanwhile moves the others on by one.
            yield from (run for run in names if run not in seen)
            seen, start = set(names), start + len(names)

    def facts(self, runs: Sequence[str]) -> list[RunFacts]:
        """Return what is known of each run. Raises NotFound."""
        pipe = self._client.pipeline(transaction=False)
        for run in runs:
            pipe.hgetall(self._keys.run(run))
            pipe.zscore(self._keys.runs, run)
        found = pipe.execute()
        for run, said in zip(runs, found[::2], strict=True):
            if not said:
                raise NotFound(f"no run {run}")
        return [_facts(run, said, started) for run, said, started in zip(runs, found[::2], found[1::2], strict=True)]

    def _known(self, run: str) -> None:
        if not self._client.exists(self._keys.run(run)):
            raise NotFound(f"no run {run}")

    def begun_between(self, start: datetime, end: datetime) -> list[str]:
        """Return the runs that were begun from `start` and before `end`, the oldest first."""
        found = self._client.zrangebyscore(self._keys.runs, start.timestamp(), f"({end.timestamp()}")
        return [text(run) for run in found]

    def cases(self, run: str) -> Iterator[str]:
        """Yield the cases that a run's file names, in the order of its lines. Raises NotFound for an unknown run."""
        self._known(run)
        yield from (case for page in self.pages(run) for case in page)

    def pages(self, run: str, *, after: int = 0) -> Iterator[list[str]]:
        """Yield the cases behind the first `after` ones, some hundreds at a time."""
        start = after
        while page := self._client.zrange(self._keys.run_cases(run), start, start + _PAGE - 1):
            yield list(map(text, page))
            start += len(page)

    def counters(self, run: str) -> Counters:
        """Return the counters of a run; empty for a run that is not known."""
        return Counters.of(self._client.hgetall(self._keys.run(run)))

    def platform_counters(self, platforms: Sequence[str]) -> dict[str, Counters]:
        """Return the counters of each platform, in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for platform in platforms:
            pipe.hgetall(self._keys.platform(platform))
        return {platform: Counters.of(found) for platform, found in zip(platforms, pipe.execute(), strict=True)}


def _facts(run: str, said: dict[bytes, bytes], started: float | None) -> RunFacts:
    return RunFacts(
        run=run,
        file=text(said.get(b"file", b"")),
        started_s=started or 0,
        counters=Counters.of(said),
        cursor=_cursor(said.get(b"cursor")),
        read_whole=b"rejected" in said,
        read_s=int(said.get(b"read_s", 0)),
        waits=text(said.get(b"waits", b"")),
        cancelled=text(said.get(b"cancelled", b"")),
        instrument=text(said.get(b"instrument", b"")),
    )


def _cursor(said: Any) -> Cursor:
    if not said:
        return Cursor()
    found = orjson.loads(said)
    return Cursor(**found | {"other_runs": tuple(found["other_runs"])})
