"""Whatever changes a gate or ends a night, it is told once, from what is stored."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from backends.admission import GateState
from backends.bootstrap import Backends, open_backends
from backends.clock import ManualClock
from backends.embedded import EmbeddedValkey
from backends.outbox import START
from backends.sweeps import Denied, Ending, Night
from ops.announcer import Announcer, deadline_changes, gate_changes
from ops.overdue import Deadlines
from platforms.catalogue import Catalogue
from producers.sweep_definition import Definitions
from schemas.ids import new_id
from schemas.notice import DeadlineAtRisk, NoticeData, PlatformResumed, PlatformSuspended, SweepFinished
from schemas.state import State
from tests.fixtures_valkey import NOON, settings_of
from tests.letters import accept, record
from tests.snapshots import catalogue_of, gate

DEFINITION = """
name: nightly
inventory: {path: pool.csv}
at: "22:00"
days_before_release: 3
catch_up: {rule: none}
"""


@pytest.fixture
def telling(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[Backends]:
    """Backends of an operator some of whose systems subscribe."""
    settings = settings_of(valkey, tmp_path).model_copy(update={"subscribers": tmp_path / "subscribers.yaml"})
    opened = open_backends(settings, clock=ManualClock(NOON))
    yield opened
    opened.close()


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms."""
    return catalogue_of(tmp_path / "catalogue")


@pytest.fixture
def announcer(telling: Backends, catalogue: Catalogue, tmp_path: Path) -> Announcer:
    """One that looks after two platforms and one sweep."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "nightly.yaml").write_text(DEFINITION, encoding="utf-8")
    return Announcer(telling, catalogue, Definitions.load(tmp_path / "sweeps"))


def told(backends: Backends) -> list[NoticeData]:
    """Return what is in the outbox."""
    return [posted.notice.data for posted in backends.outbox.after(START, at_most=100)]


def settle(backends: Backends, day: date, *, ending: Ending = Ending.COMPLETED) -> str:
    """Let a night end so; returns its run."""
    night = Night(day=day.isoformat(), run=new_id(), begun_ms=1, planned=9, sent=7)
    begun = backends.sweeps.begin("nightly", night, holder="a", now=NOON)
    assert not isinstance(begun, Denied)
    night.ending, night.ended_ms = ending, 5
    assert backends.sweeps.settle(begun[0], night)
    return night.run


def test_a_suspension_and_its_end_are_told_once_each(
    telling: Backends, announcer: Announcer, catalogue: Catalogue
) -> None:
    """Whether a worker or a person did it, and however many schedulers look."""
    other = Announcer(telling, catalogue, None)
    telling.gates.suspend("alpha", reason="unauthorized")
    for each in (announcer, other, announcer):
        each.step()
    telling.gates.resume("alpha")
    for each in (other, announcer):
        each.step()
    assert [PlatformSuspended(platform="alpha", reason="unauthorized"), PlatformResumed(platform="alpha")] == told(
        telling
    )


def test_a_pause_tells_nothing(telling: Backends, announcer: Announcer) -> None:
    """Whoever paused a platform knows it; what is under the pause is told when it ends."""
    telling.gates.pause("alpha", until=None, reason="their wish")
    announcer.step()
    telling.gates.resume("alpha")
    announcer.step()
    assert [] == told(telling)


def test_suspended_again_between_two_looks_is_another_suspension() -> None:
    """A desk that saw only the first would take the second for solved."""
    since = datetime.fromisoformat("2026-11-01T00:00:00+00:00")
    (first,) = gate_changes([gate(state=GateState.SUSPENDED, since=since)], {})
    again = gate(state=GateState.SUSPENDED, since=since + timedelta(minutes=1))
    assert [] == list(gate_changes([gate(state=GateState.SUSPENDED, since=since)], {first[0]: first[1]}))
    assert 1 == len(list(gate_changes([again], {first[0]: first[1]})))


def test_a_number_in_a_reason_is_masked() -> None:
    """A person writes a reason by hand, and it leaves the house."""
    ((_, _, data),) = gate_changes([gate(state=GateState.SUSPENDED, reason="asked about 13812345678")], {})
    assert "138****78" in str(data)


def test_every_night_that_ends_is_told_and_none_from_before(telling: Backends, announcer: Announcer) -> None:
    """Also those that ended while nobody looked, in their order, with how they ended."""
    settle(telling, date(2026, 11, 1))
    announcer.step()
    assert [] == told(telling)
    runs = [settle(telling, date(2026, 11, 2)), settle(telling, date(2026, 11, 4), ending=Ending.FAILED)]
    announcer.step()
    announcer.step()
    found = [data for data in told(telling) if isinstance(data, SweepFinished)]
    assert [(2, "completed"), (4, "failed")] == [(data.day.day, data.ending) for data in found]
    assert runs == [data.run for data in found]
    assert [(9, 7)] * 2 == [(data.planned, data.sent) for data in found]


def test_jobs_that_get_late_are_told_once_a_platform_and_day() -> None:
    """A desk can still do something; told each minute, it would look away."""
    found = {"alpha": Deadlines(at_risk=3, overdue=1), "beta": Deadlines(overdue=2)}
    ((about, day, data),) = deadline_changes(found, {}, now=NOON)
    assert DeadlineAtRisk(platform="alpha", day=date(2026, 11, 1), jobs=3) == data
    assert [] == list(deadline_changes(found, {about: day}, now=NOON + timedelta(hours=3)))
    evening = NOON.replace(hour=17)  # after midnight in Shanghai
    assert ["2026-11-02"] == [each[1] for each in deadline_changes(found, {about: day}, now=evening)]


def test_a_late_job_of_the_store_is_told(telling: Backends, announcer: Announcer) -> None:
    """The figures are those of the alert `deadline_at_risk`, counted once a minute."""
    (case,) = accept(telling, ["alpha"])
    sent = NOON - timedelta(days=6)
    record(telling, "alpha", [case], state=State.ACCEPTED, at=sent)
    clock = telling.clock
    assert isinstance(clock, ManualClock)
    announcer.step()
    assert [] == told(telling)
    clock.set(NOON + timedelta(hours=8))  # due at the end of Monday the 2nd in Shanghai
    announcer.step()
    clock.set(NOON + timedelta(hours=9))
    announcer.step()
    (data,) = told(telling)
    assert ("renewal.deadline_at_risk.v1", 1) == (data.type, data.jobs if isinstance(data, DeadlineAtRisk) else 0)


def test_the_first_night_of_a_new_sweep_is_told(telling: Backends, announcer: Announcer) -> None:
    """A sweep that has never ended a night has nothing to be silent about."""
    announcer.step()
    settle(telling, date(2026, 11, 1))
    announcer.step()
    assert ["nightly/2026-11-01"] == [data.subject for data in told(telling)]
