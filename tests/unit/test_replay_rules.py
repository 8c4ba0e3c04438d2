"""How a replay goes on, decided from counts alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.replays import Phase, Progress
from producers.replay import RECENT_MIN, End, decide, end_of, note_end
from schemas.outcome import Fault
from schemas.record import ATTEMPTS_SHOWN_MAX, JobRecord
from schemas.state import FINAL_STATES, State

CANARY = 4
LIMIT = 20
TOTAL = 100
OPEN = st.sampled_from([Phase.CANARY, Phase.RUNNING])


def progress(
    phase: Phase = Phase.CANARY, *, at: int = 0, out: int = 0, sent: int = 0, ended: int = 0, failed: int = 0,
    recent: str = "",
) -> Progress:  # fmt: skip
    """A platform of a hundred jobs."""
    return Progress(
        platform="alpha", start=0, end=TOTAL, at=at, phase=phase, out=out, canary_sent=sent, canary_ended=ended,
        canary_failed=failed, recent=recent,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "generation", "attempts", "end"),
    [
        (State.QUEUED, 1, 3, End.PENDING),
        (State.WAITING, 1, 3, End.PENDING),  # it waits for its platform and has spent nothing
        (State.WAITING, 1, 4, End.FAILED),
        (State.DEAD, 1, 4, End.FAILED),
        (State.ACCEPTED, 1, 4, End.SETTLED),
        (State.PENDING_REVIEW, 1, 4, End.SETTLED),
        (State.DEAD, 0, 3, End.PENDING),  # as it was before
        (State.QUEUED, 2, 4, End.FAILED),  # it had died again, and somebody has replayed it since
        (State.UNBOUND, 0, 3, End.SETTLED),  # a late answer to what was sent long ago
    ],
)
def test_what_became_of_a_job(state: State, generation: int, attempts: int, end: End) -> None:
    """A replay goes on by what its own attempts came to, not by what was before or after."""
    record = JobRecord(state=state, generation=generation, attempts=attempts)
    assert end is end_of(record, generation=1, attempts=3)


@given(st.sampled_from(sorted(FINAL_STATES)), st.integers(0, 255), st.integers(0, 255))
def test_a_final_state_is_an_end_whatever_its_generation(state: State, generation: int, attempts: int) -> None:
    """Nothing follows it, so waiting for more would be waiting for ever."""
    record = JobRecord(state=state, generation=generation, attempts=attempts)
    assert End.SETTLED is end_of(record, generation=9, attempts=9)


def test_a_job_whose_attempts_cannot_be_counted_further_is_not_waited_for() -> None:
    """A record stops counting at 255: whether another attempt was spent cannot be seen then."""
    record = JobRecord(state=State.WAITING, generation=1, attempts=ATTEMPTS_SHOWN_MAX)
    assert End.FAILED is end_of(record, generation=1, attempts=ATTEMPTS_SHOWN_MAX)


def test_the_canary_is_sent_first_and_no_more() -> None:
    """Its size is what a person was told would be risked."""
    first = decide(progress(), canary=CANARY, limit=LIMIT)
    assert (Phase.CANARY, CANARY) == (first.phase, first.count)
    waits = decide(progress(at=CANARY, out=1, sent=CANARY, ended=3), canary=CANARY, limit=LIMIT)
    assert (Phase.CANARY, 0) == (waits.phase, waits.count)


@given(sent=st.integers(1, 50), failed=st.integers(0, 50))
def test_a_canary_lets_the_rest_follow_only_if_at_least_half_of_it_settled(sent: int, failed: int) -> None:
    """This is the rule for which there is a canary."""
    failed = min(failed, sent)
    move = decide(progress(at=sent, sent=sent, ended=sent, failed=failed), canary=sent, limit=LIMIT)
    assert (Phase.STOPPED if 2 * failed > sent else Phase.RUNNING) is move.phase
    assert bool(move.count) is (move.phase is Phase.RUNNING)


@given(recent=st.text("fs", max_size=RECENT_MIN), phase=OPEN)
def test_a_platform_stops_when_most_of_the_last_failed_again(recent: str, phase: Phase) -> None:
    """Too few of them say nothing yet; more than half of a full window do."""
    move = decide(progress(phase, at=50, sent=CANARY, ended=CANARY, recent=recent), canary=CANARY, limit=LIMIT)
    ill = len(recent) >= RECENT_MIN and 2 * recent.count("f") > RECENT_MIN
    assert (Phase.STOPPED if ill else Phase.RUNNING) is move.phase
    assert bool(move.why) is ill


@given(out=st.integers(0, LIMIT), at=st.integers(0, TOTAL), limit=st.integers(1, LIMIT), sent=st.integers(0, CANARY))
def test_no_more_is_ever_out_than_may_be(out: int, at: int, limit: int, sent: int) -> None:
    """What is out cannot be called back when a replay is stopped."""
    for phase in Phase:
        move = decide(progress(phase, at=at, out=min(out, limit), sent=sent), canary=CANARY, limit=limit)
        bound = CANARY - sent if move.phase is Phase.CANARY else limit - min(out, limit)
        assert 0 <= move.count <= min(bound, TOTAL - at)


@given(out=st.integers(0, LIMIT), at=st.integers(0, TOTAL - 1))
def test_a_few_stragglers_do_not_hold_up_the_rest(out: int, at: int) -> None:
    """One job whose platform is paused for it must not stop a hundred thousand others; nor shall each travel alone."""
    move = decide(progress(Phase.RUNNING, at=at, out=out), canary=CANARY, limit=LIMIT)
    assert bool(move.count) is (2 * (LIMIT - out) >= min(LIMIT, TOTAL - at))


@given(out=st.integers(0, 3), phase=OPEN, recent=st.text("fs", max_size=12))
def test_a_platform_is_done_when_all_is_sent_and_has_ended(out: int, phase: Phase, recent: str) -> None:
    """With nothing left to send there is nothing to stop."""
    move = decide(progress(phase, at=TOTAL, out=out, recent=recent), canary=CANARY, limit=LIMIT)
    assert (phase if out else Phase.DONE, 0) == (move.phase, move.count)


@given(out=st.integers(0, 3), at=st.integers(0, TOTAL))
def test_what_has_stopped_stays_so(out: int, at: int) -> None:
    """Only a person lets it go on."""
    for phase in (Phase.STOPPED, Phase.DONE):
        move = decide(progress(phase, at=at, out=out), canary=CANARY, limit=LIMIT)
        assert (phase, 0) == (move.phase, move.count)


@given(st.lists(st.sampled_from([State.UNBOUND, State.DEAD]), max_size=30))
def test_each_end_is_counted_once(states: list[State]) -> None:
    """The report adds up: sent = settled + failed again + pending."""
    known = progress(out=len(states))
    for state in states:
        end = End.FAILED if state is State.DEAD else End.SETTLED
        reason = Fault.TIMEOUT if state is State.DEAD else None
        note_end(known, end, JobRecord(state=state, reason=reason), canary=CANARY)
    assert 0 == known.out
    assert states.count(State.UNBOUND) == known.settled.get("UNBOUND", 0)
    assert states.count(State.DEAD) == known.failed.get("timeout", 0) == known.canary_failed
    assert len(known.recent) == min(RECENT_MIN, len(states))
