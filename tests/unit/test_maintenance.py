"""Maintenance windows: the hours in which a platform has asked not to be called."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from platforms.maintenance import Maintenance, next_window

SHANGHAI = ZoneInfo("Asia/Shanghai")
NIGHT = Maintenance(start=time(23, 30), end=time(1, 0))
TIMES = st.times().map(lambda t: t.replace(second=0, microsecond=0))
DAYS = st.lists(st.integers(1, 7), min_size=1, max_size=7, unique=True).map(tuple)
WINDOWS = (
    st.tuples(TIMES, TIMES, DAYS)
    .filter(lambda w: w[0] != w[1])
    .map(lambda w: Maintenance(start=w[0], end=w[1], days=w[2]))
)
INSTANTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001


def shanghai(day: int, hour: int, minute: int = 0) -> datetime:
    """An instant of November 2026; the 1st is a Sunday."""
    return datetime(2026, 11, day, hour, minute, tzinfo=SHANGHAI)


def test_a_window_over_midnight_holds_on_both_sides() -> None:
    """Platforms do their work at night."""
    window = (shanghai(3, 23, 30), shanghai(4, 1))
    assert window == NIGHT.around(shanghai(3, 23, 45))
    assert window == NIGHT.around(shanghai(4, 0, 59))
    assert window == NIGHT.around(shanghai(3, 12))
    assert (shanghai(4, 23, 30), shanghai(5, 1)) == NIGHT.around(shanghai(4, 1))


def test_a_window_of_some_days_is_looked_up_in_the_next_week_too() -> None:
    """Sundays only: on a Monday the next one is six days off."""
    sunday = Maintenance(start=time(2), end=time(4), days=(7,))
    assert (shanghai(8, 2), shanghai(8, 4)) == sunday.around(shanghai(2, 9))
    assert (shanghai(8, 2), shanghai(8, 4)) == sunday.around(shanghai(1, 4))


def test_of_windows_that_hold_together_the_longest_counts() -> None:
    """Else the platform would be called in the middle of the longer one."""
    short, long = Maintenance(start=time(2), end=time(3)), Maintenance(start=time(1), end=time(6))
    assert (shanghai(2, 1), shanghai(2, 6)) == next_window((short, long), shanghai(2, 2, 30))
    assert (shanghai(3, 1), shanghai(3, 6)) == next_window((short, long), shanghai(2, 7))
    assert next_window((), shanghai(2, 7)) is None


@given(window=WINDOWS, now=INSTANTS)
def test_the_window_found_is_not_over_and_none_is_missed(window: Maintenance, now: datetime) -> None:
    """A window that is skipped is a platform called in its maintenance."""
    start, end = window.around(now)
    assert now < end
    assert timedelta(0) < end - start <= timedelta(days=1)
    assert start.isoweekday() in window.days
    assert start - now <= timedelta(days=7)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": "02:00", "end": "02:00"}, "the same"),
        ({"start": "02:00+08:00", "end": "03:00"}, "no offset"),
        ({"start": "02:00", "end": "03:00", "days": [0]}, "greater than or equal to 1"),
        ({"start": "02:00", "end": "03:00", "days": []}, "at least 1"),
        ({"start": "25:00", "end": "03:00"}, "time"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(fields: dict[str, object], said: str) -> None:
    """The catalogue's author is told which field is wrong."""
    with pytest.raises(ValidationError, match=said):
        Maintenance.model_validate(fields)
