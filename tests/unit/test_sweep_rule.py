"""When a sweep begins, goes on, ends and is skipped: a rule over stored state and the time."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.sweeps import Ending, Standing
from producers.sweep_definition import Definition
from producers.sweep_rule import Begin, End, GoOn, Move, Rest, Skip, due_since, move, next_start, night_by_hand

FACTS = {"name": "nightly", "inventory": {"path": "pool.csv"}, "at": "22:30", "days_before_release": 7}
NEWEST = Definition.model_validate(FACTS | {"catch_up": {"rule": "newest", "until": "06:00"}})
NONE = Definition.model_validate(FACTS | {"catch_up": {"rule": "none"}})
DAY = date(2026, 11, 26)
START = datetime(2026, 11, 26, 14, 30, tzinfo=UTC)
ONE = timedelta(days=1)
BEFORE = Standing(done=DAY - ONE)


def at(hours: float) -> datetime:
    """Return the instant so long after the start of the night of DAY."""
    return START + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("definition", "standing", "now", "expected"),
    [
        (NEWEST, BEFORE, at(-0.01), Rest()),
        (NEWEST, BEFORE, at(0), Begin(DAY)),
        (NEWEST, BEFORE, at(1), Begin(DAY, late=True)),
        (NEWEST, BEFORE, at(7.49), Begin(DAY, late=True)),
        (NEWEST, BEFORE, at(7.5), Skip(DAY)),
        (NONE, BEFORE, at(0.2), Begin(DAY)),
        (NONE, BEFORE, at(0.25), Skip(DAY)),
        (NEWEST, Standing(done=DAY), at(1), Rest()),
        (NEWEST, Standing(done=DAY), at(24), Begin(DAY + ONE)),
        (NEWEST, Standing(done=DAY - 3 * ONE), at(1), Skip(DAY - 2 * ONE)),
        (NEWEST, Standing(), at(1), Begin(DAY, late=True)),
        (NEWEST, Standing(), at(8), Rest()),
        (NEWEST, Standing(open=DAY), at(23.9), GoOn(DAY)),
        (NEWEST, Standing(open=DAY), at(24), End(DAY, Ending.OVERTAKEN)),
        (NEWEST, Standing(open=DAY, problem="no file"), at(24), End(DAY, Ending.FAILED)),
        (NEWEST, replace(BEFORE, paused="a change"), at(1), Rest()),
        (NEWEST, Standing(open=DAY, paused="a change"), at(1), Rest()),
    ],
)
def test_what_is_to_be_done(definition: Definition, standing: Standing, now: datetime, expected: Move) -> None:
    """Each line is a question that a person would ask about a night."""
    assert expected == move(definition, standing, now=now)


def test_of_several_missed_nights_only_the_newest_is_made_up_for() -> None:
    """After a week without schedulers one night is run, and the others leave a record."""
    standing, moves = Standing(done=DAY - 7 * ONE), []
    while not isinstance(found := move(NEWEST, standing, now=at(2)), Begin):
        assert isinstance(found, Skip)
        moves.append(found.day)
        standing = Standing(done=found.day)
    assert [DAY - n * ONE for n in range(6, 0, -1)] == moves
    assert Begin(DAY, late=True) == found


@given(looks=st.lists(st.integers(0, 12 * 24 * 60), min_size=1, max_size=60), steps=st.integers(1, 4))
def test_whenever_somebody_looks_each_night_ends_once_and_in_order(looks: list[int], steps: int) -> None:
    """Ticks may come late, twice or not at all: no night is begun twice, none before one that is over."""
    standing, ended, begun, left = Standing(done=DAY - ONE), [DAY - ONE], [], 0
    for minutes in sorted(looks):
        now = START - ONE + timedelta(minutes=minutes)
        while not isinstance(found := move(NEWEST, standing, now=now), Rest):
            if isinstance(found, Begin):
                begun.append(found.day)
                standing, left = replace(standing, open=found.day), steps
            elif isinstance(found, GoOn) and left:
                left -= 1
                if left:
                    break
            if isinstance(found, Skip | End) or (isinstance(found, GoOn) and not left):
                ended.append(found.day)
                standing = Standing(done=found.day)
        assert standing.open is None or now < NEWEST.start(standing.open + ONE)
    assert ended == [ended[0] + n * ONE for n in range(len(ended))]
    assert sorted(set(begun)) == begun


def test_a_person_means_the_night_that_is_due_or_else_today_s() -> None:
    """At two in the morning `sweep run` makes up for last night; at noon it runs today's before its time."""
    assert DAY == night_by_hand(NEWEST, BEFORE, now=at(3.5))
    assert DAY + ONE == night_by_hand(NEWEST, Standing(done=DAY), now=at(13))
    assert DAY == night_by_hand(NEWEST, Standing(open=DAY), now=at(13))


def test_the_next_night_is_the_first_that_is_not_settled() -> None:
    """A night that was run by hand in the afternoon is not announced again for the evening."""
    assert START == next_start(NEWEST, BEFORE, now=at(-3))
    assert START + ONE == next_start(NEWEST, Standing(done=DAY), now=at(-3))


@pytest.mark.parametrize(
    ("standing", "now", "since"),
    [
        (BEFORE, at(-0.01), None),
        (BEFORE, at(1), START),
        (BEFORE, at(8), at(7.5)),
        (Standing(done=DAY), at(1), None),
        (replace(BEFORE, paused="a wrong inventory"), at(1), None),
        (replace(BEFORE, open=DAY, held_until_ms=int(at(2).timestamp() * 1000)), at(1), None),
        (replace(BEFORE, open=DAY, held_until_ms=int(at(1).timestamp() * 1000)), at(2), at(1)),
        (replace(BEFORE, open=DAY), at(25), at(24)),
    ],
)
def test_what_nobody_does_is_overdue_since_it_was_due(
    standing: Standing, now: datetime, since: datetime | None
) -> None:
    """A lease that somebody holds, a pause and a night that is over wake nobody."""
    assert since == due_since(NEWEST, standing, now=now)
