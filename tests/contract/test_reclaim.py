"""A number that its holder takes back: nothing more is sent of it, and what was sent is withdrawn (requirement 4)."""

from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from backends.bootstrap import Backends
from backends.sweeps import Ending
from backends.withdrawals import LATE_ANSWERS_S, Stage
from producers import sweep
from producers.eligibility import NumberState
from producers.inventory import Change
from producers.reclaim import OPEN_STATES, Reclaimed, Reclaimer, needs_withdrawal
from producers.sweep import SweepStepper, run_of
from schemas.ids import job_id, split_job_id
from schemas.outcome import Fault, Hold
from schemas.record import JobRecord
from schemas.state import FINAL_STATES, State
from tests.fixtures_valkey import NOON
from tests.letters import accept, mobile, record, record_of
from tests.sweeping import DAY, NAME, START, SweepFolder, line_of, mobiles, move_to, to_rest

CHUNK = 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep of ten numbers in chunks of four, with a file of changes."""
    monkeypatch.setattr(sweep, "CHUNK_ROWS", CHUNK)
    made = SweepFolder(tmp_path)
    made.define(changes={"path": "../changes.csv"})
    made.write([line_of(number) for number in mobiles(10)])
    made.changes.write_text("number,state,at\n")
    return made


@pytest.fixture
def due(backends: Backends) -> Backends:
    """Backends at the start of the night."""
    backends.broker.declare()
    move_to(backends, START)
    return backends


def reclaim(backends: Backends, *indices: int, days: int = 0) -> Reclaimed:
    """Say that numbers were taken back, so many days after noon of the tests."""
    at = NOON + timedelta(days=days)
    changes = [Change(line=1, number=mobile(index), state=NumberState.RECLAIMED, at=at) for index in indices]
    return Reclaimer(backends, who="somebody", reason="came back").reclaim(changes)


def withdrawn(backends: Backends) -> dict[str, Stage]:
    """Return every withdrawal by its platform."""
    return {split_job_id(each.job)[1]: each.stage for each in backends.withdrawals.every()}


def test_what_was_not_sent_is_cancelled_and_needs_no_withdrawal(backends: Backends) -> None:
    """A platform that was never asked must not be bothered."""
    (case,) = accept(backends, ["alpha", "beta"])
    done = reclaim(backends, 0)
    assert (1, 2, 0) == (done.cases, done.cancelled, done.withdrawals)
    found = record_of(backends, case, "alpha")
    assert (State.CANCELLED, Hold.RECLAIMED) == (found.state, found.reason)
    assert {} == withdrawn(backends)


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUEUED, State.CANCELLED}))
def test_what_was_sent_is_withdrawn_unless_the_platform_did_nothing(backends: Backends, state: State) -> None:
    """Each state says whether a platform may have acted on a returning owner's number."""
    (case,) = accept(backends, ["alpha"])
    reason = Fault.TIMEOUT if state in {State.WAITING, State.DEAD} else None
    record(backends, "alpha", [case], state=state, reason=reason)
    reclaim(backends, 0)
    untouched = {State.NO_BINDING, State.BOUND_AFTER_CUTOFF, State.REFUSED, State.NOT_SUPPORTED}
    assert ({} if state in untouched else {"alpha": Stage.REQUESTED}) == withdrawn(backends)
    kept = state if state in FINAL_STATES else State.CANCELLED
    assert kept is record_of(backends, case, "alpha").state


def test_a_call_that_was_under_way_is_withdrawn_when_its_answer_comes(backends: Backends) -> None:
    """The record stays CANCELLED, the answer is kept as a dispute, and the platform is told."""
    (case,) = accept(backends, ["alpha", "beta"])
    reclaim(backends, 0)
    record(backends, "alpha", [case], state=State.UNBOUND)
    record(backends, "beta", [case], state=State.ACCEPTED)
    reclaimer = Reclaimer(backends, who="scheduler", reason="late")
    assert 2 == reclaimer.look_after()
    assert 0 == reclaimer.look_after()
    assert {"alpha": Stage.REQUESTED, "beta": Stage.REQUESTED} == withdrawn(backends)
    found = record_of(backends, case, "alpha")
    assert (State.CANCELLED, True) == (found.state, found.disputed)


