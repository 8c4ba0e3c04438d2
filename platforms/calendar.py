"""Working days of mainland China: the State Council's yearly notices as data, and when so many days are over.

The start day is not counted, and a day ends at 24:00 Asia/Shanghai (requirement 12). Nothing that is computed here is
stored: a year's file that is added moves the dates of that year, and clears their flag (requirement 13).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from platforms.model import Sla
from platforms.yaml_file import load
from schemas.errors import ConfigurationError

ZONE: Final = ZoneInfo("Asia/Shanghai")
FOLDER: Final = Path(str(files("platforms"))) / "holidays"
_ONE_DAY: Final = timedelta(days=1)
_SATURDAY: Final = 6
# A notice may move days before its own year: that of 2019 made Saturday, 29 December 2018, a working day.
_NEXT_NOTICE_MONTH, _NEXT_NOTICE_DAY = 12, 28
_Text = Annotated[str, StringConstraints(min_length=1, max_length=120)]
_Date = Annotated[date, Field(strict=True)]
# When the clock stood still: from, until.
Pause = tuple[datetime, datetime]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Strict):
    """The document that a year's file repeats."""

    document: _Text
    number: _Text
    issued_on: _Date
    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=300)]


class Holiday(_Strict):
    """Days off in a row, weekends among them; `first` and `last` are both off."""

    name: _Text
    first: _Date
    last: _Date

    @property
    def days(self) -> Iterator[date]:
        """Each of its days."""
        return (self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1))


class Year(_Strict):
    """One year's notice. `version` is raised whenever the file is corrected.

    Its days lie in its own year or in the last days of December before.
    """

    year: Annotated[int, Field(ge=2000, le=2100)]
    version: Annotated[int, Field(ge=1)]
    source: Source
    holidays: Annotated[tuple[Holiday, ...], Field(min_length=1, max_length=20)]
    working_weekends: Annotated[tuple[_Date, ...], Field(max_length=30)] = ()

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        first = date(self.year - 1, _NEXT_NOTICE_MONTH, _NEXT_NOTICE_DAY)
        off: set[date] = set()
        for place, holiday in enumerate(self.holidays):
            if not first <= holiday.first <= holiday.last <= date(self.year, 12, 31):
                raise ValueError(f"holidays.{place}: expected first and last in order, and in {self.year}")
            if off.intersection(holiday.days):
                raise ValueError(f"holidays.{place}: overlaps another holiday")
            off.update(holiday.days)
        for place, day in enumerate(self.working_weekends):
            if not first <= day <= date(self.year, 12, 31) or day.isoweekday() < _SATURDAY or day in off:
                raise ValueError(
                    f"working_weekends.{place}: expected a Saturday or Sunday of {self.year} outside the holidays"
                )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """When a promise ends. `provisional` says that a day on the way has no published calendar yet."""

    at: datetime
    provisional: bool


class WorkingDays:
    """Which days are worked. A year without a file is Monday to Friday, and what rests on it is provisional."""

    def __init__(self, years: Sequence[Year]) -> None:
        self.years = tuple(sorted(years, key=lambda year: year.year))
        self._known = frozenset(year.year for year in self.years)
        # A later notice has the last word on a day that two of them name.
        self._said: dict[date, bool] = {}
        for year in self.years:
            self._said |= {day: False for holiday in year.holidays for day in holiday.days}
            self._said |= dict.fromkeys(year.working_weekends, True)

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Self:
        """Read every `cn-<year>.yaml` of a folder. Raises ConfigurationError that names each wrong file and field."""
        years: list[Year] = []
        problems: list[str] = []
        for path in sorted(folder.glob("*.yaml")):
            try:
                year = load(path, Year)
            except ConfigurationError as error:
                problems.append(str(error))
                continue
            years.append(year)
            if path.stem != f"cn-{year.year}":
                problems.append(f"{path}: year: does not fit the file's name, expected cn-<year>.yaml")
        if problems:
            raise ConfigurationError("\n".join(problems))
        return cls(years)

    def is_working(self, day: date) -> bool:
        """Whether a day is worked, as far as it is known."""
        return self._said.get(day, day.isoweekday() < _SATURDAY)

    def is_provisional(self, day: date) -> bool:
        """Whether a notice that is not here yet may still change the day."""
        if day.year not in self._known:
            return True
        last_days = (day.month, day.day) >= (_NEXT_NOTICE_MONTH, _NEXT_NOTICE_DAY)
        return last_days and day.year + 1 not in self._known

    def due(self, started: datetime, working_days: int, *, paused: Sequence[Pause] = ()) -> Due:
        """Return when so many working days are over that began at `started`; 0 is the end of the same day.

        A day on which the clock stood still, if only for a moment, does not count.
        """
        still = {day for pause in paused for day in _days_of(pause)}
        day = started.astimezone(ZONE).date()
        provisional, left = False, working_days or int(day in still)
        while left:
            day += _ONE_DAY
            provisional = provisional or self.is_provisional(day)
            left -= self.is_working(day) and day not in still
        return Due(at=_end_of(day), provisional=provisional)

    def latest_start(self, now: datetime, working_days: int) -> datetime:
        """Return the latest start that is due by `now`, to the microsecond; whoever began later has time left."""
        day = now.astimezone(ZONE).date() - _ONE_DAY
        left = working_days
        while left:
            left -= self.is_working(day)
            day -= _ONE_DAY
        return _end_of(day) - datetime.resolution

    # -- by contract ----------------------------------------------------------------------------------------------

    def due_of(self, sla: Sla, started: datetime, *, paused: Sequence[Pause] = ()) -> Due:
        """Return when a contract's time is over: after working days, or to the minute where it says so."""
        if sla.minutes is None:
            return self.due(started, sla.working_days, paused=paused)
        stood = sum((until - max(since, started) for since, until in paused if until > started), timedelta())
        return Due(at=started + timedelta(minutes=sla.minutes) + stood, provisional=False)

    def latest_start_of(self, sla: Sla, now: datetime) -> datetime:
        """Return the latest start that is due by `now` under this contract."""
        if sla.minutes is None:
            return self.latest_start(now, sla.working_days)
        return now - timedelta(minutes=sla.minutes)


def _end_of(day: date) -> datetime:
    return datetime.combine(day + _ONE_DAY, time(), ZONE)


def _days_of(pause: Pause) -> Iterator[date]:
    since, until = pause
    # Midnight is the end of the day before, not a moment of the next.
    last = max(since, until - datetime.resolution).astimezone(ZONE).date()
    day = since.astimezone(ZONE).date()
    while day <= last:
        yield day
        day += _ONE_DAY
