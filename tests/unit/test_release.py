"""Whether a number may be sold: never on the ground of a job that is not clean."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.store import CaseView
from ops.release import LIST_FIELDS, MISSING_OF_STATE, Level, Missing, Release, judge
from schemas.outcome import Refusal
from schemas.record import JobRecord
from schemas.state import STATES, State, Verdict, verdict

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
CLEAN = [state for state, rule in STATES.items() if rule.clean]


def case(*states: State, told: Verdict | None = None, disputed: bool = False) -> CaseView:
    """A case with one job in each state; the roll-up is that of the states, unless another is told."""
    records = {f"p{index}": JobRecord(state=state, disputed=disputed) for index, state in enumerate(states)}
    rules = [STATES[state] for state in states]
    rolled_up = verdict(
        open_jobs=sum(not rule.final for rule in rules), exceptions=sum(rule.final and not rule.clean for rule in rules)
    )
    return CaseView(
        id="c", run="r", line=2, manifest="m", place=0, settled={}, sealed=b"",
        mask="138****1234", cutoff_at="2026-11-01T00:00:00+08:00",
        basis="planned_release", cycle="2026-11-01", reference="NR-1", accepted_s=0, queued=True,
        platforms=tuple(records), verdict=told or rolled_up,
        # A job that nobody has tried has no record.
        records={key: record for key, record in records.items() if record.state is not State.QUEUED},
    )  # fmt: skip


def decided(view: CaseView, level: Level = Level.CLEAN, *, superseded: bool = False, readable: bool = True) -> Release:
    """Decide about it, for a catalogue of ten platforms."""
    return judge(
        view, level=level, catalogue=[f"p{index}" for index in range(10)], as_of=NOON, superseded=superseded,
        readable=readable,
    )  # fmt: skip


def test_every_state_is_clean_or_says_what_is_missing() -> None:
    """A state that is neither would let a number be sold in silence."""
    assert set(State) == set(CLEAN) | set(MISSING_OF_STATE)
    assert set() == set(CLEAN) & set(MISSING_OF_STATE)


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_one_job_that_is_not_clean_keeps_a_number_from_being_sold(state: State) -> None:
    """Whatever the other platforms said: the new owner meets the one that did not."""
    found = decided(case(State.NO_BINDING, state, State.UNBOUND))
    assert (state in CLEAN) == found.may_be_sold == (found.verdict is Verdict.CLEAN)
    accepted = decided(case(State.NO_BINDING, state, State.UNBOUND), Level.CLEAN_WITH_EXCEPTIONS)
    assert STATES[state].final == accepted.may_be_sold
    against = [(obstacle.platform, obstacle.missing) for obstacle in found.obstacles]
    assert ([] if state in CLEAN else [("p1", MISSING_OF_STATE[state])]) == against


@given(
    states=st.lists(st.sampled_from(State), max_size=10), told=st.sampled_from(Verdict), level=st.sampled_from(Level)
)
def test_neither_records_nor_roll_up_alone_sell_a_number(states: list[State], told: Verdict, level: Level) -> None:
    """Where the two differ something is broken, and then the worse one counts."""
    found = decided(case(*states, told=told), level)
    good = {Verdict.CLEAN} if level is Level.CLEAN else {Verdict.CLEAN, Verdict.CLEAN_WITH_EXCEPTIONS}
    finals = all(STATES[state].final for state in states)
    if found.may_be_sold:
        assert states
        assert told in good
        assert finals
        assert level is not Level.CLEAN or set(states) <= set(CLEAN)
    else:
        assert found.obstacles, "a no without a reason"
    assert len(states) == found.clean + found.open + found.exceptions
    assert (found.verdict is Verdict.CLEAN) <= (set(states) <= set(CLEAN))
    assert set(LIST_FIELDS) == set(found.row()) == set(found.flat_row())


@pytest.mark.parametrize("level", Level, ids=lambda level: level.value)
@pytest.mark.parametrize(
    ("view", "words", "missing"),
    [
        (case(), {}, Missing.NOTHING_ASKED),
        (case(State.UNBOUND), {"superseded": True}, Missing.SUPERSEDED),
        (case(State.UNBOUND), {"readable": False}, Missing.UNREADABLE),
        (case(State.UNBOUND, told=Verdict.CLEAN_WITH_EXCEPTIONS), {}, Missing.UNCLEAR),
    ],
    ids=["nothing asked", "superseded", "unreadable", "unclear"],
)
def test_what_is_no_job_keeps_a_number_from_being_sold_at_any_level(
    level: Level, view: CaseView, words: dict[str, bool], missing: Missing
) -> None:
    """A case without platforms is clean by arithmetic only; an older cycle says nothing of the newer one."""
    found = decided(view, level, **words)
    assert not found.may_be_sold
    assert missing in {obstacle.missing for obstacle in found.obstacles}


def test_a_contradiction_is_an_exception() -> None:
    """One platform said both: a person may accept that, a sale by itself may not."""
    view = case(State.NO_BINDING, disputed=True)
    assert not decided(view).may_be_sold
    assert decided(view, Level.CLEAN_WITH_EXCEPTIONS).may_be_sold
    assert [Missing.DISPUTED] == [obstacle.missing for obstacle in decided(view).obstacles]


def test_the_answer_says_which_platforms_of_the_catalogue_were_not_asked() -> None:
    """CLEAN speaks of those that were."""
    found = decided(case(State.UNBOUND, State.NO_BINDING))
    assert [f"p{index}" for index in range(2, 10)] == found.answer()["not_asked"]
    assert 8 == found.row()["not_asked"]


def test_a_line_says_in_words_what_stands_against_a_number_and_keeps_them_few() -> None:
    """A table is read by people; the whole is in the file."""
    view = case(State.DEAD, State.REFUSED, State.QUEUED)
    view.records["p1"] = JobRecord(state=State.REFUSED, reason=Refusal.FUNDS_OR_DEBT)
    found = decided(view)
    assert "p0 dead; p1 refused (funds_or_debt); p2 open" == found.flat_row()["against"]
    assert "p0 dead; and 2 more" == found.flat_row(obstacles_max=1)["against"]
    assert {"missing": "refused", "platform": "p1", "state": "REFUSED", "reason": "funds_or_debt"} == (
        found.answer()["why"][1]
    )
