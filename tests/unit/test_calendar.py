"""The clock of a promise: working days of mainland China, honest about years that nobody has published yet."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import chinese_calendar
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from platforms.calendar import FOLDER, ZONE, WorkingDays
from platforms.model import Sla
from schemas.errors import ConfigurationError

# A year that is published later must not change what these tests say of a year that nobody has published.
DAYS = WorkingDays([year for year in WorkingDays.load().years if year.year <= 2026])
DAY = timedelta(days=1)
INSTANTS = st.datetimes(datetime(2023, 6, 1), datetime(2028, 6, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
COUNTS = st.integers(0, 60)


def at(text: str) -> datetime:
    """Return an instant of Shanghai."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


def day_of(due: datetime) -> date:
    """Return the day that ends at this moment."""
    assert 0 == due.hour == due.minute == due.second
    return (due - timedelta(seconds=1)).astimezone(ZONE).date()


def year_file(folder: Path, name: str = "cn-2027.yaml", **changes: Any) -> Path:
    """Write a year's file, changed so."""
    said = yaml.safe_load((FOLDER / "cn-2026.yaml").read_text(encoding="utf-8"))
    said |= {
        "year": 2027,
        "holidays": [{"name": "元旦", "first": date(2027, 1, 1), "last": date(2027, 1, 3)}],
        "working_weekends": [],
    }
    path = folder / name
    path.write_text(yaml.safe_dump(said | changes, allow_unicode=True), encoding="utf-8")
    return path


def test_every_day_is_the_one_that_the_published_calendar_says() -> None:
    """One wrong day in the data is a wrong deadline for every job that was under way on it."""
    day, wrong = date(2024, 1, 1), []
    while day < date(2027, 1, 1):
        if DAYS.is_working(day) is not chinese_calendar.is_workday(day):
            wrong.append(day)
        day += DAY
    assert [] == wrong


@pytest.mark.parametrize(
    ("started", "due"),
    [("2026-02-12", "2026-02-26"), ("2026-04-30", "2026-05-11"), ("2026-09-29", "2026-10-12"),
     ("2026-09-30", "2026-10-13")],
)  # fmt: skip
@pytest.mark.parametrize("hour", ["00:00", "09:30", "23:59"])
def test_five_working_days_end_on_the_reference_dates(started: str, due: str, hour: str) -> None:
    """Counting Monday to Friday would blame platforms at each long holiday (requirement 12)."""
    found = DAYS.due(at(f"{started}T{hour}"), 5)
    assert date.fromisoformat(due) == day_of(found.at)
    assert not found.provisional


def test_the_day_is_that_of_shanghai_whatever_the_offset_of_the_start() -> None:
    """Seventeen o'clock UTC is already the next day there, and so one day later due."""
    late = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)
    assert date(2026, 3, 4) == day_of(DAYS.due(late, 1).at)
    assert date(2026, 3, 3) == day_of(DAYS.due(late - timedelta(seconds=1), 1).at)


def test_no_working_days_are_the_same_day_even_if_it_is_free() -> None:
    """Real-time contracts hold on Sundays too."""
    assert at("2026-03-02T00:00") == DAYS.due(at("2026-03-01T10:00"), 0).at


def test_a_year_nobody_has_published_gives_a_date_and_says_that_it_may_move(tmp_path: Path) -> None:
    """A clock that stops at New Year is worse than one that says it guesses (requirement 13)."""
    started = at("2026-12-30T10:00")
    before = DAYS.due(started, 5)
    assert (date(2027, 1, 6), True) == (day_of(before.at), before.provisional)
    for year in (*sorted(FOLDER.glob("*.yaml")), year_file(tmp_path, "new.yaml")):
        (tmp_path / "years").mkdir(exist_ok=True)
        name = "cn-2027.yaml" if year.name == "new.yaml" else year.name
        (tmp_path / "years" / name).write_bytes(year.read_bytes())
    after = WorkingDays.load(tmp_path / "years").due(started, 5)
    assert (date(2027, 1, 7), False) == (day_of(after.at), after.provisional)


def test_the_last_days_of_december_are_sure_only_with_the_next_notice(tmp_path: Path) -> None:
    """The notice of 2019 made a Saturday of December 2018 a working day."""
    assert DAYS.due(at("2026-12-24T10:00"), 1).provisional is False
    assert DAYS.due(at("2026-12-28T10:00"), 1).provisional is True
    year_file(tmp_path, working_weekends=[date(2026, 12, 29) - 3 * DAY])
    with pytest.raises(ConfigurationError, match=r"working_weekends\.0"):
        WorkingDays.load(tmp_path)


