"""Maintenance: the hours in which a platform has asked not to be called."""

from datetime import datetime, time, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

_ZONE: Final = ZoneInfo("Asia/Shanghai")
_WEEK: Final = 7


class Maintenance(BaseModel):
    """A window that comes again: from `start` to `end`, Asia/Shanghai, on `days` (1 is Monday).

    A window whose end is before its start lasts until the next day.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: time
    end: time
    days: Annotated[tuple[Annotated[int, Field(ge=1, le=7)], ...], Field(min_length=1, max_length=7)] = tuple(
        range(1, _WEEK + 1)
    )

    @model_validator(mode="after")
    def _has_a_length(self) -> "Maintenance":
        if self.start == self.end:
            raise ValueError("start and end are the same")
        if self.start.tzinfo or self.end.tzinfo:
            raise ValueError("times are Asia/Shanghai and carry no offset")
        return self

    def around(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the window that `now` lies in, or the next one."""
        today = now.astimezone(_ZONE).date()
        for offset in range(-1, _WEEK + 1):
            day = today + timedelta(days=offset)
            if day.isoweekday() not in self.days:
                continue
            start = datetime.combine(day, self.start, _ZONE)
            end = datetime.combine(day + timedelta(days=self.end < self.start), self.end, _ZONE)
            if end > now:
                return start, end
        raise AssertionError("every week has each of its days")


def next_window(windows: tuple[Maintenance, ...], now: datetime) -> tuple[datetime, datetime] | None:
    """Return the window that `now` lies in, or the next of all; where several hold now, the one that ends last."""
    found = [window.around(now) for window in windows]
    holding = [window for window in found if window[0] <= now]
    if holding:
        return max(holding, key=lambda window: window[1])
    return min(found, default=None)