def test_late_answers_are_looked_for_as_long_as_one_may_come(backends: Backends) -> None:
    """The list of cases to be looked after must not grow for ever."""
    accept(backends, ["alpha"])
    reclaim(backends, 0)
    assert 1 == len(backends.withdrawals.watched(now=NOON + timedelta(seconds=LATE_ANSWERS_S)))
    assert [] == backends.withdrawals.watched(now=NOON + timedelta(seconds=LATE_ANSWERS_S + 1))


def test_reclaiming_twice_changes_nothing(backends: Backends) -> None:
    """The same file comes twice, or the command is repeated after a crash."""
    (case,) = accept(backends, ["alpha", "beta"])
    record(backends, "alpha", [case], state=State.UNBOUND)
    assert (1, 1) == ((first := reclaim(backends, 0)).cancelled, first.withdrawals)
    assert (0, 0) == ((second := reclaim(backends, 0)).cancelled, second.withdrawals)


def test_only_the_newest_case_of_a_number_is_let_go(backends: Backends) -> None:
    """What was unbound for last year's cycle was another owner's."""
    (old,) = accept(backends, ["alpha"], cutoff_at="2025-11-01T00:00:00+08:00")
    record(backends, "alpha", [old], state=State.UNBOUND)
    (new,) = accept(backends, ["alpha"])
    reclaim(backends, 0)
    assert State.CANCELLED is record_of(backends, new, "alpha").state
    assert {} == withdrawn(backends)


@pytest.mark.parametrize("days", [-400, 40])
def test_a_number_that_was_taken_back_in_another_cycle_keeps_its_case(backends: Backends, days: int) -> None:
    """A list of last year, or one about a number that others have had for a month, must undo nothing."""
    (case,) = accept(backends, ["alpha"])
    done = reclaim(backends, 0, days=days)
    assert (1, 0) == (done.other_cycle, done.cancelled)
    assert State.QUEUED is record_of(backends, case, "alpha").state


def test_a_number_that_is_taken_back_between_planning_and_sending_is_not_sent(
    due: Backends, folder: SweepFolder
) -> None:
    """The acceptance test of requirement 4: not one job of it, and the record says why."""
    stepper = folder.stepper(due)
    stepper.step()
    folder.changes.write_text(f"number,state,at\n{mobiles(10)[1]},RECLAIMED,2026-11-01\n")
    stepper.step()
    reclaim_now(due, mobiles(10)[5])
    to_rest(stepper)
    (night,) = due.sweeps.nights(NAME)
    assert (Ending.COMPLETED, 8, {"reclaimed": 2}) == (night.ending, night.accepted, night.stopped)
    assert [] == [case for index in (1, 5) for case in due.store.find_by_number(f"+86{mobiles(10)[index]}")]


def test_a_change_of_an_older_cycle_stops_nothing(due: Backends, folder: SweepFolder) -> None:
    """Last year it was taken back; this year it is not."""
    folder.changes.write_text(f"number,state,at\n{mobiles(10)[1]},RECLAIMED,2025-11-01\n")
    to_rest(folder.stepper(due))
    assert {} == due.sweeps.nights(NAME)[0].stopped


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "changes.csv: no such file; without the changes nothing is sent"),
        ("number,state,at\n12,RECLAIMED,2026-11-01\n", "changes.csv: line 2: number: "),
        ("number,state\n", "column at is missing"),
    ],
)
def test_without_the_changes_nothing_is_sent(due: Backends, folder: SweepFolder, text: str | None, said: str) -> None:
    """Who cannot look whether a number was taken back must not send it; it goes on when the file is mended."""
    stepper = folder.stepper(due)
    stepper.step()
    if text is None:
        folder.changes.unlink()
    else:
        folder.changes.write_text(text)
    to_rest(stepper)
    assert said in due.sweeps.standing(NAME).problem
    assert 0 == due.sweeps.nights(NAME)[0].cursor
    folder.changes.write_text("number,state,at\n")
    move_to(due, START + sweep.AGAIN)
    to_rest(stepper)
    assert (Ending.COMPLETED, 10) == ((night := due.sweeps.nights(NAME)[0]).ending, night.accepted)


