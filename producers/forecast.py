"""Forecast: before a night begins, when each platform will be done with it, and what is left over and why. Pure.

`producers/foresight.py` makes it, `producers/hindsight.py` compares it with what happened.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from platforms.model import Platform

# Jobs a second that two cores did, the simulated platforms among them: a whole night of bulk jobs (`make night`), and
# single calls by `requests`. See benchmarks/README.md.
BULK_JOBS_PER_S: Final = 47_000.0
SINGLE_JOBS_PER_S: Final = 1_403.0
# How long a call of a platform is taken to last of which nothing is known yet; never longer than its time-out.
CALL_S: Final = 1.0
# What takes longer is no matter of a night: its end is not looked for.
HORIZON_DAYS: Final = 31
ROW_FIELDS: Final = ("platform", "jobs", "done_at", "spill", "why")
RISK_FIELDS: Final = ("release", "jobs_late", "done_at", "platforms")
_LATE_SHOWN_MAX: Final = 5


class Limit(StrEnum):
    """What keeps a job from being sent in the night."""

    QUOTA = "quota"  # jobs_per_day are used up
    HOURS = "hours"  # outside bulk_hours
    MAINTENANCE = "maintenance"
    HOUSE = "house"  # the workers together are busy with other platforms
    RATE = "rate"  # calls_per_s, or in_flight, of the platform itself


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the workers together do a second: jobs of bulk platforms alone, jobs of single-call platforms alone."""

    bulk_jobs_per_s: float = BULK_JOBS_PER_S
    single_jobs_per_s: float = SINGLE_JOBS_PER_S

    def cost_s(self, platform: Platform) -> float:
        """Return how much of the house's time one job of a platform takes."""
        return 1 / (self.single_jobs_per_s if platform.protocol == "json" else self.bulk_jobs_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a platform stands when the night begins. `call_s` is how long its calls last, None where not measured."""

    used_today: int = 0  # jobs of the bulk lane that were sent since 00:00 Asia/Shanghai
    queued: int = 0  # open jobs of earlier: they go first
    call_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseForecast:
    """The jobs of one release date at one platform: how many are sent in the night, and when all are."""

    release: date
    jobs: int
    sent: int
    done_at: datetime | None  # None: not within HORIZON_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformForecast:
    """One platform: `jobs` = `sent` in the night + `spilled`, and `spilled_by` adds up to `spilled`.

    With `settled_by` it is not asked: its jobs are settled by the answers of that platform.
    """

    platform: str
    jobs: int
    sent: int
    done_at: datetime | None
    spilled_by: dict[Limit, int]
    releases: tuple[ReleaseForecast, ...]
    settled_by: str | None = None

    @property
    def spilled(self) -> int:
        """How many jobs are left for the next night."""
        return self.jobs - self.sent

    @property
    def why(self) -> Limit | None:
        """What holds most of them back."""
        return max(self.spilled_by, key=lambda limit: self.spilled_by[limit], default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRisk:
    """A release date that begins before every platform has been asked; the latest of the late platforms first."""

    release: date
    jobs_late: int
    done_at: datetime | None
    platforms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A night from `start` to `until`. Work goes on after `until`: what is done then has spilled."""

    start: datetime
    until: datetime
    house: House
    platforms: tuple[PlatformForecast, ...]
    at_risk: tuple[ReleaseRisk, ...]

    @property
    def jobs(self) -> int:
        """All jobs."""
        return sum(each.jobs for each in self.platforms)

    @property
    def spilled(self) -> int:
        """All jobs that are left for the next night."""
        return sum(each.spilled for each in self.platforms)

    @property
    def done_at(self) -> datetime | None:
        """When the last platform is done; None if one is not within HORIZON_DAYS, or without any job."""
        ends = [each.done_at for each in self.platforms]
        return max((end for end in ends if end is not None), default=None) if all(ends) else None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the platforms as a table shows them, see ROW_FIELDS; the last to be done first."""
        for each in sorted(self.platforms, key=lambda each: (later(each.done_at), each.platform)):
            via = f"with {each.settled_by}" if each.settled_by else None
            yield {
                "platform": each.platform,
                "jobs": each.jobs,
                "done_at": instant(each.done_at),
                "spill": each.spilled,
                "why": ", ".join(filter(None, (each.why, via))) or None,
            }

    def risk_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the release dates at risk as a table shows them, see RISK_FIELDS; the earliest first."""
        for risk in self.at_risk:
            more = len(risk.platforms) - _LATE_SHOWN_MAX
            yield {
                "release": risk.release.isoformat(),
                "jobs_late": risk.jobs_late,
                "done_at": instant(risk.done_at),
                "platforms": ", ".join(risk.platforms[:_LATE_SHOWN_MAX]) + (f" and {more} more" if more > 0 else ""),
            }

    def to_json(self) -> bytes:
        """Return it as it is stored with a night."""
        return orjson.dumps(self, option=orjson.OPT_NON_STR_KEYS)

    @staticmethod
    def from_json(body: bytes) -> "Forecast":
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        return _STORED.validate_json(body)


_STORED: Final = TypeAdapter(Forecast)


def later(done_at: datetime | None) -> float:
    """Order by the end, the latest first; what has none is later than all."""
    return -math.inf if done_at is None else -done_at.timestamp()


def instant(value: datetime | None) -> str | None:
    """Return an instant as rows say it: UTC, to the second."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if value else None
