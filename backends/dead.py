"""Dead letters as they are stored: grouped by platform and reason, by time, and what each job went through."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from backends.connect import text
from backends.keys import Keys
from schemas.outcome import REASON_CODES, REASONS, Reason
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

    @property
    def case(self) -> str:
        """The case of the job."""
        return self.job.partition(".")[0]

    @property
    def platform(self) -> str:
        """The platform of the job."""
        return self.job.partition(".")[2]


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

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def count(self) -> int:
        """How many jobs need a person."""
        return int(self._client.zcard(self._keys.dead))

    def groups(self) -> list[DeadGroup]:
        """Return every group, the largest first."""
        counts = {text(group): int(count) for group, count in self._client.hgetall(self._keys.dead_groups).items()}
        pipe = self._client.pipeline(transaction=False)
        for group in counts:
            key = self._keys.dead_at_prefix + group
            pipe.zrange(key, 0, 0, withscores=True)
            pipe.zrange(key, -1, -1, withscores=True)
        found = pipe.execute()
        groups = []
        for (group, count), first, last in zip(counts.items(), found[::2], found[1::2], strict=True):
            platform, _, code = group.rpartition(":")
            if first and last:
                groups.append(
                    DeadGroup(
                        platform=platform,
                        reason=_reason(int(code)),
                        count=count,
                        first_ms=int(first[0][1]),
                        last_ms=int(last[0][1]),
                        sample=text(last[0][0]),
                    )
                )
        return sorted(groups, key=lambda group: (-group.count, group.platform, group.reason or ""))

    def of_group(self, platform: str, reason: Reason | None) -> Iterator[DeadJob]:
        """Yield one group, the oldest first."""
        yield from self._walk(self._keys.dead_at(platform, REASON_CODES[reason] if reason else 0))

    def every(self) -> Iterator[DeadJob]:
        """Yield every dead letter, the oldest first."""
        yield from self._walk(self._keys.dead)

    def _walk(self, key: str) -> Iterator[DeadJob]:
        # A scan and not pages by place: letters leave while they are read, and a place would then skip one.
        found = {text(job): int(score) for job, score in self._client.zscan_iter(key, count=_PAGE)}
        for job, died_ms in sorted(found.items(), key=lambda item: (item[1], item[0])):
            yield DeadJob(job=job, died_ms=died_ms)

    def trail(self, job: str) -> list[Step]:
        """Return what a job that is or was not plain went through, oldest first."""
        return [_step(orjson.loads(body)) for body in self._client.lrange(self._keys.trail(job), 0, -1)]


def _reason(code: int) -> Reason | None:
    return REASONS[code - 1] if code else None


def _step(facts: dict[str, Any]) -> Step:
    said = facts["said"] or {}
    return Step(**facts | {"state": STATE_OF_CODE[facts["state"]], "reason": _reason(facts["reason"]), "said": said})
