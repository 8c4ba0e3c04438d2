"""Whose turn it was: every moment of a job's life belongs to one party, with evidence (requirement 14)."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.dead import Step
from ops.turns import PARTIES, Because, Turn, late_party, pauses, totals, turns_of
from schemas.outcome import REASONS, Fault, Hold, Reason
from schemas.record import JobRecord, merge
from schemas.state import FINAL_STATES, STATES, Holder, State

START = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
NOW = START + timedelta(days=9)


def at(seconds: float) -> datetime:
    """Return a moment of the job's life."""
    return START + timedelta(seconds=seconds)


def step(seconds: float, state: State, reason: Reason | None = None, *, ms: int = 500, **fields: Any) -> Step:
    """Return one attempt, or one decision, that began so many seconds after intake."""
    usual: dict[str, Any] = {"attempt": 1, "generation": 0, "batch": "b", "worker": "w", "said": {}}
    return Step(at=at(seconds).isoformat(), ms=ms, state=state, reason=reason, **usual | fields)


def record_after(*steps: Step, settled_s: float = 0.0) -> JobRecord:
    """Return the record that the store keeps after these steps."""
    known = JobRecord()
    for each in steps:
        after = JobRecord(state=each.state, reason=each.reason, attempts=each.attempt, generation=each.generation,
                          first_sent_s=int(datetime.fromisoformat(each.at).timestamp()),
                          settled_s=int(at(settled_s).timestamp()) if settled_s else 0)  # fmt: skip
        known = merge(known, after)
    return known


def told(turns: tuple[Turn, ...]) -> list[tuple[str, float, float | None, str]]:
    """Return turns as holder, from, until, why; times in seconds from intake."""
    return [
        (
            turn.holder.value,
            (turn.since - START).total_seconds(),
            (turn.until - START).total_seconds() if turn.until else None,
            turn.because.value,
        )
        for turn in turns
    ]


def life(*steps: Step, settled_s: float = 0.0) -> list[tuple[str, float, float | None, str]]:
    """Return the turns of a job that went through these steps."""
    return told(turns_of(record_after(*steps, settled_s=settled_s), steps, accepted_at=START))


def test_what_was_never_sent_is_the_dispatchers() -> None:
    """Whatever it waits for there: that a person paused the platform is not on record, and so nobody is blamed."""
    assert [("dispatcher", 0, None, "queued")] == told(turns_of(JobRecord(), (), accepted_at=START))


def test_a_job_that_was_answered_at_once_needs_no_trail() -> None:
    """Nearly all jobs are such, and have their record alone."""
    sent, settled = int(at(60).timestamp()), int(at(62).timestamp())
    record = JobRecord(state=State.UNBOUND, attempts=1, first_sent_s=sent, settled_s=settled)
    assert [("dispatcher", 0, 60, "queued"), ("platform", 60, 62, "call")] == told(
        turns_of(record, (), accepted_at=START)
    )


@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.SERVER_ERROR, Fault.UNAUTHORIZED, Fault.DNS])
def test_the_wait_after_a_fault_of_the_platform_is_the_platforms(fault: Fault) -> None:
    """It failed; that it is asked again later is no delay of ours."""
    steps = step(10, State.WAITING, fault, said={"http_status": 503}), step(100, State.UNBOUND, attempt=2, ms=1000)
    assert [
        ("dispatcher", 0, 10, "queued"), ("platform", 10, 100, "fault"), ("platform", 100, 101, "call"),
    ] == life(*steps, settled_s=101)  # fmt: skip
    evidence = turns_of(record_after(*steps), steps, accepted_at=START)[1].evidence
    assert evidence is not None
    assert ("b", 1, 503, fault) == (evidence.batch, evidence.attempt, evidence.http_status, evidence.reason)


def test_a_batch_that_is_cut_in_half_waits_with_us() -> None:
    """The request was wrong: that is nobody's fault but ours."""
    assert ("dispatcher", 10.5, None, "wait") == life(step(10, State.WAITING, Fault.REJECTED_REQUEST, attempt=0))[-1]


def test_the_dead_and_the_unclear_are_with_the_operator_until_a_person_decides() -> None:
    """A dead letter that nobody looks at is the operator's delay."""
    died, again = step(10, State.DEAD, Fault.TIMEOUT), step(500, State.QUEUED, ms=0, generation=1, attempt=1)
    assert [
        ("dispatcher", 0, 10, "queued"), ("platform", 10, 10.5, "call"), ("operator", 10.5, 500, "dead"),
        ("dispatcher", 500, None, "replay"),
    ] == life(died, again)  # fmt: skip
    assert ("operator", 10.5, None, "review") == life(step(10, State.PENDING_REVIEW, Hold.UNKNOWN_CODE))[-1]


