"""What is still owed: open jobs by when their clock started. Reads indexes that `record.lua` keeps; changes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from redis import Redis

from backends.connect import text
from backends.keys import Keys

_PAGE: Final = 500


class Owed:
    """Looks at accepted jobs by time, and at cases by when they were taken in."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def accepted(self, until_ms: Mapping[str, int]) -> dict[str, int]:
        """Count, for each platform, the jobs it has accepted that were first sent until then."""
        pipe = self._client.pipeline(transaction=False)
        for platform, ms in until_ms.items():
            pipe.zcount(self._keys.accepted(platform), "-inf", ms)
        return dict(zip(until_ms, pipe.execute(), strict=True))

    def oldest(self, platform: str, *, until_ms: int, at_most: int) -> list[tuple[str, int]]:
        """Return accepted jobs with when they were first sent, the oldest first."""
        found: Any = self._client.zrange(
            self._keys.accepted(platform), "-inf", until_ms, byscore=True, offset=0, num=at_most, withscores=True
        )
        return [(text(job), int(score)) for job, score in found]

    def walk(self, platform: str, *, until_ms: int) -> Iterator[list[str]]:
        """Yield accepted jobs that were first sent until then, a page at a time, in no order.

        A scan and not pages by place: jobs leave while they are read, and a place would then skip one.
        """
        page: list[str] = []
        for job, score in self._client.zscan_iter(self._keys.accepted(platform), count=_PAGE):
            if score <= until_ms:
                page.append(text(job))
            if len(page) >= _PAGE:
                yield page
                page = []
        if page:
            yield page

    def dead(self, until_ms: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """Count, for each platform and reason code, the dead letters that died until then."""
        pipe = self._client.pipeline(transaction=False)
        for (platform, code), ms in until_ms.items():
            pipe.zcount(self._keys.dead_at(platform, code), "-inf", ms)
        return dict(zip(until_ms, pipe.execute(), strict=True))

    def taken_in(self, cases: Sequence[str]) -> dict[str, int]:
        """Return when each of these cases was taken in, seconds; those that are not there are left out."""
        pipe = self._client.pipeline(transaction=False)
        for case in cases:
            pipe.hget(self._keys.case(case), "accepted")
        return {case: int(at) for case, at in zip(cases, pipe.execute(), strict=True) if at is not None}
