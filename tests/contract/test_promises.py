"""Open jobs beyond the promised time are found where they are, told of one by one, and counted cheaply."""

from datetime import timedelta
from pathlib import Path

import pytest

from backends.bootstrap import Backends
from backends.clock import ManualClock
from ops.alerts import AlertCode, alerts
from ops.job_view import JobDesk
from ops.overdue import Deadlines, OverdueDesk
from ops.snapshot import take
from platforms.calendar import WorkingDays
from platforms.catalogue import Catalogue
from schemas.errors import NotFound
from schemas.ids import job_id, new_id
from schemas.outcome import Fault, Hold, Reason, Refusal
from schemas.state import State
from tests.command import write_platform
from tests.fixtures_valkey import NOON, stored
from tests.letters import accept, record, record_of, wait
from workers.deadline import Deadlines as Passing

DAY = timedelta(days=1)
# NOON is a Sunday: two working days end when Tuesday does, 16:00 UTC, and the last of them begins a day earlier.
DUE = NOON + 2 * DAY + timedelta(hours=4)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """One platform that answers within two working days, and one within ten."""
    write_platform(tmp_path / "catalogue", "alpha", sla={"working_days": 2})
    write_platform(tmp_path / "catalogue", "beta", sla={"working_days": 10})
    return Catalogue.load(tmp_path / "catalogue")


@pytest.fixture
def desk(backends: Backends, catalogue: Catalogue) -> OverdueDesk:
    """Where late jobs are found."""
    return OverdueDesk(backends, catalogue)


def owe(backends: Backends, platform: str, *, first: int = 0, reason: Reason | None = None) -> str:
    """Let a platform have accepted one job at noon. Returns its case."""
    (case,) = accept(backends, ["alpha", "beta"], first=first)
    record(backends, platform, [case], state=State.ACCEPTED, reason=reason)
    return case


def clock(backends: Backends) -> ManualClock:
    """Return the clock of the test."""
    assert isinstance(backends.clock, ManualClock)
    return backends.clock


def paused(backends: Backends) -> list[str]:
    """Return what alpha owes, and the owner holds or has held."""
    return list(backends.expected.paused("alpha", until=DUE))


def found(desk: OverdueDesk, *platforms: str, at_risk: bool = True) -> list[tuple[str, str]]:
    """Return what is late: job and standing."""
    return [(each.job, each.promise.standing.value) for each in desk.select(platforms, at_risk=at_risk)]


def test_what_is_accepted_dead_or_waiting_is_late_by_the_same_promise(backends: Backends, desk: OverdueDesk) -> None:
    """It does not matter to the number's owner in which of our hands the request is stuck."""
    accepted = owe(backends, "alpha")
    (died,) = accept(backends, ["alpha"], first=1)
    record(backends, "alpha", [died], reason=Fault.TIMEOUT)
    (waits,) = accept(backends, ["alpha"], first=2)
    wait(backends, "alpha", [waits])
    jobs = sorted(job_id(case, "alpha") for case in (accepted, died, waits))
    clock(backends).set(DUE - DAY - timedelta(seconds=1))
    assert [] == found(desk)
    clock(backends).set(DUE - DAY)
    assert [(job, "at_risk") for job in jobs] == found(desk)
    assert [] == found(desk, at_risk=False)
    clock(backends).set(DUE)
    assert [(job, "overdue") for job in jobs] == found(desk)
    assert [] == found(desk, "beta")
    assert jobs[:2] == [each.job for each in desk.select(at_most=2)]
    rows = {row["job"]: row for row in desk.rows(desk.select())}
    assert {0} == {row["late_s"] for row in rows.values()}
    clock(backends).set(DUE + DAY)
    rows = {row["job"]: row for row in desk.rows(desk.select())}
    assert {job_id(accepted, "alpha"): "platform", job_id(died, "alpha"): "operator",
            job_id(waits, "alpha"): "dispatcher"} == {job: row["late_party"] for job, row in rows.items()}  # fmt: skip
    assert ("138****0000", 86_400) == (
        rows[job_id(accepted, "alpha")]["number"], rows[job_id(accepted, "alpha")]["late_s"],
    )  # fmt: skip
    with pytest.raises(NotFound):
        desk.select(["gamma"])


