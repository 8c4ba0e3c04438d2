"""The nightly run against the real stores: everything once, whoever dies where, and nothing that was taken back."""

from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from backends.bootstrap import Backends
from backends.sweeps import LEASE_S, Ending, Night
from producers import submit, sweep
from producers.sweep import SweepStepper, run_of
from producers.sweep_plan import plan
from producers.sweep_source import source_of
from tests.sweeping import DAY, NAME, START, SweepFolder, line_of, mobiles, move_to, to_rest

CHUNK = 4
NUMBERS = 10
STEPS = (
    "sweep.begun", "sweep.planned", "sweep.checked", "sweep.submitted", "sweep.written", "sweep.settled",
    "submit.accepted", "submit.published",
)  # fmt: skip


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it and cleans up with its help."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep of ten numbers in chunks of four."""
    monkeypatch.setattr(sweep, "CHUNK_ROWS", CHUNK)
    made = SweepFolder(tmp_path)
    made.write([line_of(number) for number in mobiles(NUMBERS)])
    return made


@pytest.fixture
def due(backends: Backends) -> Backends:
    """Backends at the start of the night."""
    backends.broker.declare()
    move_to(backends, START)
    return backends


def night_of(backends: Backends) -> Night:
    """Return the night of DAY."""
    found = backends.sweeps.night(NAME, DAY)
    assert found is not None
    return found


def cases_of(backends: Backends) -> list[str]:
    """Return the masks of the cases of that night's run, in the order in which it handed them in."""
    ids = backends.runs.cases(run_of(NAME, DAY))
    return [view.mask for view in backends.store.cases(ids)]


def kill_at(stepper: SweepStepper, step: str, *, times: int = 1) -> bool:
    """Step until the process would have died at a step for that many times. Returns whether it came to that."""
    left = times

    def reach(name: str) -> None:
        nonlocal left
        left -= name == step
        if name == step and not left:
            raise Killed

    # What a killed process cannot do any more: give its lease back.
    with (
        patch.object(sweep, "reach", reach), patch.object(submit, "reach", reach),
        patch.object(type(stepper._backends.sweeps), "give_back", lambda *_: True),
    ):  # fmt: skip
        try:
            to_rest(stepper)
        except Killed:
            return True
    return False


def test_a_night_is_completed_and_its_record_says_what_it_brought(due: Backends, folder: SweepFolder) -> None:
    """The operator reads in the morning what was planned, what was sent, and what was not, and why."""
    folder.write(
        [line_of(number) for number in mobiles(NUMBERS)]
        + [line_of("13900000001", freeze=89), line_of("13900000002", state="RECLAIMED"), "12,FROZEN,,,"]
    )
    to_rest(folder.stepper(due))
    night = night_of(due)
    assert (Ending.COMPLETED, NUMBERS, NUMBERS, NUMBERS) == (night.ending, night.planned, night.sent, night.accepted)
    assert ({"freeze_too_short": 1, "reclaimed": 1}, 1, 12) == (night.refused, night.rejected, night.rows)
    assert {"alpha": NUMBERS, "beta": NUMBERS} == night.jobs_by_platform
    counters = due.runs.counters(run_of(NAME, DAY))
    assert (NUMBERS, 2 * NUMBERS, 1) == tuple(counters.get(name) for name in ("accepted", "jobs", "rejected"))
    assert DAY == due.sweeps.standing(NAME).done


def test_the_nearest_deadline_is_sent_first_and_then_line_by_line(due: Backends, folder: SweepFolder) -> None:
    """If a night is too short, what is left must be what has most time."""
    numbers = mobiles(NUMBERS)
    folder.write([line_of(number, release=DAY + timedelta(days=1 + i % 3)) for i, number in enumerate(numbers)])
    stepper = folder.stepper(due)
    stepper.step()
    stepper.step()
    first = [f"138****{numbers[place][-4:]}" for place in (0, 3, 6, 9)]
    assert first == cases_of(due)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("step", STEPS)
