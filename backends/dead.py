"""Dead letters as they are stored: grouped by platform and reason, by time, and what each job went through."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from redis import Redis

from backends.connect import text
from backends.keys import Keys
from backends.store import StatusStore
from schemas.outcome import REASONS, Reason
from schemas.record import JobRecord
from schemas.state import STATE_OF_CODE, State

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadGroup:
    """The dead letters of one platform that died for one reason. Times are milliseconds since 1970 UTC."""

    platform: str
    reason: Reason | None
    count: int
    first_ms: int
    last_ms: int
    sample: str  # the id of the newest job


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadJob:
    """One dead letter."""

    job: str
    died_ms: int
    reason: Reason | None = None

    @property
    def case(self) -> str:
        """The case of the job."""
        return self.job.partition(".")[0]

    @property
    def platform(self) -> str:
        """The platform of the job."""
        return self.job.partition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One dead letter with what is known of it. `mask` and `run` are empty if its case is gone.

    `accepted_s` is when its case was taken in, seconds since 1970 UTC.
    """

    letter: DeadJob
    mask: str
    run: str
    accepted_s: int
    record: JobRecord
    about: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadFilter:
    """Which dead letters are looked for; what is not given does not matter. `cases` of None means any case."""

    platforms: frozenset[str] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    cases: frozenset[str] | None = None
    run: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every dead letter fits."""
        return self == DeadFilter()

    @property
    def is_of_groups(self) -> bool:
        """Whether it takes groups as a whole, so that their counts are the answer."""
        return self == DeadFilter(platforms=self.platforms, reasons=self.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One attempt of a job, or one decision of a person about it, as its trail keeps it."""

    at: str
    ms: int
    attempt: int
    generation: int
    batch: str
    worker: str
    state: State
    reason: Reason | None
    said: dict[str, Any]