def test_what_ended_meanwhile_is_late_no_more(backends: Backends, desk: OverdueDesk) -> None:
    """An index may be a moment behind the record; the record is right."""
    case = owe(backends, "alpha")
    clock(backends).set(DUE)
    record(backends, "alpha", [case], state=State.UNBOUND)
    assert [] == found(desk)


def test_late_jobs_are_counted_by_platform_with_the_first_due(backends: Backends, desk: OverdueDesk) -> None:
    """A person calls platforms, not jobs."""
    first = owe(backends, "alpha")
    clock(backends).set(NOON + DAY)
    (second,) = accept(backends, ["alpha", "beta"], first=1)
    record(backends, "alpha", [second], reason=Fault.TIMEOUT, at=NOON + DAY)
    owe(backends, "beta", first=2)
    (unclear,) = accept(backends, ["alpha"], first=3)
    record(backends, "alpha", [unclear], state=State.PENDING_REVIEW, reason=Hold.UNKNOWN_CODE)
    clock(backends).set(DUE)
    (row,) = desk.groups()
    assert ("alpha", 1, 1, 1) == (row["platform"], row["overdue"], row["at_risk"], row["for_review"])
    assert (job_id(first, "alpha"), "2026-11-03T16:00:00Z") == (row["oldest_job"], row["oldest_due_at"])
    assert 1 == desk.for_review()
    owe(backends, "alpha", first=4)
    owe(backends, "alpha", first=5, reason=Hold.USER_ACTION)
    (row,) = desk.groups(["alpha"])
    assert (2, 1) == (row["overdue"], row["at_risk"])
    assert [] == desk.groups(["beta"])


def test_the_clock_stands_still_while_the_owner_holds_the_ball(backends: Backends, catalogue: Catalogue) -> None:
    """Nobody is late for want of an identity card that only the owner can show; afterwards the clock goes on."""
    case = owe(backends, "alpha", reason=Hold.USER_ACTION)
    job, desk = job_id(case, "alpha"), OverdueDesk(backends, catalogue)
    clock(backends).set(DUE + DAY)
    view = JobDesk(backends, catalogue).show(job)
    assert view.course.promise is not None
    assert "paused" == view.course.promise.standing.value
    assert [] == found(desk)
    assert {} == take(backends, catalogue, taken_s=0).deadlines
    scheduler = Passing(backends, catalogue, WorkingDays.load(), desk)
    assert 0 == scheduler.step()
    (owed,) = backends.expected.take("alpha", now=DUE, until=DUE + DAY, at_most=9)
    assert (job, NOON) == (owed.job, owed.first_sent)
    # The owner has shown it on Wednesday: Thursday and Friday are left.
    record(backends, "alpha", [case], state=State.ACCEPTED, at=DUE + DAY)
    clock(backends).set(DUE + 3 * DAY - timedelta(seconds=1))
    assert ([(job, "at_risk")], 0) == (found(desk), scheduler.step())
    clock(backends).set(DUE + 3 * DAY)
    assert [(job, "overdue")] == found(desk)
    assert (1, 0) == (scheduler.step(), scheduler.step())
    ended = record_of(backends, case, "alpha")
    assert (State.DELIVERED_UNCONFIRMED, Hold.DEADLINE) == (ended.state, ended.reason)
    assert (0, [], []) == (backends.expected.count("alpha"), found(desk), paused(backends))


@pytest.mark.parametrize("first", [None, Hold.USER_ACTION])
def test_the_owners_turn_is_known_whatever_came_first(backends: Backends, first: Hold | None) -> None:
    """Two answers overtake each other on their way: the index must not depend on it (rule 3)."""
    case = owe(backends, "alpha", reason=first)
    record(backends, "alpha", [case], state=State.ACCEPTED, reason=None if first else Hold.USER_ACTION)
    (job,) = paused(backends)
    assert job_id(case, "alpha") == job
    assert {"alpha": 0} == backends.expected.counts({"alpha": NOON})
    assert [] == backends.expected.sent_until("alpha", NOON, at_most=9)


