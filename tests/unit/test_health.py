"""A platform's health is read off its counters and its gate, and trouble comes first."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from backends.admission import GateState
from backends.gates import GateView
from backends.runs import Counters
from ops.health import HEALTH_FIELDS, NARROW_FIELDS, PlatformHealth, between, by_trouble, health_of, success_pct
from ops.snapshot import healths, rates
from platforms.model import Platform
from tests.snapshots import catalogue_of, gate, quiet


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """A platform of 50 calls a second, 8 at once, with maintenance from two to three at night."""
    limits = {"calls_per_s": 50, "in_flight": 8}
    return catalogue_of(tmp_path, limits=limits, maintenance=[{"start": "02:00", "end": "03:00"}]).get("alpha")


def counted(**values: int) -> Counters:
    """Return counters; `_` stands for the colon of their names."""
    return Counters(values={name.replace("_", ":"): n for name, n in values.items()})


def health(platform: Platform, view: GateView | None = None, *, dead: int = 0, **values: int) -> PlatformHealth:
    """Return the health of a platform with these counters."""
    return health_of(platform, counted(**values), view or gate(), dead=dead)


def test_success_is_the_share_of_calls_answered_with_a_2xx() -> None:
    """A call that brought no answer at all counts too; a platform nobody has called is neither well nor ill."""
    assert 75.0 == success_pct({"200": 2, "202": 1, "timeout": 1})
    assert 0.0 == success_pct({"503": 4})
    assert success_pct({}) is None


def test_a_platform_that_was_never_called_shows_no_figures(platform: Platform) -> None:
    """0 % and 0 ms would be lies."""
    row = health(platform).row()
    assert (None, None, None) == (row["success_pct"], row["p95_ms"], row["calls_per_s_now"])


def test_lately_only_the_calls_of_the_span_are_judged(platform: Platform) -> None:
    """A platform that answered a million calls last week and none tonight is ill."""
    before, now = counted(calls=1000, status_200=1000), counted(calls=1010, status_200=1000, status_503=10)
    span = between(before, now, seconds=5.0)
    ever = health_of(platform, now, gate(), span=span)
    lately = health_of(platform, now, gate(), span=span, lately=True)
    assert 2.0 == ever.calls_per_s == lately.calls_per_s
    assert (0.0, 10) == (lately.success_pct, lately.calls)
    assert ever.success_pct == pytest.approx(99.0, abs=0.1)


def test_a_store_that_was_emptied_meanwhile_never_shows_a_negative_rate() -> None:
    """Counters that start again at nothing are no calls taken back."""
    assert 0 == between(counted(calls=10), counted(calls=3), seconds=1.0).counters.get("calls")


@pytest.mark.parametrize(
    ("view", "rate", "in_flight"),
    [
        (gate(), 50.0, 8),
        (gate(limit_calls_per_s=5.0, limit_in_flight=2), 5.0, 2),
        (gate(limit_calls_per_s=500.0, limit_in_flight=99), 50.0, 8),
        (gate(share=0.5), 25.0, 8),
        (gate(share=0.05, limit_calls_per_s=1.0), 0.1, 8),
    ],
)
def test_the_limit_shown_is_the_one_that_holds(platform: Platform, view: GateView, rate: float, in_flight: int) -> None:
    """The lower one of catalogue and operator, times the learned share, never below the gate's own floor."""
    found = health(platform, view)
    assert (rate, in_flight) == (found.rate_limit_per_s, found.in_flight_limit)


def test_maintenance_is_a_state_of_a_platform_that_would_flow(platform: Platform) -> None:
    """Nobody shall look for the fault of a platform that has asked to be left alone; a pause says more than that."""
    at_night, at_noon = datetime(2026, 11, 1, 18, 30, tzinfo=UTC), datetime(2026, 11, 1, 4, tzinfo=UTC)

    def state(view: GateView, now: datetime) -> str:
        return health_of(platform, counted(), view, now=now).state

    assert "maintenance" == state(gate(), at_night)
    assert "flowing" == state(gate(), at_noon)
    assert "paused" == state(gate(state=GateState.PAUSED), at_night)


def test_a_days_quota_and_the_hours_of_the_bulk_lane_are_shown(tmp_path: Path) -> None:
    """Who asks why nothing goes out must find it in the row: used, of how much, and from when on again."""
    hours = [{"start": "09:00", "end": "18:00"}]
    bound = catalogue_of(tmp_path, limits={"jobs_per_day": 5000}, bulk_hours=hours).get("alpha")
    evening, morning = datetime(2026, 11, 1, 12, tzinfo=UTC), datetime(2026, 11, 2, 1, tzinfo=UTC)
    closed = health_of(bound, counted(), gate(), now=evening, jobs_today=1200)
    assert ("1200/5000", morning) == (closed.narrow_row()["today"], closed.bulk_opens_at)
    assert health_of(bound, counted(), gate(), now=morning).bulk_opens_at is None


def test_platforms_in_trouble_come_first(platform: Platform) -> None:
    """At night the first screen must show where to look."""
    order = [
        health(platform, gate(state=GateState.SUSPENDED)),
        health(platform, gate(state=GateState.BROKEN, trips=4)),
        health(platform, gate(state=GateState.BROKEN, trips=1)),
        health(platform, gate(state=GateState.PAUSED)),
        health(platform, status_200=1, status_503=9),
        health(platform, dead=3, status_200=100),
        health(platform, status_200=100),
    ]
    assert order == by_trouble(order[::-1])


def test_a_row_holds_every_field_that_is_promised(platform: Platform) -> None:
    """Programs count on the names."""
    found = health(platform)
    assert set(HEALTH_FIELDS) == set(found.row())
    assert set(NARROW_FIELDS) <= set(found.narrow_row())


def test_rates_are_of_the_time_between_two_snapshots(tmp_path: Path) -> None:
    """What was counted before nobody looked says nothing of now."""
    catalogue = catalogue_of(tmp_path)
    before = quiet(counters={"alpha": counted(calls=10), "beta": counted()}, taken_s=100.0)
    after = quiet(counters={"alpha": counted(calls=30, state_7=8), "beta": counted(state_6=2)}, taken_s=110.0)
    assert (2.0, 1.0) == (rates(after, before).calls_per_s, rates(after, before).jobs_per_s)
    assert [2.0, 0.0] == [found.calls_per_s for found in healths(catalogue, after, earlier=before)]
    assert [None, None] == [found.calls_per_s for found in healths(catalogue, after)]
    assert 0.0 == rates(after, after).calls_per_s
    assert 0.0 == rates(before, after).jobs_per_s