def test_whoever_dies_where_leaves_no_gap_and_no_double(
    due: Backends, folder: SweepFolder, step: str, times: int
) -> None:
    """Nobody chooses where a process dies: the next one goes on behind the cursor, and counts nothing twice."""
    killed = kill_at(folder.stepper(due), step, times=times)
    assert killed or times > 1
    move_to(due, START + timedelta(seconds=LEASE_S + 1))
    to_rest(folder.stepper(due))
    night = night_of(due)
    assert Ending.COMPLETED is night.ending
    assert (NUMBERS, NUMBERS, 0) == (night.sent, night.accepted, night.known)
    assert NUMBERS == due.runs.counters(night.run).get("accepted")
    assert sorted(f"138****{number[-4:]}" for number in mobiles(NUMBERS)) == sorted(cases_of(due))
    assert all(view.queued for view in due.store.cases(due.runs.cases(night.run)))


def test_two_who_step_at_once_complete_one_night(due: Backends, folder: SweepFolder) -> None:
    """Two schedulers see the same tick: one has the lease, the other rests, and at the end there is one night."""
    first, second = folder.stepper(due), folder.stepper(due)
    sent = []
    for _ in range(8):
        for stepper in (first, second):
            before = night_of(due).cursor if due.sweeps.night(NAME, DAY) else 0
            stepper.step()
            sent.append((stepper, night_of(due).cursor - before))
    assert {first} == {stepper for stepper, count in sent if count}
    assert NUMBERS == sum(count for _, count in sent)
    assert 1 == len(due.sweeps.nights(NAME))


def test_a_holder_that_was_frozen_writes_nothing_when_it_thaws(due: Backends, folder: SweepFolder) -> None:
    """Its lease ran out and another one went on: what it would write now is older than what stands there."""
    frozen, other = folder.stepper(due), folder.stepper(due)
    frozen.step()
    frozen.step()
    move_to(due, START + timedelta(seconds=LEASE_S + 1))
    to_rest(other)
    ended = night_of(due)
    assert Ending.COMPLETED is ended.ending
    to_rest(frozen)
    assert ended == night_of(due)
    assert NUMBERS == due.runs.counters(ended.run).get("accepted")


def test_the_next_night_adds_only_what_is_new(due: Backends, folder: SweepFolder) -> None:
    """A number is on the list for several nights, and is asked about once."""
    to_rest(folder.stepper(due))
    folder.write([line_of(number) for number in mobiles(NUMBERS + 2)])
    move_to(due, START + timedelta(days=1))
    to_rest(folder.stepper(due))
    night = due.sweeps.nights(NAME)[0]
    assert ("2026-11-02", 2, NUMBERS) == (night.day, night.accepted, night.known)


def test_a_night_without_its_inventory_waits_and_takes_it_up_when_it_comes(due: Backends, folder: SweepFolder) -> None:
    """The file may be an hour late: that must not cost the night, and must be seen as long as it lasts."""
    folder.inventory.unlink()
    stepper = folder.stepper(due)
    to_rest(stepper)
    assert "pool.csv: no such file" in due.sweeps.standing(NAME).problem
    folder.write([line_of(number) for number in mobiles(3)])
    to_rest(stepper)
    assert night_of(due).ending is None
    move_to(due, START + sweep.AGAIN)
    to_rest(stepper)
    assert (Ending.COMPLETED, 3, "") == (night_of(due).ending, night_of(due).accepted, night_of(due).problem)


def test_a_night_whose_inventory_never_comes_has_failed_when_the_next_one_begins(
    due: Backends, folder: SweepFolder
) -> None:
    """It leaves a record that says so, and does not hold up the next one."""
    folder.inventory.unlink()
    to_rest(folder.stepper(due))
    folder.write([line_of("13800000000")])
    move_to(due, START + timedelta(days=1))
    to_rest(folder.stepper(due))
    second, first = due.sweeps.nights(NAME)
    assert (Ending.FAILED, Ending.COMPLETED) == (first.ending, second.ending)
    assert "no such file" in first.why


def test_a_night_that_is_not_done_when_the_next_begins_is_overtaken(due: Backends, folder: SweepFolder) -> None:
    """Two nights must never run beside each other; the next inventory holds what is left."""
    stepper = folder.stepper(due)
    stepper.step()
    stepper.step()
    move_to(due, START + timedelta(days=1))
    to_rest(stepper)
    second, first = due.sweeps.nights(NAME)
    assert (Ending.OVERTAKEN, Ending.COMPLETED) == (first.ending, second.ending)
    assert "the next night began with 6 numbers left" == first.why
    assert (NUMBERS - CHUNK, CHUNK) == (second.accepted, second.known)


