"""Capacity: what the stores know that a forecast needs, and what became of a run beside what was to be expected."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from backends.bootstrap import Backends
from backends.runs import Counters
from backends.store import CaseView
from ops.inspector import Inspector
from platforms.catalogue import Catalogue
from platforms.model import Platform
from producers.forecast import Forecast, House, Standing
from producers.foresight import foresee
from producers.hindsight import Actuals, Hindsight, look_back
from schemas.result import LATENCY_BOUNDS_MS

_WALL: Final = ZoneInfo("Asia/Shanghai")
_PAGE: Final = 500
# Calls before which the mean of a platform's latencies says little.
_CALLS_MIN: Final = 20


def standings(
    backends: Backends, catalogue: Catalogue, *, used_today: Mapping[str, int] | None = None
) -> dict[str, Standing]:
    """Return where each platform stands now: what is still open, and how long its calls have lasted so far."""
    queued, used = _open_jobs(backends), used_today or {}
    counted = backends.runs.platform_counters([platform.key for platform in catalogue])
    return {
        platform.key: Standing(
            used_today=used.get(platform.key, 0),
            queued=queued[platform.key],
            call_s=_call_s(platform, counted[platform.key]),
        )
        for platform in catalogue
    }


def foresee_numbers(
    catalogue: Catalogue,
    count: int,
    *,
    release: date,
    start: datetime,
    length: timedelta,
    house: House,
    now: Mapping[str, Standing],
) -> Forecast:
    """Foresee a night in which so many numbers are renewed at every platform of the catalogue."""
    jobs = {platform.key: {release: count} for platform in catalogue}
    return foresee(catalogue, jobs, start=start, until=start + length, house=house, standings=now)


def look_back_at(backends: Backends, catalogue: Catalogue, run: str, *, length: timedelta, house: House) -> Hindsight:
    """Foresee a run as if it lay ahead, on empty queues, and compare with what became of it. Raises NotFound."""
    start = datetime.fromtimestamp(backends.runs.facts([run])[0].started_s, UTC)
    actuals = Actuals(until=start + length)
    jobs: dict[str, Counter[date]] = {}
    for case in _own_cases(Inspector(backends, catalogue), run):
        release = datetime.fromisoformat(case.cutoff_at).astimezone(_WALL).date()
        for platform in case.platforms:
            actuals.add(platform, case.record(platform))
            jobs.setdefault(platform, Counter())[release] += 1
    known = {platform.key: platform for platform in catalogue}
    asked = [known[key] for key in jobs if key in known]
    counted = backends.runs.platform_counters([platform.key for platform in asked])
    measured = {platform.key: Standing(call_s=_call_s(platform, counted[platform.key])) for platform in asked}
    found = foresee(asked, jobs, start=start, until=start + length, house=house, standings=measured)
    return look_back(found, actuals.found())


def look_back_on(backends: Backends, catalogue: Catalogue, run: str, *, forecast: Forecast) -> Hindsight:
    """Compare what was foreseen of a run with what has become of it so far."""
    actuals = Actuals(until=forecast.until)
    for case in _own_cases(Inspector(backends, catalogue), run):
        for platform in case.platforms:
            actuals.add(platform, case.record(platform))
    return look_back(forecast, actuals.found())


def _own_cases(inspector: Inspector, run: str) -> Iterator[CaseView]:
    return (case for case in inspector.run_cases(run) if case.run == run)


def _call_s(platform: Platform, counters: Counters) -> float | None:
    """Return how long a call lasted in the mean, each taken for as long as its bucket allows."""
    bounds = [*(bound / 1000 for bound in LATENCY_BOUNDS_MS), platform.limits.timeout_s]
    counts = [counters.get(f"latency:{bucket}") for bucket in range(len(bounds))]
    if sum(counts) < _CALLS_MIN:
        return None
    return sum(count * bound for count, bound in zip(counts, bounds, strict=True)) / sum(counts)


def _open_jobs(backends: Backends) -> Counter[str]:
    """Count what waits and what is in custody, by platform; a batch that passes over meanwhile may count twice."""
    found: Counter[str] = Counter()
    for body in backends.waiting.bodies():
        found += _jobs_in(orjson.loads(body)["batch"])
    page: list[str] = []
    for entry in backends.custody.every():
        page.append(entry.batch)
        if len(page) == _PAGE:
            found += _in_custody(backends, page)
            page = []
    return found + _in_custody(backends, page)


def _in_custody(backends: Backends, batches: list[str]) -> Counter[str]:
    return sum((_jobs_in(orjson.loads(body)) for body in backends.custody.bodies(batches).values()), Counter[str]())


def _jobs_in(batch: dict[str, Any]) -> Counter[str]:
    return Counter({str(batch["platform"]): len(batch["jobs"])})