def test_the_alerts_count_without_reading_each_job(backends: Backends, catalogue: Catalogue) -> None:
    """They are taken each second, and must say the same as the list."""
    owe(backends, "alpha")
    (died,) = accept(backends, ["alpha"], first=1)
    record(backends, "alpha", [died], reason=Fault.TIMEOUT)
    before = stored(backends)
    assert {} == take(backends, catalogue, taken_s=0).deadlines
    clock(backends).set(DUE - DAY)
    assert {"alpha": Deadlines(overdue=0, at_risk=1)} == take(backends, catalogue, taken_s=0).deadlines
    clock(backends).set(DUE)
    now = take(backends, catalogue, taken_s=0)
    assert {"alpha": Deadlines(overdue=2, at_risk=0)} == now.deadlines
    assert ("alpha", "2 open jobs are beyond the time that was promised") in [
        (alert.subject, alert.text) for alert in alerts(now) if alert.code is AlertCode.DEADLINE_MISSED
    ]
    assert before == stored(backends)


def test_one_job_is_told_whole(backends: Backends, catalogue: Catalogue) -> None:
    """One look answers: what happened, whose turn it is, is it late, and what can be done."""
    (case,) = accept(backends, ["alpha"])
    record(backends, "alpha", [case], state=State.WAITING, reason=Fault.SERVER_ERROR)
    record(backends, "alpha", [case], state=State.REFUSED, reason=Refusal.LEGAL_HOLD, attempt=2, at=NOON + 4 * DAY)
    clock(backends).set(NOON + 5 * DAY)
    told = JobDesk(backends, catalogue).show(job_id(case, "alpha")).as_dict()
    assert ("REFUSED", "legal_hold", 2) == (told["state"], told["reason"], len(told["steps"]))
    assert [("platform", "2026-11-01T12:00:00Z", "2026-11-05T12:00:00Z", "fault")] == [
        (turn["holder"], turn["since"], turn["until"], turn["why"]) for turn in told["turns"]
    ]
    assert ("missed", "2026-11-03T16:00:00Z", False) == (
        told["promise"]["standing"], told["promise"]["due_at"], told["promise"]["provisional"],
    )  # fmt: skip
    assert ("platform", 4 * 86_400) == (told["late_party"], told["held_s"]["platform"])
    assert ("platform", True) == (told["remedy"]["next_actor"], bool(told["remedy"]["zh"]))


def test_a_job_that_nobody_knows_is_said_to_be_unknown(backends: Backends, catalogue: Catalogue) -> None:
    """A page of a wrong address must not be an empty one."""
    desk = JobDesk(backends, catalogue)
    for wrong in ("nonsense", job_id(new_id(), "alpha"), job_id(accept(backends, ["alpha"])[0], "beta")):
        with pytest.raises(NotFound):
            desk.show(wrong)


def test_many_that_the_owner_holds_keep_no_other_from_its_end(backends: Backends, catalogue: Catalogue) -> None:
    """A step looks at a part of them only; those that still stand still must not be that part for ever."""
    cases = accept(backends, ["alpha"], count=1200)
    for start in range(0, 1200, 400):
        record(backends, "alpha", cases[start : start + 400], state=State.ACCEPTED, reason=Hold.USER_ACTION)
    seen = set(cases[::400])
    record(backends, "alpha", sorted(seen), state=State.ACCEPTED, at=NOON + timedelta(minutes=1))
    clock(backends).set(DUE + 3 * DAY)
    scheduler = Passing(backends, catalogue, WorkingDays.load(), OverdueDesk(backends, catalogue))
    assert 3 == sum(scheduler.step() for _ in range(6))
    assert {State.DELIVERED_UNCONFIRMED} == {record_of(backends, case, "alpha").state for case in seen}
    assert 1197 == backends.expected.count("alpha")
