"""Answers that platforms still owe: jobs that they have accepted, by when each was first sent and when to ask again.

`record.lua` keeps both indexes; here they are read, and a worker says when to ask next.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from backends.scripts import script
from schemas.ids import split_job_id

_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """One job whose answer is to be asked for; `reference` is what its platform called it.

    `new` says that nobody has looked yet when that is due.
    """

    job: str
    first_sent: datetime
    reference: str | None
    new: bool


class ExpectedAnswers:
    """Reads the indexes of one platform at a time."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._take = script(client, "take_due")

    def count(self, platform: str) -> int:
        """How many answers the platform owes."""
        return int(self._client.zcard(self._keys.accepted(platform))) + int(
            self._client.zcard(self._keys.paused(platform))
        )

    def counts(self, until: Mapping[str, datetime]) -> dict[str, int]:
        """Count, for each platform, the jobs first sent until then whose clock has never stood still."""
        pipe = self._client.pipeline(transaction=False)
        for platform, latest in until.items():
            pipe.zcount(self._keys.accepted(platform), "-inf", _ms(latest))
        return dict(zip(until, pipe.execute(), strict=True))

    def paused(self, platform: str, *, until: datetime) -> Iterator[str]:
        """Yield the others: jobs first sent until then whose clock stands still, or has stood still; in no order."""
        # A scan and not pages by place: jobs leave while they are read, and a place would then skip one.
        for job, sent_ms in self._client.zscan_iter(self._keys.paused(platform), count=_PAGE):
            if sent_ms <= _ms(until):
                yield text(job)

    def paused_page(self, platform: str, cursor: int, *, until: datetime) -> tuple[int, list[str]]:
        """Return a part of `paused`, and where the next one begins; it begins at 0, and ends there."""
        answer: Any = self._client.zscan(self._keys.paused(platform), cursor=cursor, count=_PAGE)
        after, found = answer
        return int(after), [text(job) for job, sent_ms in found if sent_ms <= _ms(until)]

    def sent_until(self, platform: str, latest: datetime, *, at_most: int) -> list[str]:
        """Return jobs that were first sent at that instant or earlier, the oldest first.

        Those are left out whose clock has stood still, since the number's owner had to act: nobody can say by when they
        were sent that their time is over.
        """
        found: Any = patiently(
            lambda: self._client.zrange(
                self._keys.accepted(platform), "-inf", _ms(latest), byscore=True, offset=0, num=at_most
            )
        )
        return [text(job) for job in found]

    def take(self, platform: str, *, now: datetime, until: datetime, at_most: int) -> list[Owed]:
        """Return jobs that are to be asked about now; nobody else gets them before `until`."""
        args: list[Any] = [_ms(now), _ms(until), at_most]
        taken: Any = patiently(lambda: self._take(keys=[self._keys.polls(platform)], args=args))
        jobs = [text(job) for job in taken[::2]]
        if not jobs:
            return []
        running, paused, *said = patiently(lambda: self._about(platform, jobs))
        sent = [one if one is not None else other for one, other in zip(running, paused, strict=True)]
        return [
            Owed(
                job=job,
                first_sent=datetime.fromtimestamp(sent_ms / 1000, UTC),
                reference=orjson.loads(about or b"{}").get("reference"),
                new=not float(due),
            )
            for job, due, sent_ms, about in zip(jobs, taken[1::2], sent, said, strict=True)
            if sent_ms is not None
        ]

    def _about(self, platform: str, jobs: Sequence[str]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        pipe.zmscore(self._keys.accepted(platform), list(jobs))
        pipe.zmscore(self._keys.paused(platform), list(jobs))
        for job in jobs:
            pipe.hget(self._keys.details(split_job_id(job)[0]), platform)
        return list(pipe.execute())

    def ask_again(self, platform: str, due: Mapping[str, datetime]) -> None:
        """Say when to ask about these jobs next; one that was answered meanwhile stays out."""
        if due:
            scores = {job: _ms(at) for job, at in due.items()}
            patiently(lambda: self._client.zadd(self._keys.polls(platform), scores, xx=True))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
