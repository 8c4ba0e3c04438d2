"""Nothing heard by the deadline: the job ends and says so, once, however many schedulers look."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backends.bootstrap import Backends
from backends.clock import ManualClock
from ops.overdue import OverdueDesk
from platforms.calendar import WorkingDays
from platforms.catalogue import Catalogue
from platforms.model import Sla
from schemas.outcome import Hold
from schemas.state import State
from tests.answers import catalogue_of
from tests.fixtures_valkey import NOON
from tests.letters import accept, record, record_of
from workers.deadline import Deadlines


class EveryDay:
    """A calendar on which every day is a working day of 24 hours."""

    def latest_start_of(self, sla: Sla, now: datetime) -> datetime:
        """Return so many days ago."""
        return now - timedelta(days=sla.working_days)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Alpha calls back, beta is asked, gamma has no way to answer later."""
    return catalogue_of(tmp_path)


def at(backends: Backends, instant: datetime) -> None:
    """Turn the clock."""
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(instant)


@pytest.mark.parametrize(
    ("platform", "state"),
    [("alpha", State.EXPIRED), ("beta", State.EXPIRED), ("gamma", State.DELIVERED_UNCONFIRMED)],
)
def test_an_accepted_job_ends_at_its_deadline(
    backends: Backends, catalogue: Catalogue, platform: str, state: State
) -> None:
    """Not a moment before; where no answer could have come it was delivered, and nobody can say more."""
    (case,) = accept(backends, [platform])
    record(backends, platform, [case], state=State.ACCEPTED)
    deadlines = Deadlines(backends, catalogue, EveryDay(), OverdueDesk(backends, catalogue))
    at(backends, NOON + timedelta(days=5) - timedelta(seconds=1))
    assert 0 == deadlines.step()
    assert State.ACCEPTED is record_of(backends, case, platform).state
    at(backends, NOON + timedelta(days=5))
    assert 1 == deadlines.step()
    found = record_of(backends, case, platform)
    assert (state, Hold.DEADLINE, 1) == (found.state, found.reason, found.attempts)
    assert (0, 0) == (deadlines.step(), backends.expected.count(platform))
    assert "CLEAN_WITH_EXCEPTIONS" == backends.store.case(case).verdict


def test_the_working_days_are_those_of_the_country(backends: Backends, catalogue: Catalogue) -> None:
    """Sent on Sunday, 1 November 2026: the fifth working day ends on Friday at 24:00 in Shanghai."""
    (case,) = accept(backends, ["alpha"])
    record(backends, "alpha", [case], state=State.ACCEPTED)
    deadlines = Deadlines(backends, catalogue, WorkingDays.load(), OverdueDesk(backends, catalogue))
    end = datetime(2026, 11, 6, 16, tzinfo=UTC)
    at(backends, end - timedelta(seconds=1))
    assert 0 == deadlines.step()
    at(backends, end)
    assert 1 == deadlines.step()


def test_only_what_is_still_accepted_ends(backends: Backends, catalogue: Catalogue) -> None:
    """An answer that is recorded stays; a job that waits for its next attempt has a deadline of its own."""
    cases = accept(backends, ["alpha"], count=3)
    for case, state in zip(cases, (State.UNBOUND, State.WAITING, State.ACCEPTED), strict=True):
        record(backends, "alpha", [case], state=state)
    at(backends, NOON + timedelta(days=6))
    first, second = (Deadlines(backends, catalogue, EveryDay(), OverdueDesk(backends, catalogue)) for _ in range(2))
    assert (1, 0) == (first.step(), second.step())
    expected = [State.UNBOUND, State.WAITING, State.EXPIRED]
    assert expected == [record_of(backends, case, "alpha").state for case in cases]


def test_many_end_page_by_page(backends: Backends, catalogue: Catalogue) -> None:
    """A script call blocks the store for everybody: a step takes a bounded number, the next one the rest."""
    cases = accept(backends, ["alpha"], count=501)
    for start in range(0, 501, 250):
        record(backends, "alpha", cases[start : start + 250], state=State.ACCEPTED)
    at(backends, NOON + timedelta(days=6))
    deadlines = Deadlines(backends, catalogue, EveryDay(), OverdueDesk(backends, catalogue))
    assert [500, 1, 0] == [deadlines.step() for _ in range(3)]
