"""A record fits its twelve bytes, and the order and number of events do not matter to what it ends as."""

from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.outcome import REASONS, Fault, Refusal
from schemas.record import ATTEMPTS_SHOWN_MAX, JobRecord, merge
from schemas.state import FINAL_STATES, STATES, State

SECONDS = st.integers(0, 2**32 - 1)
RECORDS = st.builds(
    JobRecord,
    state=st.sampled_from(State),
    reason=st.none() | st.sampled_from(REASONS),
    attempts=st.integers(0, ATTEMPTS_SHOWN_MAX),
    generation=st.integers(0, 255),
    first_sent_s=SECONDS,
    settled_s=SECONDS,
    disputed=st.booleans(),
)
OPEN_STATES = [state for state in State if state not in FINAL_STATES]
FINALS = st.tuples(st.sampled_from(sorted(FINAL_STATES)), st.none() | st.sampled_from(list(Refusal)))


@st.composite
def histories(draw: st.DrawFn) -> list[JobRecord]:
    """Events of one job as they can happen: attempts go on across generations, and one final answer at most.

    An attempt may be run twice, by two workers that see different things.
    """
    events: list[JobRecord] = []
    attempt = 0
    for generation in range(draw(st.integers(1, 3))):
        events.append(JobRecord(state=State.QUEUED, attempts=attempt, generation=generation))
        for _ in range(draw(st.integers(0, 3))):
            attempt += 1
            events += [
                JobRecord(
                    state=draw(st.sampled_from(OPEN_STATES[1:])),
                    reason=draw(st.none() | st.sampled_from(list(Fault))),
                    attempts=attempt,
                    generation=generation,
                    first_sent_s=draw(st.integers(1, 1000)),
                )
                for _ in range(draw(st.integers(1, 2)))
            ]
    state, reason = draw(FINALS)
    final = JobRecord(state=state, reason=reason, attempts=attempt + 1, first_sent_s=500)
    settled = draw(st.lists(st.integers(501, 2000), max_size=2))
    return events + [replace(final, settled_s=settled_s) for settled_s in settled]


@st.composite
def two_orders(draw: st.DrawFn) -> tuple[list[JobRecord], list[JobRecord]]:
    """Return one history in two orders, with some events twice in each."""
    history = draw(histories())

    def shuffled() -> list[JobRecord]:
        return draw(st.permutations(history + draw(st.lists(st.sampled_from(history), max_size=3))))

    return shuffled(), shuffled()


@given(record=RECORDS)
def test_a_record_comes_back_from_its_twelve_bytes(record: JobRecord) -> None:
    """Millions of them are kept: twelve bytes is the promise."""
    assert 12 == len(record.pack())
    assert record == JobRecord.unpack(record.pack())


def test_more_attempts_than_a_byte_holds_are_shown_as_the_most() -> None:
    """A job that was tried for months must not break its record."""
    assert ATTEMPTS_SHOWN_MAX == JobRecord.unpack(JobRecord(attempts=300).pack()).attempts


def test_times_are_those_of_the_first_call_and_the_first_answer() -> None:
    """A late or repeated event must not make a platform look faster or slower than it was."""
    early = JobRecord(state=State.UNBOUND, attempts=1, first_sent_s=100, settled_s=200)
    late = replace(early, first_sent_s=150, settled_s=250)
    not_sent = JobRecord(state=State.WAITING)
    for order in ([early, late, not_sent], [not_sent, late, early]):
        merged = reduce(merge, order)
        assert (100, 200) == (merged.first_sent_s, merged.settled_s)


@given(record=RECORDS)
def test_the_same_record_again_changes_nothing(record: JobRecord) -> None:
    """A redelivered event is no news."""
    assert record == merge(record, record)


@given(orders=two_orders())
def test_any_order_and_any_duplicates_give_the_same_end(orders: tuple[list[JobRecord], list[JobRecord]]) -> None:
    """Rule 3: events come twice, late and in any order."""
    first, second = orders
    assert reduce(merge, first) == reduce(merge, second)


@given(history=histories(), data=st.data())
def test_merge_is_commutative_and_associative_on_what_can_happen(history: list[JobRecord], data: st.DataObject) -> None:
    """So two recorders may share the work."""
    one, two, three = (data.draw(st.sampled_from(history)) for _ in range(3))
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(known=RECORDS, change=RECORDS)
def test_a_final_state_is_never_overwritten(known: JobRecord, change: JobRecord) -> None:
    """Not by a retry, not by a replay, not by another answer."""
    merged = merge(known, change)
    if known.state in FINAL_STATES:
        assert (known.state, known.reason) == (merged.state, merged.reason)
    assert (known.state in FINAL_STATES or change.state in FINAL_STATES) == STATES[merged.state].final


@given(first=FINALS, second=FINALS)
def test_two_different_answers_are_disputed_in_either_order(
    first: tuple[State, Refusal | None], second: tuple[State, Refusal | None]
) -> None:
    """The answer that was recorded stays; that there is another one is kept and shown."""
    one, two = (JobRecord(state=state, reason=reason, attempts=1) for state, reason in (first, second))
    # That nobody answered in time contradicts no answer.
    contradict = first != second and STATES[first[0]].unanswered == STATES[second[0]].unanswered
    assert contradict == merge(one, two).disputed == merge(two, one).disputed
    assert first == (merge(one, two).state, merge(one, two).reason)
    assert second == (merge(two, one).state, merge(two, one).reason)


@given(history=histories(), data=st.data())
def test_a_dispute_does_not_go_away(history: list[JobRecord], data: st.DataObject) -> None:
    """Whatever comes later, a contradiction stays for a person to see."""
    one = JobRecord(state=State.UNBOUND, attempts=1)
    two = JobRecord(state=State.REFUSED, reason=Refusal.LEGAL_HOLD, attempts=1)
    later = data.draw(st.permutations([*history, two]))
    assert reduce(merge, later, one).disputed


@pytest.mark.parametrize("state", OPEN_STATES, ids=lambda state: state.value)
def test_an_open_state_is_no_dispute(state: State) -> None:
    """Only two answers can contradict each other."""
    assert not merge(JobRecord(state=State.UNBOUND), JobRecord(state=state, attempts=2)).disputed
    assert not merge(JobRecord(state=state, attempts=2), JobRecord(state=State.UNBOUND)).disputed