class DeadLetters:
    """Reads the indexes that `record.lua` writes; changes nothing."""

    def __init__(self, client: Redis, keys: Keys, store: StatusStore) -> None:
        self._client, self._keys, self._store = client, keys, store

    def count(self) -> int:
        """How many jobs need a person."""
        return int(self._client.zcard(self._keys.dead))

    def groups(self, wanted: DeadFilter | None = None) -> list[DeadGroup]:
        """Return every group that has letters that fit, the largest first."""
        if wanted is None or wanted.is_of_groups:
            return self._whole_groups(wanted or DeadFilter())
        return _grouped(self.select(wanted))

    def _whole_groups(self, wanted: DeadFilter) -> list[DeadGroup]:
        stored = self._client.hgetall(self._keys.dead_groups)
        counts = {text(group): int(count) for group, count in stored.items() if _takes(wanted, text(group))}
        pipe = self._client.pipeline(transaction=False)
        for group in counts:
            key = self._keys.dead_at_prefix + group
            pipe.zrange(key, 0, 0, withscores=True)
            pipe.zrange(key, -1, -1, withscores=True)
        found = pipe.execute()
        groups = []
        for (group, count), first, last in zip(counts.items(), found[::2], found[1::2], strict=True):
            platform, reason = _split(group)
            if first and last:
                groups.append(
                    DeadGroup(
                        platform=platform,
                        reason=reason,
                        count=count,
                        first_ms=int(first[0][1]),
                        last_ms=int(last[0][1]),
                        sample=text(last[0][0]),
                    )
                )
        return _largest_first(groups)

    def select(self, wanted: DeadFilter) -> list[DeadJob]:
        """Return the letters that fit, the newest first."""
        found = [
            DeadJob(job=letter.job, died_ms=letter.died_ms, reason=_split(group)[1])
            for group in map(text, self._client.hkeys(self._keys.dead_groups))
            if _takes(wanted, group)
            for letter in self._walk(self._keys.dead_at_prefix + group)
            if _fits(wanted, letter)
        ]
        if wanted.run is not None:
            found = list(self._of_run(found, wanted.run))
        # A letter that changes its reason meanwhile may be seen in two groups.
        unique = {letter.job: letter for letter in found}
        return sorted(unique.values(), key=lambda letter: (-letter.died_ms, letter.job))

    def _of_run(self, letters: list[DeadJob], run: str) -> Iterator[DeadJob]:
        for start in range(0, len(letters), _PAGE):
            page = letters[start : start + _PAGE]
            pipe = self._client.pipeline(transaction=False)
            for letter in page:
                pipe.hget(self._keys.case(letter.case), "run")
            for letter, owner in zip(page, pipe.execute(), strict=True):
                if owner is not None and text(owner) == run:
                    yield letter

    def every(self) -> Iterator[DeadJob]:
        """Yield every dead letter, the oldest first."""
        yield from self._walk(self._keys.dead)

    def read(self, letters: Iterable[DeadJob]) -> Iterator[DeadLetter]:
        """Yield letters with what is known of them, a page at a time."""
        rest = iter(letters)
        while page := list(islice(rest, _PAGE)):
            pipe = self._client.pipeline(transaction=False)
            for letter in page:
                pipe.hmget(self._keys.case(letter.case), "mask", "run", "accepted")
                pipe.hget(self._keys.details(letter.case), letter.platform)
            found = pipe.execute()
            records = self._store.records_of([letter.job for letter in page])
            for letter, record, (mask, run, at), about in zip(page, records, found[::2], found[1::2], strict=True):
                yield DeadLetter(
                    letter=letter,
                    mask=text(mask or b""),
                    run=text(run or b""),
                    accepted_s=int(at or 0),
                    record=record,
                    about=orjson.loads(about) if about else {},
                )

    def _walk(self, key: str) -> Iterator[DeadJob]:
        # A scan and not pages by place: letters leave while they are read, and a place would then skip one.
        found = {text(job): int(score) for job, score in self._client.zscan_iter(key, count=_PAGE)}
        for job, died_ms in sorted(found.items(), key=lambda item: (item[1], item[0])):
            yield DeadJob(job=job, died_ms=died_ms)

    def trail(self, job: str) -> list[Step]:
        """Return what a job that is or was not plain went through, oldest first."""
        return self.trails([job])[0]

    def trails(self, jobs: Sequence[str]) -> list[list[Step]]:
        """Return the trail of each job, in one round trip; empty where there is none."""
        pipe = self._client.pipeline(transaction=False)
        for job in jobs:
            pipe.lrange(self._keys.trail(job), 0, -1)
        return [[_step(orjson.loads(body)) for body in found] for found in pipe.execute()]


def _takes(wanted: DeadFilter, group: str) -> bool:
    platform, reason = _split(group)
    return (not wanted.platforms or platform in wanted.platforms) and (not wanted.reasons or reason in wanted.reasons)


def _fits(wanted: DeadFilter, letter: DeadJob) -> bool:
    return (
        (wanted.since_ms is None or letter.died_ms >= wanted.since_ms)
        and (wanted.until_ms is None or letter.died_ms < wanted.until_ms)
        and (wanted.cases is None or letter.case in wanted.cases)
    )


def _grouped(letters: Iterable[DeadJob]) -> list[DeadGroup]:
    """Group letters that come newest first."""
    groups: dict[tuple[str, Reason | None], list[DeadJob]] = defaultdict(list)
    for letter in letters:
        groups[letter.platform, letter.reason].append(letter)
    return _largest_first(
        DeadGroup(
            platform=platform,
            reason=reason,
            count=len(found),
            first_ms=found[-1].died_ms,
            last_ms=found[0].died_ms,
            sample=found[0].job,
        )
        for (platform, reason), found in groups.items()
    )


def _largest_first(groups: Iterable[DeadGroup]) -> list[DeadGroup]:
    return sorted(groups, key=lambda group: (-group.count, group.platform, group.reason or ""))


def _split(group: str) -> tuple[str, Reason | None]:
    platform, _, code = group.rpartition(":")
    return platform, _reason(int(code))


def _reason(code: int) -> Reason | None:
    return REASONS[code - 1] if code else None


def _step(facts: dict[str, Any]) -> Step:
    said = facts["said"] or {}
    return Step(**facts | {"state": STATE_OF_CODE[facts["state"]], "reason": _reason(facts["reason"]), "said": said})
