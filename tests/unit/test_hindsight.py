"""What a forecast said, beside what happened."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from producers.forecast import Forecast, House, Limit, PlatformForecast, ReleaseForecast
from producers.hindsight import ROW_FIELDS, Actual, Actuals, look_back
from schemas.record import JobRecord
from schemas.state import DISPATCHER_STATES, State

TEN = datetime(2026, 11, 3, 22, tzinfo=ZoneInfo("Asia/Shanghai"))
SIX = TEN + timedelta(hours=8)


def foreseen(platform: str, *, jobs: int, sent: int | None = None, hours: float | None) -> PlatformForecast:
    """One platform that is done so many hours after ten o'clock."""
    done_at, count = None if hours is None else TEN + timedelta(hours=hours), jobs if sent is None else sent
    release = ReleaseForecast(release=date(2026, 11, 9), jobs=jobs, sent=count, done_at=done_at)
    spilled = {Limit.RATE: jobs - count} if jobs > count else {}
    return PlatformForecast(
        platform=platform, jobs=jobs, sent=count, done_at=done_at, spilled_by=spilled, releases=(release,)
    )


def night(*platforms: PlatformForecast) -> Forecast:
    """From ten to six."""
    return Forecast(start=TEN, until=SIX, house=House(), platforms=platforms, at_risk=())


def was(*, in_time: int = 0, later: int = 0, left: int = 0, hours: float | None = None) -> Actual:
    """What became of a platform, the last job so many hours after ten o'clock."""
    done_at = None if hours is None else TEN + timedelta(hours=hours)
    return Actual(in_time=in_time, after=later, open=left, done_at=done_at)


def test_the_error_of_each_platform_is_its_lateness_and_the_jobs_on_the_wrong_side() -> None:
    """Four platforms: as foreseen, half an hour late, 40 jobs spilled against the forecast, and one still open."""
    seen = look_back(
        night(
            foreseen("exact", jobs=100, hours=1),
            foreseen("late", jobs=100, hours=2),
            foreseen("spilt", jobs=100, sent=90, hours=9),
            foreseen("open", jobs=100, hours=1),
        ),
        {
            "exact": was(in_time=100, hours=1),
            "late": was(in_time=100, hours=2.5),
            "spilt": was(in_time=50, later=50, hours=10),
        },
    )
    # Nothing was counted of the last one, so all its jobs are open.
    assert ["open", "spilt", "late", "exact"] == [each.forecast.platform for each in seen.worst_first()]
    errors = {each.forecast.platform: (each.late_s, each.wrong_jobs) for each in seen.platforms}
    assert {"exact": (0, 0), "late": (1800, 0), "spilt": (3600, 40), "open": (None, 100)} == errors
    assert (140, None) == (seen.wrong_jobs, seen.error_pct)
    rows = list(seen.rows())
    assert set(ROW_FIELDS) == set(rows[0])
    assert (None, 0, 100) == (rows[0]["done_at"], rows[0]["forecast_spill"], rows[0]["spill"])


def test_the_error_of_a_night_is_a_share_of_its_foreseen_duration() -> None:
    """Foreseen four hours, lasted five: a quarter."""
    seen = look_back(
        night(foreseen("a", jobs=10, hours=4), foreseen("b", jobs=10, hours=1)),
        {"a": was(in_time=10, hours=3), "b": was(in_time=10, hours=5)},
    )
    assert 25 == pytest.approx(seen.error_pct)


def test_an_end_that_was_not_foreseen_and_did_not_come_is_no_error() -> None:
    """Who said "not within a month" was right."""
    seen = look_back(
        night(foreseen("never", jobs=10, sent=4, hours=None), foreseen("late", jobs=10, hours=1)),
        {"never": was(in_time=4, left=6, hours=1), "late": was(in_time=10, hours=1.1)},
    )
    assert ["late", "never"] == [each.forecast.platform for each in seen.worst_first()]


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_a_job_is_done_as_soon_as_the_dispatcher_has_nothing_more_to_do(state: State) -> None:
    """A dead letter waits for a person and an accepted job for its platform: neither waits for the night."""
    actuals = Actuals(until=SIX)
    sent_s, settled_s = int(TEN.timestamp()) + 60, 0 if state is State.ACCEPTED else int(TEN.timestamp()) + 120
    actuals.add("acme", JobRecord(state=state, first_sent_s=sent_s, settled_s=settled_s))
    found = actuals.found()["acme"]
    if state in DISPATCHER_STATES:
        assert Actual(open=1) == found
    else:
        assert Actual(in_time=1, done_at=datetime.fromtimestamp(settled_s or sent_s, UTC)) == found


def test_what_is_settled_after_the_end_of_the_night_has_spilled() -> None:
    """To the second: the last one of the night counts, the first one after it does not."""
    actuals = Actuals(until=SIX)
    end_s = int(SIX.timestamp())
    for settled_s in (end_s, end_s + 1):
        actuals.add("acme", JobRecord(state=State.NO_BINDING, settled_s=settled_s))
    expected = Actual(in_time=1, after=1, done_at=datetime.fromtimestamp(end_s + 1, UTC))
    assert expected == actuals.found()["acme"]
    assert 2 == expected.jobs
