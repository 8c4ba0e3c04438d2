"""The sweeper's decision: lost is what shows no progress, never what is merely old."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.custody import Note, Phase
from schemas.batch import Lane
from workers.sweeper import REDRIVES_MAX, STARTS_MAX, Next, Seen, decide, look_s

HOUR_MS = 3_600_000
NOTES = st.builds(
    Note,
    phase=st.sampled_from(Phase),
    since_ms=st.integers(0, 10 * HOUR_MS),
    ends_ms=st.integers(0, 10 * HOUR_MS),
    starts=st.integers(0, 30),
    redrives=st.integers(0, 40),
    holder=st.just("w"),
)


def seen(
    *, depth: int = 0, results: int = 0, newest_begun_ms: int = 0, alive: tuple[str, ...] = ("w",), now_ms: int = 0
) -> Seen:
    """What the queues look like, the same in both lanes."""
    return Seen(
        depth=dict.fromkeys(Lane, depth),
        results=results,
        newest_begun_ms=dict.fromkeys(Lane, newest_begun_ms),
        alive=frozenset(alive),
        now_ms=now_ms,
    )


SEEN = st.builds(
    seen,
    depth=st.integers(0, 3),
    results=st.integers(0, 3),
    newest_begun_ms=st.integers(0, 10 * HOUR_MS),
    alive=st.sampled_from([(), ("w",)]),
    now_ms=st.integers(0, 10 * HOUR_MS),
)


def test_a_batch_in_a_long_queue_is_left_there_however_old() -> None:
    """A backlog of hours would otherwise be sent twice, and then again."""
    note = Note(phase=Phase.QUEUED, since_ms=10 * HOUR_MS)
    assert Next.LEAVE == decide(note, Lane.BULK, seen(depth=1, newest_begun_ms=9 * HOUR_MS))


def test_a_queue_that_is_empty_has_lost_what_nobody_has_begun() -> None:
    """So an emptied broker is filled again."""
    assert Next.REDRIVE == decide(Note(phase=Phase.QUEUED, since_ms=0), Lane.BULK, seen(depth=0))


def test_a_batch_that_was_overtaken_is_lost_though_the_queue_is_not_empty() -> None:
    """On a busy night the queue is never empty."""
    note = Note(phase=Phase.QUEUED, since_ms=HOUR_MS)
    assert Next.REDRIVE == decide(note, Lane.BULK, seen(depth=500, newest_begun_ms=2 * HOUR_MS))
    assert Next.LEAVE == decide(note, Lane.BULK, seen(depth=500, newest_begun_ms=HOUR_MS + 1000))


def test_a_worker_whose_lease_has_ended_is_not_waited_for() -> None:
    """It hangs; what it may still do is harmless under the same idempotency keys."""
    note = Note(phase=Phase.BEGUN, since_ms=0, ends_ms=120_000, starts=1, holder="w/1")
    assert Next.LEAVE == decide(note, Lane.BULK, seen(now_ms=119_999))
    assert Next.REDRIVE == decide(note, Lane.BULK, seen(depth=9, results=9, now_ms=120_000))


def test_a_worker_without_a_sign_of_life_is_not_waited_for_either() -> None:
    """A lease covers the slowest platform; a dead worker's batch need not wait that long."""
    note = Note(phase=Phase.BEGUN, since_ms=0, ends_ms=120_000, starts=1, holder="w/1")
    assert Next.REDRIVE == decide(note, Lane.BULK, seen(alive=("x",), now_ms=10_000))


def test_a_result_is_waited_for_while_the_results_queue_is_not_empty() -> None:
    """A slow recorder is no reason to ask the platforms again."""
    note = Note(phase=Phase.ANSWERED, since_ms=0, starts=1)
    assert Next.LEAVE == decide(note, Lane.BULK, seen(results=1))
    assert Next.REDRIVE == decide(note, Lane.BULK, seen(results=0))


@given(note=NOTES, what=SEEN)
def test_nothing_is_sent_again_without_end(note: Note, what: Seen) -> None:
    """What kills its workers comes to a person after a bounded number of starts or redrives; nothing else is buried."""
    spent = note.starts >= STARTS_MAX or note.redrives >= REDRIVES_MAX
    decision = decide(note, Lane.BULK, what)
    assert (decision is Next.BURY) <= spent
    assert (decision is Next.REDRIVE) <= (not spent)


@given(note=NOTES)
def test_what_brought_nothing_is_looked_at_less_often(note: Note) -> None:
    """A broker that loses everything must not be flooded; and nobody is forgotten for more than an hour."""
    assert 0 < look_s(note) <= 3600


@given(note=NOTES)
def test_a_note_is_read_as_it_was_written(note: Note) -> None:
    """The script and the sweeper compare notes byte by byte."""
    assert note == Note.parse(note.packed)


@pytest.mark.parametrize("lane", Lane)
def test_each_lane_is_judged_by_its_own_queue(lane: Lane) -> None:
    """A person's job must not be held back because bulk work is queued."""
    depth = {each: 0 if each is lane else 100 for each in Lane}
    what = replace(seen(), depth=depth)
    assert Next.REDRIVE == decide(Note(phase=Phase.QUEUED, since_ms=0), lane, what)