def test_what_the_platform_has_accepted_is_its_own_unless_it_waits_for_the_owner() -> None:
    """Only the owner can show an identity card, and only the platform can read it."""
    accepted = step(10, State.ACCEPTED)
    asked, shown = step(100, State.ACCEPTED, Hold.USER_ACTION, ms=0), step(400, State.ACCEPTED, ms=0)
    done = step(900, State.UNBOUND, ms=0)
    assert [
        ("dispatcher", 0, 10, "queued"), ("platform", 10, 100, "accepted"), ("user", 100, 400, "user_action"),
        ("platform", 400, 900, "accepted"),
    ] == life(accepted, asked, shown, done, settled_s=900)  # fmt: skip
    turns = turns_of(record_after(accepted, asked), (accepted, asked), accepted_at=START)
    assert ((at(100), NOW),) == pauses(turns, now=NOW)


def test_an_answer_that_comes_after_the_end_changes_nothing() -> None:
    """A job has one end, as it has one record."""
    done, late = step(10, State.UNBOUND), step(99, State.NO_BINDING)
    assert ("platform", 10, 10.5, "call") == life(done, late, settled_s=10)[-1]


def test_a_result_of_an_older_generation_passes_nothing_on() -> None:
    """A straggler of the first round must not take a job away from the second."""
    died, again = step(10, State.DEAD, Fault.TIMEOUT), step(20, State.QUEUED, ms=0, generation=1)
    straggler = step(30, State.DEAD, Fault.TIMEOUT, ms=0)
    assert ("dispatcher", 30, None, "replay") == life(died, again, straggler)[-1]


def test_what_is_kept_no_longer_is_blamed_on_nobody_else() -> None:
    """A trail ends after thirty days, and holds fifty steps."""
    sent = int(at(60).timestamp())
    record = JobRecord(state=State.DEAD, reason=Fault.TIMEOUT, attempts=60, first_sent_s=sent, settled_s=sent + 1000)
    assert [
        ("dispatcher", 0, 60, "queued"), ("dispatcher", 60, 1060, "unrecorded"), ("operator", 1060, None, "dead"),
    ] == told(turns_of(record, (), accepted_at=START))  # fmt: skip


def test_the_late_party_had_the_ball_for_most_of_the_time_beyond_the_promise() -> None:
    """Who is late is not who has it at the end."""
    steps = step(10, State.ACCEPTED), step(800, State.PENDING_REVIEW, ms=0), step(1000, State.UNBOUND, ms=0)
    turns = turns_of(record_after(*steps, settled_s=1000), steps, accepted_at=START)
    assert Holder.PLATFORM is late_party(turns, due_at=at(100), now=NOW)
    assert Holder.OPERATOR is late_party(turns, due_at=at(750), now=NOW)
    assert None is late_party(turns, due_at=at(1000), now=NOW)
    assert {Holder.PLATFORM: 50.0, Holder.OPERATOR: 200.0, Holder.DISPATCHER: 0.0, Holder.USER: 0.0} == totals(
        turns, now=NOW, after=at(750)
    )


STATES_OF_STEPS = st.sampled_from([state for state in State if state is not State.CANCELLED])
STEPS = st.lists(
    st.builds(
        step,
        st.floats(-50, 400_000, allow_nan=False),
        STATES_OF_STEPS,
        st.none() | st.sampled_from(REASONS),
        ms=st.integers(0, 120_000),
        attempt=st.integers(0, 5),
        generation=st.integers(0, 2),
    ),
    max_size=8,
)


@given(STEPS, st.booleans(), st.integers(0, 400_000))
def test_every_life_is_told_without_gap_or_overlap(steps: list[Step], trail_is_kept: bool, settled_s: int) -> None:
    """Whatever the trail holds: the time of all parties together is the whole life (requirement 14)."""
    record = record_after(*steps, settled_s=settled_s)
    turns = turns_of(record, steps if trail_is_kept else (), accepted_at=START)
    assert START == turns[0].since
    assert all(before.until == after.since for before, after in pairwise(turns))
    assert all(turn.until is None or turn.since < turn.until for turn in turns) or len(turns) == 1
    assert (turns[-1].until is None) == (record.state not in FINAL_STATES)
    assert all(turn.holder in PARTIES for turn in turns)
    ends_at = turns[-1].until or max(NOW, turns[-1].since)
    assert sum(totals(turns, now=ends_at).values()) == pytest.approx((ends_at - START).total_seconds())
    assert turns == turns_of(record, list(reversed(steps)) if trail_is_kept else (), accepted_at=START)


@given(STEPS)
def test_an_open_job_is_with_whom_its_state_names(steps: list[Step]) -> None:
    """The last turn and the table of states must not name two parties, but for whose fault a wait is."""
    record = record_after(*steps)
    if record.state in FINAL_STATES:
        return
    last = turns_of(record, steps, accepted_at=START)[-1].holder
    usual = STATES[record.state].holder
    if record.state is State.ACCEPTED:
        assert last in {usual, Holder.USER}
    elif record.state is State.WAITING:
        assert last in {usual, Holder.PLATFORM}
    else:
        assert last is usual


def test_every_way_to_hold_the_ball_is_tried_above() -> None:
    """A word that no rule gives is one that readers wait for in vain."""
    assert {"queued", "call", "fault", "wait", "replay", "accepted", "user_action", "dead", "review",
            "unrecorded"} == set(Because)  # fmt: skip