def test_a_number_that_is_taken_back_while_it_is_handed_in_is_let_go(due: Backends, folder: SweepFolder) -> None:
    """Between the look at the mark and the case there is a moment: who marked it then found no case to cancel."""
    stepper, number = folder.stepper(due), mobiles(10)[2]
    handed_in = SweepStepper._submit

    def marked_meanwhile(self: SweepStepper, *args: object) -> None:
        assert 1 == reclaim_now(due, number).without_case
        handed_in(self, *args)  # type: ignore[arg-type]

    stepper.step()
    with patch.object(SweepStepper, "_submit", marked_meanwhile):
        stepper.step()
    (case,) = due.store.find_by_number(f"+86{number}")
    assert {State.CANCELLED} == {record_of(due, case, key).state for key in ("alpha", "beta")}


def test_a_number_that_was_swept_and_is_reclaimed_is_not_swept_again(due: Backends, folder: SweepFolder) -> None:
    """The inventory of the next night may still have it."""
    to_rest(folder.stepper(due))
    reclaim_now(due, mobiles(10)[0])
    move_to(due, START + timedelta(days=1))
    to_rest(folder.stepper(due))
    assert {"reclaimed": 1} == due.sweeps.nights(NAME)[0].stopped
    counters = due.runs.counters(run_of(NAME, DAY))
    assert 2 == counters.by_state()[State.CANCELLED]


def test_an_inventory_that_says_reclaimed_lets_the_case_go(due: Backends, folder: SweepFolder) -> None:
    """The operator's own list says it: nobody should have to say it a second time by a command."""
    to_rest(folder.stepper(due))
    numbers = mobiles(10)
    folder.write([line_of(numbers[0], state="RECLAIMED"), *(line_of(number) for number in numbers[1:])])
    folder.changes.write_text(f"number,state,at\n{numbers[1]},RECLAIMED,2026-11-02\n")
    move_to(due, START + timedelta(days=1))
    to_rest(folder.stepper(due))
    for number in numbers[:2]:
        (case,) = due.store.find_by_number(f"+86{number}")
        assert State.CANCELLED is record_of(due, case, "alpha").state
    (case,) = due.store.find_by_number(f"+86{numbers[2]}")
    assert State.QUEUED is record_of(due, case, "alpha").state


def test_a_job_that_was_never_sent_needs_no_withdrawal_in_any_state() -> None:
    """Only what was sent can be taken back."""
    assert not any(needs_withdrawal(JobRecord(state=state)) for state in State)
    assert needs_withdrawal(JobRecord(state=State.NO_BINDING, first_sent_s=1, disputed=True))
    assert set(State) == OPEN_STATES | FINAL_STATES


def test_a_withdrawal_is_asked_for_once_and_kept(backends: Backends) -> None:
    """It is the record of what a platform was told: asking again must not send it again."""
    job = job_id(accept(backends, ["alpha"])[0], "alpha")
    assert 1 == backends.withdrawals.request([job], now=NOON)
    (found,) = backends.withdrawals.take(now=NOON, until=NOON, at_most=5)
    backends.withdrawals.note(found, again_at=None)
    assert 0 == backends.withdrawals.request([job], now=NOON)
    assert [] == backends.withdrawals.take(now=NOON, until=NOON, at_most=5)


def reclaim_now(backends: Backends, number: str) -> Reclaimed:
    """Say that a number is taken back at this moment."""
    change = Change(line=1, number=f"+86{number}", state=NumberState.RECLAIMED, at=backends.clock.now())
    return Reclaimer(backends, who="somebody", reason="came back").reclaim([change])
