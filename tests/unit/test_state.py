"""The transition table says the same as the rule by which records are merged."""

from itertools import product

import pytest

from schemas.record import JobRecord, merge
from schemas.state import (
    DISPATCHER_STATES,
    FINAL_STATES,
    REPLAYABLE,
    STATE_OF_CODE,
    STATES,
    TRANSITIONS,
    Holder,
    State,
    Verdict,
    verdict,
)

PAIRS = list(product(State, State))


def test_every_state_has_a_rule_a_code_of_its_own_and_a_row_in_the_table() -> None:
    """A state that one of the three forgets would be lost in the store."""
    assert set(State) == set(STATES) == set(TRANSITIONS)
    assert len(State) == len(STATE_OF_CODE)
    assert all(0 < code < 0x80 for code in STATE_OF_CODE), "the highest bit of the byte means disputed"


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda state: state.value)
def test_the_table_allows_exactly_what_merge_lets_win(before: State, after: State) -> None:
    """Within one generation, the change of the next attempt wins where the table allows it and nowhere else."""
    known = JobRecord(state=before, attempts=1, generation=1)
    change = JobRecord(state=after, attempts=2, generation=1)
    assert (after in TRANSITIONS[before]) == (change.place > known.place)
    expected = after if after in TRANSITIONS[before] else before
    assert expected == merge(known, change).state


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda state: state.value)
def test_a_change_of_an_earlier_generation_wins_only_if_it_is_final(before: State, after: State) -> None:
    """A replay fences off what was under way before it, but an answer is an answer."""
    known = JobRecord(state=before, attempts=1, generation=2)
    change = JobRecord(state=after, attempts=1, generation=1)
    wins = after in FINAL_STATES and before not in FINAL_STATES
    assert (after if wins else before) == merge(known, change).state


@pytest.mark.parametrize("before", State, ids=lambda state: state.value)
def test_a_replay_starts_again_at_queued_unless_the_job_is_final(before: State) -> None:
    """Raising the generation is the only way back."""
    known = JobRecord(state=before, attempts=3)
    replay = JobRecord(state=State.QUEUED, attempts=3, generation=1)
    expected = before if before in FINAL_STATES else State.QUEUED
    assert expected == merge(known, replay).state


def test_only_what_a_person_holds_can_be_replayed() -> None:
    """What the dispatcher or the platform holds is still moving."""
    assert {state for state, rule in STATES.items() if rule.holder is Holder.OPERATOR} == REPLAYABLE


def test_every_state_leads_to_an_end() -> None:
    """No state keeps a job for ever."""
    for state in State:
        assert state in FINAL_STATES or TRANSITIONS[state] >= FINAL_STATES


def test_final_states_are_those_that_nobody_holds_and_clean_ones_are_final() -> None:
    """A number is clean only by answers that nothing may follow."""
    assert {state for state, rule in STATES.items() if rule.holder is Holder.NOBODY} == FINAL_STATES
    assert {State.UNBOUND, State.NO_BINDING, State.BOUND_AFTER_CUTOFF} == {s for s in State if STATES[s].clean}
    assert all(STATES[state].final for state in State if STATES[state].clean)
    assert {State.QUEUED, State.WAITING} == DISPATCHER_STATES


@pytest.mark.parametrize(
    ("open_jobs", "exceptions", "expected"),
    [
        (0, 0, Verdict.CLEAN),
        (0, 1, Verdict.CLEAN_WITH_EXCEPTIONS),
        (1, 0, Verdict.INCOMPLETE),
        (1, 1, Verdict.INCOMPLETE),
    ],
)
def test_a_verdict_is_never_clean_while_anything_is_open(open_jobs: int, exceptions: int, expected: Verdict) -> None:
    """Clean is said of a number only when every platform has been settled."""
    assert expected == verdict(open_jobs=open_jobs, exceptions=exceptions)