def test_a_day_on_which_the_user_held_the_ball_does_not_count() -> None:
    """Nobody is late while the number's owner has to show a document (requirement 12)."""
    started = at("2026-03-02T10:00")  # a Monday
    paused = [(at("2026-03-04T09:00"), at("2026-03-05T18:00"))]
    assert date(2026, 3, 9) == day_of(DAYS.due(started, 5).at)
    assert date(2026, 3, 11) == day_of(DAYS.due(started, 5, paused=paused).at)
    assert date(2026, 3, 3) == day_of(DAYS.due(started, 0, paused=[(started, started)]).at)


def test_a_contract_may_count_minutes() -> None:
    """Real-time platforms promise minutes, and those stand still as well (requirement 12)."""
    started = at("2026-03-02T10:00")
    sla = Sla(minutes=10)
    pause = (started + timedelta(minutes=2), started + timedelta(minutes=5))
    assert at("2026-03-02T10:10") == DAYS.due_of(sla, started).at
    assert at("2026-03-02T10:13") == DAYS.due_of(sla, started, paused=[pause]).at
    assert started == DAYS.latest_start_of(sla, at("2026-03-02T10:10"))
    assert DAYS.due(started, 3) == DAYS.due_of(Sla(working_days=3), started)
    with pytest.raises(ValueError, match="not both"):
        Sla(working_days=1, minutes=10)


@given(INSTANTS, COUNTS)
def test_a_promise_ends_at_midnight_of_a_working_day(started: datetime, count: int) -> None:
    """A deadline on a holiday is one that nobody works towards."""
    due = DAYS.due(started, count).at
    assert due > started
    assert count == 0 or DAYS.is_working(day_of(due))


@given(INSTANTS, st.integers(0, 40 * 86400), COUNTS)
def test_who_starts_later_is_not_due_earlier(started: datetime, later_s: int, count: int) -> None:
    """Else the index by start could not say how many are late."""
    later = started + timedelta(seconds=later_s)
    assert DAYS.due(started, count).at <= DAYS.due(later, count).at


@given(INSTANTS, COUNTS)
def test_the_latest_start_is_the_inverse_of_the_due_time(now: datetime, count: int) -> None:
    """It is counted by start, and told by due time: both must name the same jobs."""
    latest = DAYS.latest_start(now, count)
    assert DAYS.due(latest, count).at <= now
    assert DAYS.due(latest + datetime.resolution, count).at > now


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("year", {"year": "next"}),
        ("version", {"version": 0}),
        ("source.number", {"source": {"document": "x", "issued_on": date(2026, 11, 1), "url": "https://a.example/"}}),
        ("holidays", {"holidays": []}),
        ("holidays.0.first", {"holidays": [{"name": "元旦", "first": "soon", "last": date(2027, 1, 3)}]}),
        ("holidays.0", {"holidays": [{"name": "元旦", "first": date(2027, 1, 3), "last": date(2027, 1, 1)}]}),
        ("holidays.0", {"holidays": [{"name": "元旦", "first": date(2026, 5, 1), "last": date(2026, 5, 3)}]}),
        ("holidays.1", {"holidays": [{"name": "a", "first": date(2027, 1, 1), "last": date(2027, 1, 3)},
                                     {"name": "b", "first": date(2027, 1, 3), "last": date(2027, 1, 4)}]}),
        ("working_weekends.0", {"working_weekends": [date(2027, 1, 4)]}),
        ("working_weekends.0", {"working_weekends": [date(2027, 1, 2)]}),
        ("regions", {"regions": []}),
    ],
)  # fmt: skip
def test_wrong_data_names_its_file_and_field(tmp_path: Path, field: str, changes: dict[str, Any]) -> None:
    """A year is typed in by hand once a year: the error has to say where."""
    path = year_file(tmp_path, **changes)
    with pytest.raises(ConfigurationError) as caught:
        WorkingDays.load(tmp_path)
    assert str(path) in str(caught.value)
    assert field in str(caught.value)


def test_a_file_is_named_after_its_year(tmp_path: Path) -> None:
    """Two files for one year would make the order of a folder decide."""
    year_file(tmp_path, "cn-2028.yaml")
    with pytest.raises(ConfigurationError, match="year"):
        WorkingDays.load(tmp_path)
