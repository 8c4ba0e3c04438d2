"""Which numbers of an inventory may be renewed: one fixture for each reason not to (requirements 3 and 4)."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.eligibility import (
    FREEZE_DAYS_MIN,
    Departure,
    Ineligible,
    InventoryRow,
    NumberState,
    Rule,
    is_of_this_cycle,
    obstacle,
)

DAY = date(2026, 11, 26)
RELEASE = date(2026, 12, 1)
RULE = Rule(country="CN", days_before_release=7)
GOOD = InventoryRow(
    line=2, number="+8613800000000", state=NumberState.FROZEN, deactivated_on=date(2026, 8, 1),
    frozen_from=date(2026, 8, 2), release_planned_on=RELEASE,
)  # fmt: skip
FIXTURES: list[tuple[Ineligible, dict[str, Any]]] = [
    (Ineligible.RECLAIMED, {"state": NumberState.RECLAIMED}),
    (Ineligible.RESERVED, {"state": NumberState.RESERVED}),
    (Ineligible.SIM_SWAP, {"departure": Departure.SIM_SWAP}),
    (Ineligible.TRANSFER, {"departure": Departure.TRANSFER}),
    (Ineligible.PORT_IN, {"departure": Departure.PORT_IN}),
    (Ineligible.SAME_OWNER, {"departure": Departure.SAME_OWNER}),
    (Ineligible.ALREADY_RELEASED, {"state": NumberState.ON_SALE}),
    (Ineligible.ALREADY_RELEASED, {"state": NumberState.RE_ACTIVATED}),
    (Ineligible.WRONG_STATE, {"state": NumberState.ACTIVE}),
    (Ineligible.WRONG_STATE, {"state": NumberState.SUSPENDED}),
    (Ineligible.WRONG_STATE, {"state": NumberState.PRE_CANCEL}),
    (Ineligible.WRONG_STATE, {"state": NumberState.DEACTIVATED}),
    (Ineligible.DATES_MISSING, {"deactivated_on": None}),
    (Ineligible.DATES_MISSING, {"frozen_from": None}),
    (Ineligible.DATES_MISSING, {"release_planned_on": None}),
    (Ineligible.DATES_CONTRADICT, {"deactivated_on": date(2026, 8, 3)}),
    (Ineligible.DATES_CONTRADICT, {"frozen_from": date(2026, 12, 2)}),
    (Ineligible.FREEZE_TOO_SHORT, {"frozen_from": date(2026, 9, 3)}),
    (Ineligible.TOO_EARLY, {"release_planned_on": date(2026, 12, 4)}),
]
# Found by looking at several rows, or at the inventory a second time.
OF_SEVERAL_ROWS = {Ineligible.SUPERSEDED, Ineligible.NOT_LISTED}


@pytest.mark.parametrize(("why", "fields"), FIXTURES)
def test_each_reason_has_a_code_of_its_own(why: Ineligible, fields: dict[str, Any]) -> None:
    """Who reads a report must see what to mend in the inventory."""
    assert why is obstacle(replace(GOOD, **fields), RULE, day=DAY)


def test_every_code_has_a_fixture() -> None:
    """A code that no row brings about would be dead, or untested."""
    assert set(Ineligible) - OF_SEVERAL_ROWS == {why for why, _ in FIXTURES}


@pytest.mark.parametrize("state", [NumberState.FROZEN, NumberState.RELEASABLE])
def test_a_frozen_number_and_one_at_the_end_of_its_freeze_are_renewed(state: NumberState) -> None:
    """These are the numbers that a sweep is for."""
    assert obstacle(replace(GOOD, state=state), RULE, day=DAY) is None


@pytest.mark.parametrize(("country", "days"), sorted(FREEZE_DAYS_MIN.items()))
def test_the_country_s_minimum_is_enough_and_a_day_less_is_not(country: str, days: int) -> None:
    """The regulator counts days: 89 is refused, 90 accepted (requirement 3)."""
    rule = replace(RULE, country=country)
    frozen = RELEASE - timedelta(days=days)
    row = replace(GOOD, deactivated_on=frozen, frozen_from=frozen)
    assert obstacle(row, rule, day=DAY) is None
    shorter = replace(row, frozen_from=frozen + timedelta(days=1))
    assert Ineligible.FREEZE_TOO_SHORT is obstacle(shorter, rule, day=DAY)


def test_the_minimums_are_those_of_the_requirement() -> None:
    """A figure that was changed by mistake would release nobody's complaint until it is too late."""
    assert {"CN": 90, "KR": 90, "IN": 90, "US": 45} == FREEZE_DAYS_MIN


def test_the_last_days_before_the_release_begin_on_the_day_that_the_sweep_says() -> None:
    """Asked too early, a returning owner is harmed (requirement 4)."""
    first = RELEASE - timedelta(days=RULE.days_before_release)
    assert obstacle(GOOD, RULE, day=first) is None
    assert Ineligible.TOO_EARLY is obstacle(GOOD, RULE, day=first - timedelta(days=1))


def test_a_number_that_is_late_and_still_frozen_is_renewed() -> None:
    """A missed night must not leave a number behind for good."""
    assert obstacle(GOOD, RULE, day=RELEASE + timedelta(days=3)) is None


def test_what_the_operator_wants_nobody_to_touch_comes_first() -> None:
    """A number that was taken back is counted as that, whatever else is wrong with its row."""
    row = replace(GOOD, state=NumberState.RECLAIMED, departure=Departure.SIM_SWAP, frozen_from=None)
    assert Ineligible.RECLAIMED is obstacle(row, RULE, day=DAY)


def test_the_cut_off_is_midnight_in_shanghai_of_the_planned_release() -> None:
    """A binding of the day itself is the new owner's (requirement 1)."""
    assert "2026-12-01T00:00:00+08:00" == GOOD.cutoff_at


def test_a_change_counts_from_the_day_of_deactivation_on() -> None:
    """That a number was taken back a year ago says nothing about this cycle."""
    midnight = datetime(2026, 7, 31, 16, tzinfo=UTC)
    assert is_of_this_cycle(GOOD, midnight)
    assert not is_of_this_cycle(GOOD, midnight - timedelta(seconds=1))


DATES = st.one_of(st.none(), st.dates(date(2026, 1, 1), date(2027, 1, 31)))


@given(
    row=st.builds(
        InventoryRow, line=st.just(2), number=st.just("+8613800000000"), state=st.sampled_from(NumberState),
        deactivated_on=DATES, frozen_from=DATES, release_planned_on=DATES, departure=st.sampled_from(Departure),
    ),
    day=st.dates(date(2026, 1, 1), date(2027, 1, 31)),
)  # fmt: skip
def test_what_passes_has_really_left_its_holder(row: InventoryRow, day: date) -> None:
    """Whatever an inventory holds, nothing passes that breaks a single rule."""
    if obstacle(row, RULE, day=day) is None:
        assert row.state in {NumberState.FROZEN, NumberState.RELEASABLE}
        assert row.departure is Departure.CANCELLED
        assert row.deactivated_on is not None
        assert row.frozen_from is not None
        assert row.release_planned_on is not None
        assert row.deactivated_on <= row.frozen_from
        assert 90 <= (row.release_planned_on - row.frozen_from).days
        assert day >= row.release_planned_on - timedelta(days=7)