def test_missed_nights_are_skipped_with_a_record_and_the_newest_is_made_up_for(
    due: Backends, folder: SweepFolder
) -> None:
    """After three days without a scheduler the operator sees which nights there were not."""
    to_rest(folder.stepper(due))
    move_to(due, START + timedelta(days=3, hours=2))
    to_rest(folder.stepper(due))
    assert [
        ("2026-11-04", Ending.COMPLETED, True),
        ("2026-11-03", Ending.SKIPPED, False),
        ("2026-11-02", Ending.SKIPPED, False),
        ("2026-11-01", Ending.COMPLETED, False),
    ] == [(night.day, night.ending, night.late) for night in due.sweeps.nights(NAME)]


def test_a_paused_sweep_stops_after_its_chunk_and_goes_on_when_it_is_resumed(
    due: Backends, folder: SweepFolder
) -> None:
    """Who pauses sees nothing more being sent; who resumes loses nothing."""
    stepper = folder.stepper(due)
    stepper.step()
    due.sweeps.pause(NAME, reason="the inventory is wrong", now=START)
    to_rest(stepper)
    assert 0 == night_of(due).cursor
    assert "the inventory is wrong" == due.sweeps.standing(NAME).paused
    due.sweeps.resume(NAME)
    to_rest(stepper)
    assert (Ending.COMPLETED, NUMBERS) == (night_of(due).ending, night_of(due).accepted)


def test_an_inventory_that_was_replaced_is_begun_anew(due: Backends, folder: SweepFolder) -> None:
    """A cursor into another file would leave a gap: it holds only for the file that it was made for."""
    stepper = folder.stepper(due)
    stepper.step()
    stepper.step()
    stepper.close()
    folder.write([line_of(number) for number in ["13700000000", *mobiles(NUMBERS)]])
    to_rest(folder.stepper(due))
    night = night_of(due)
    assert (Ending.COMPLETED, NUMBERS + 1) == (night.ending, due.runs.counters(night.run).get("accepted"))


def test_a_full_queue_holds_the_night_up_and_not_its_process(due: Backends, folder: SweepFolder) -> None:
    """A step that waited for room would hold up a stop, and its lease would run out."""
    stepper = folder.stepper(due)
    stepper.step()
    with patch.object(SweepStepper, "_is_full", lambda _: True):
        assert not stepper.step()
        move_to(due, START + timedelta(seconds=LEASE_S - 1))
        assert not stepper.step()
    move_to(due, START + timedelta(seconds=LEASE_S + 5))
    to_rest(stepper)
    assert (Ending.COMPLETED, 1) == (night_of(due).ending, due.sweeps.standing(NAME).fence)


def test_of_two_rows_of_one_number_the_latest_cycle_counts(due: Backends, folder: SweepFolder) -> None:
    """A number that was recycled twice is asked about once, for its newest cycle (requirement 2)."""
    old = line_of("13800000000", release=DAY + timedelta(days=1), freeze=200)
    folder.write([line_of("13800000000"), old, line_of("13800000001")])
    to_rest(folder.stepper(due))
    night = night_of(due)
    assert ({"superseded": 1}, 2) == (night.refused, night.accepted)
    (case,) = due.store.cases(due.store.find_by_number("+8613800000000"))
    assert "2026-11-04T00:00:00+08:00" == case.cutoff_at


def test_a_plan_counts_and_changes_nothing(due: Backends, folder: SweepFolder) -> None:
    """It can be read at noon, as often as anybody likes."""
    to_rest(folder.stepper(due))
    folder.write([line_of(number) for number in mobiles(NUMBERS + 2)] + [line_of("13900000001", freeze=89)])
    before = due.redis.dbsize()
    source = source_of(folder.definition, DAY, folder=folder.folder / "sweeps", vault=due.vault)
    refused: list[tuple[int, str]] = []
    found = plan(
        due, folder.catalogue, folder.definition, day=DAY, source=source,
        on_refused=lambda line, code, _: refused.append((line, code)),
    )  # fmt: skip
    assert (NUMBERS + 2, NUMBERS) == (found.contents.planned, found.known)
    assert {"2026-11-04": 2} == found.new_by_release
    assert {"alpha": 2, "beta": 2} == found.jobs_by_platform
    assert [(NUMBERS + 4, "freeze_too_short")] == refused
    assert before == due.redis.dbsize()
