"""Hindsight: what a forecast said, beside what happened. Pure."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from producers.forecast import Forecast, PlatformForecast, instant
from schemas.record import JobRecord
from schemas.state import DISPATCHER_STATES

ROW_FIELDS: Final = ("platform", "jobs", "forecast_done_at", "done_at", "late_s", "forecast_spill", "spill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """What became of a night's jobs at one platform: those done in the night, those done later, those still open."""

    in_time: int = 0
    after: int = 0
    open: int = 0
    done_at: datetime | None = None  # of the last one that is done

    @property
    def jobs(self) -> int:
        """All jobs."""
        return self.in_time + self.after + self.open


class Actuals:
    """Adds up the records of a night, job by job."""

    def __init__(self, *, until: datetime) -> None:
        self._until_s = until.timestamp()
        self._counts: dict[str, list[int]] = {}

    def add(self, platform: str, record: JobRecord) -> None:
        """Count one job. Done is what the dispatcher has no more to do about, also by a dead letter."""
        in_time, after, open_jobs, last_s = self._counts.get(platform, (0, 0, 0, 0))
        if record.state in DISPATCHER_STATES:
            open_jobs += 1
        else:
            # What a platform has accepted but not answered has no end yet: it was sent.
            done_s = record.settled_s or record.first_sent_s
            in_time, after = (in_time + 1, after) if done_s <= self._until_s else (in_time, after + 1)
            last_s = max(last_s, done_s)
        self._counts[platform] = [in_time, after, open_jobs, last_s]

    def found(self) -> dict[str, Actual]:
        """Return what was counted so far, by platform."""
        return {
            platform: Actual(
                in_time=in_time,
                after=after,
                open=open_jobs,
                done_at=datetime.fromtimestamp(last_s, UTC) if last_s else None,
            )
            for platform, (in_time, after, open_jobs, last_s) in self._counts.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformHindsight:
    """One platform, as foreseen and as it was."""

    forecast: PlatformForecast
    actual: Actual

    @property
    def late_s(self) -> int | None:
        """How much later than foreseen it was done, less than 0 if earlier; None while either has no end."""
        if self.actual.open or self.actual.done_at is None or self.forecast.done_at is None:
            return None
        return round((self.actual.done_at - self.forecast.done_at).total_seconds())

    @property
    def spill(self) -> int:
        """How many of the forecast's jobs were not done in the night."""
        return self.actual.after + self.actual.open

    @property
    def wrong_jobs(self) -> int:
        """How many jobs more spilled than foreseen, less than 0 if fewer."""
        return self.spill - self.forecast.spilled

    @property
    def how_wrong(self) -> tuple[int, float]:
        """Order by how wrong the forecast was: first by jobs on the wrong side of the night's end, then by time.

        One that is open against the forecast is worse than any that is late.
        """
        unforeseen = self.late_s is None and (self.actual.open > 0) == (self.forecast.done_at is not None)
        return abs(self.wrong_jobs), math.inf if unforeseen else abs(self.late_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindsight:
    """A night, platform by platform."""

    forecast: Forecast
    platforms: tuple[PlatformHindsight, ...]

    @property
    def error_pct(self) -> float | None:
        """By how much of the foreseen duration the whole night ended late (below 0: early); None while it is open."""
        ends = [each.actual.done_at for each in self.platforms if each.actual.done_at is not None]
        foreseen = self.forecast.done_at
        if not ends or foreseen is None or any(each.actual.open for each in self.platforms):
            return None
        lasted_s = (foreseen - self.forecast.start).total_seconds()
        return 100 * (max(ends) - foreseen).total_seconds() / lasted_s if lasted_s else None

    @property
    def wrong_jobs(self) -> int:
        """How many jobs of all platforms were on the other side of the night's end than foreseen."""
        return sum(abs(each.wrong_jobs) for each in self.platforms)

    def worst_first(self) -> list[PlatformHindsight]:
        """Return the platforms about which the forecast was most wrong first."""
        return sorted(self.platforms, key=lambda each: (each.how_wrong, each.forecast.platform), reverse=True)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the platforms as a table shows them, see ROW_FIELDS; the worst first."""
        for each in self.worst_first():
            yield {
                "platform": each.forecast.platform,
                "jobs": each.actual.jobs,
                "forecast_done_at": instant(each.forecast.done_at),
                "done_at": None if each.actual.open else instant(each.actual.done_at),
                "late_s": each.late_s,
                "forecast_spill": each.forecast.spilled,
                "spill": each.spill,
            }


def look_back(forecast: Forecast, actual: Mapping[str, Actual]) -> Hindsight:
    """Return what the forecast got wrong. A platform that nothing is counted of has all its jobs open."""
    return Hindsight(
        forecast=forecast,
        platforms=tuple(
            PlatformHindsight(forecast=each, actual=actual.get(each.platform, Actual(open=each.jobs)))
            for each in forecast.platforms
        ),
    )
