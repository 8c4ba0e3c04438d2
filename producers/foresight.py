"""Foresight: how a night will go, from the catalogue, the jobs and the workers' own pace. Pure.

Jobs are seen as a fluid. A platform takes them at its own rate while its hours are open and its quota lasts, those of
the earliest release first. Where the workers together cannot keep pace with all platforms, each gets the same share,
and what a slow one leaves of its share goes to the others: batches go out platform by platform in turn, and what a
platform refuses waits in nobody's way. Faults, pauses and breakers are not foreseen.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from platforms.maintenance import next_window
from platforms.model import Platform
from producers.forecast import (
    CALL_S,
    HORIZON_DAYS,
    Forecast,
    House,
    Limit,
    PlatformForecast,
    ReleaseForecast,
    ReleaseRisk,
    Standing,
    later,
)

_ZONE: Final = ZoneInfo("Asia/Shanghai")
_DAY_S: Final = 86_400.0
_SMALL: Final = 1e-6


def foresee(
    platforms: Iterable[Platform],
    jobs: Mapping[str, Mapping[date, int]],
    *,
    start: datetime,
    until: datetime,
    house: House | None = None,
    standings: Mapping[str, Standing] | None = None,
) -> Forecast:
    """Foresee a night: `jobs` are counts by platform and by date of release.

    A platform that is `settled_by` one without jobs here is asked itself. A release is at risk if a platform is done
    with it later than 00:00 Asia/Shanghai of its date. Raises ValueError for instants without an offset, or in the
    wrong order.
    """
    if start.tzinfo is None or until.tzinfo is None or until < start:
        raise ValueError("a night begins before it ends, and both are instants with an offset")
    house, standings = house or House(), standings or {}
    platforms = tuple(platforms)
    wanted = [platform for platform in platforms if sum(jobs.get(platform.key, {}).values())]
    chosen = {platform.key for platform in wanted}
    asked = {platform.key for platform in wanted if platform.settled_by is None}
    lanes = [
        _Lane(platform, jobs.get(platform.key, {}), start=start, house=house, standing=standing)
        for platform, standing in ((platform, standings.get(platform.key, Standing())) for platform in platforms)
        # One without jobs of this night may still be busy with those of earlier, and keep the house busy.
        if (platform.key in chosen or standing.queued) and platform.settled_by not in asked
    ]
    _Night(lanes, start=start, length_s=(until - start).total_seconds()).pass_by()
    led = {lane.platform.key: lane.result() for lane in lanes}
    found = tuple(
        led.get(platform.key) or _follow(platform.key, jobs[platform.key], leader=led[platform.settled_by or ""])
        for platform in wanted
    )
    return Forecast(start=start, until=until, house=house, platforms=found, at_risk=tuple(_risks(found)))


def rate_jobs_per_s(platform: Platform, *, call_s: float | None = None) -> float:
    """Return how many jobs a second a platform takes at most: by its rate, and by its calls in flight."""
    limits = platform.limits
    lasts_s = max(min(limits.timeout_s, CALL_S if call_s is None else call_s), _SMALL)
    calls_per_s = min(limits.calls_per_s, limits.in_flight / lasts_s)
    return calls_per_s * (1 if platform.protocol == "json" else limits.items_per_call)


class _Lane:
    """One platform on its way through the night; times are seconds after its start."""

    def __init__(
        self, platform: Platform, jobs: Mapping[date, int], *, start: datetime, house: House, standing: Standing
    ) -> None:
        self.platform = platform
        self.rate = rate_jobs_per_s(platform, call_s=standing.call_s)
        self.cost_s = house.cost_s(platform)
        self.turns_s = 0.0  # when its hours have to be looked at again
        self._start = start
        self._jobs = {release: jobs[release] for release in sorted(jobs) if jobs[release]}
        self._ahead, self._done, self._sent = standing.queued, 0.0, 0.0
        self._total = self._ahead + sum(self._jobs.values())
        self._quota_left = math.inf
        self._closed: Limit | None = None
        self._lost: dict[Limit, float] = dict.fromkeys(Limit, 0.0)
        self._ends_s: dict[date, float] = {}
        self.renew_quota(used=standing.used_today)

    @property
    def left(self) -> float:
        """How many jobs are still to be sent."""
        return self._total - self._done

    @property
    def closed(self) -> Limit | None:
        """What lets nothing pass now."""
        return self._closed if self._quota_left else Limit.QUOTA

    @property
    def passes(self) -> float:
        """How many jobs can pass before something changes by itself."""
        return min(self.left, self._quota_left)

    def renew_quota(self, *, used: int = 0) -> None:
        """Begin a day."""
        quota = self.platform.limits.jobs_per_day
        if quota is not None:
            self._quota_left = float(max(0, quota - used))

    def look(self, at_s: float) -> None:
        """See whether its hours are open, and until when that holds."""
        now = self._start + timedelta(seconds=at_s)
        ends = []
        self._closed = None
        hours, maintenance = (next_window(each, now) for each in (self.platform.bulk_hours, self.platform.maintenance))
        if maintenance is not None:
            if maintenance[0] <= now:
                self._closed = Limit.MAINTENANCE
            ends.append(maintenance[maintenance[0] <= now])
        if hours is not None:
            if hours[0] > now:
                self._closed = Limit.HOURS
            ends.append(hours[hours[0] <= now])
        self.turns_s = min(((end - self._start).total_seconds() for end in ends), default=math.inf)

    def go_on(self, at_s: float, *, seconds: float, pace: float, in_the_night: bool) -> None:
        """Let so many seconds pass, with so many jobs in each of them."""
        if in_the_night:
            self._lost[self.closed or Limit.HOUSE] += (self.rate - pace) * seconds
        if not pace:
            return
        before = self._done
        self._done = _snapped(before + pace * seconds, self._total)
        self._quota_left = _snapped(self._quota_left - (self._done - before), 0.0)
        reached = float(self._ahead)
        for release, count in self._jobs.items():
            reached += count
            if self._done >= reached and release not in self._ends_s:
                self._ends_s[release] = at_s + max(0.0, reached - before) / pace
        if in_the_night:
            self._sent = self._done

    def result(self) -> PlatformForecast:
        """Return what came of it."""
        sent = max(0, math.floor(self._sent + _SMALL) - self._ahead)
        releases, rest = [], sent
        for release, count in self._jobs.items():
            end_s = self._ends_s.get(release)
            done_at = None if end_s is None else self._start + timedelta(seconds=math.ceil(end_s - _SMALL))
            releases.append(ReleaseForecast(release=release, jobs=count, sent=min(rest, count), done_at=done_at))
            rest -= releases[-1].sent
        jobs = sum(self._jobs.values())
        return PlatformForecast(
            platform=self.platform.key,
            jobs=jobs,
            sent=sent,
            done_at=_last(releases),
            spilled_by=_blamed(jobs - sent, self._lost, left=self._total - self._sent),
            releases=tuple(releases),
        )


class _Night:
    """All platforms beside each other, from one change to the next."""

    def __init__(self, lanes: Sequence[_Lane], *, start: datetime, length_s: float) -> None:
        self._lanes = sorted(lanes, key=lambda lane: lane.rate)
        self._length_s = length_s
        tomorrow = start.astimezone(_ZONE).date() + timedelta(days=1)
        self._midnight_s = (datetime.combine(tomorrow, time(), _ZONE) - start).total_seconds()

    def pass_by(self) -> None:
        """Go on until all is sent, or HORIZON_DAYS are over."""
        at_s = 0.0
        while at_s < HORIZON_DAYS * _DAY_S and (busy := [lane for lane in self._lanes if lane.left]):
            if at_s >= self._midnight_s:
                self._midnight_s += _DAY_S
                for lane in busy:
                    lane.renew_quota()
            for lane in busy:
                if at_s >= lane.turns_s:
                    lane.look(at_s)
            passing = [lane for lane in busy if lane.closed is None]
            level = _level(passing)
            changes = [self._midnight_s, *(lane.turns_s for lane in busy)]
            changes += [self._length_s] if at_s < self._length_s else []
            # A change that floating point puts at this very moment must not hold the time still.
            seconds = max(min(changes) - at_s, _SMALL)
            seconds = min([seconds, *(lane.passes / min(lane.rate, level) for lane in passing)])
            for lane in busy:
                pace = 0.0 if lane.closed else min(lane.rate, level)
                lane.go_on(at_s, seconds=seconds, pace=pace, in_the_night=at_s < self._length_s)
            at_s += seconds


def _level(lanes: Sequence[_Lane]) -> float:
    """Return the most jobs a second that each may have, so that all together fit into the house; slowest first."""
    free, cost_s = 1.0, sum(lane.cost_s for lane in lanes)
    for lane in lanes:
        if lane.rate * cost_s >= free:
            return free / cost_s
        free -= lane.rate * lane.cost_s
        cost_s -= lane.cost_s
    return math.inf


def _snapped(value: float, goal: float) -> float:
    """Return the value, or the goal where only rounding is between them."""
    return goal if abs(value - goal) < _SMALL else value


def _blamed(spilled: int, lost: Mapping[Limit, float], *, left: float) -> dict[Limit, int]:
    """Share what spilled out among what held it back, by the jobs that each cost; what is left of it is RATE."""
    if not spilled:
        return {}
    shares = {limit: loss for limit, loss in lost.items() if loss > _SMALL}
    shares[Limit.RATE] = max(shares.get(Limit.RATE, 0.0), left - sum(shares.values()))
    whole = sum(shares.values())
    exact = {limit: spilled * share / whole for limit, share in shares.items()}
    counts = {limit: math.floor(share) for limit, share in exact.items()}
    nearest = sorted(exact, key=lambda limit: (counts[limit] - exact[limit], limit))
    for limit in nearest[: spilled - sum(counts.values())]:
        counts[limit] += 1
    return {limit: counts[limit] for limit in Limit if counts.get(limit)}


def _follow(key: str, jobs: Mapping[date, int], *, leader: PlatformForecast) -> PlatformForecast:
    """Return a platform whose jobs are settled by the answers of another."""
    led = {each.release: each for each in leader.releases}
    releases = tuple(
        ReleaseForecast(
            release=release,
            jobs=jobs[release],
            # Of those that the leader has not been asked about by then, as many are ours as of all.
            sent=jobs[release] * led[release].sent // led[release].jobs if release in led else 0,
            done_at=led[release].done_at if release in led else None,
        )
        for release in sorted(jobs)
        if jobs[release]
    )
    total, sent = sum(each.jobs for each in releases), sum(each.sent for each in releases)
    return PlatformForecast(
        platform=key,
        jobs=total,
        sent=sent,
        done_at=_last(releases),
        spilled_by=_blamed(total - sent, {limit: float(n) for limit, n in leader.spilled_by.items()}, left=1.0),
        releases=releases,
        settled_by=leader.platform,
    )


def _risks(platforms: Sequence[PlatformForecast]) -> Iterator[ReleaseRisk]:
    late: dict[date, list[tuple[str, ReleaseForecast]]] = {}
    for platform in platforms:
        for each in platform.releases:
            if each.done_at is None or each.done_at > datetime.combine(each.release, time(), _ZONE):
                late.setdefault(each.release, []).append((platform.platform, each))
    for release, found in sorted(late.items()):
        found.sort(key=lambda pair: (later(pair[1].done_at), pair[0]))
        yield ReleaseRisk(
            release=release,
            jobs_late=sum(each.jobs for _, each in found),
            done_at=_last([each for _, each in found]),
            platforms=tuple(key for key, _ in found),
        )


def _last(releases: Sequence[ReleaseForecast]) -> datetime | None:
    ends = [each.done_at for each in releases]
    return max((end for end in ends if end is not None), default=None) if all(ends) else None
