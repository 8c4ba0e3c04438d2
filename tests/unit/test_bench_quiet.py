"""The benchmark waits until the machine is quiet, but not for ever."""

from collections.abc import Callable, Iterator

import pytest

from benchmarks.quiet import LOOK_S, Reading, Watch, await_quiet, foreign_cores


def busy(*loads: float) -> tuple[Callable[[], Reading], Callable[[float], None]]:
    """Return a machine whose others use these cores in one look after the other, and the pause that moves its clock."""
    at_s, machine_s, own_s = 0.0, 100.0, 10.0
    coming: Iterator[float] = iter(loads)

    def pause(seconds: float) -> None:
        nonlocal at_s, machine_s, own_s
        at_s, own_s = at_s + seconds, own_s + 0.5 * seconds
        machine_s += (next(coming) + 0.5) * seconds

    return lambda: Reading(at_s, machine_s, own_s), pause


def test_what_the_benchmark_uses_itself_is_nobody_else_s() -> None:
    """Its own processes would otherwise never let it begin."""
    assert 0.25 == pytest.approx(foreign_cores(Reading(0, 10, 4), Reading(4, 15, 8)))
    assert 0.0 == foreign_cores(Reading(0, 10, 4), Reading(1, 10, 5))


def test_a_quiet_machine_is_used_after_one_look() -> None:
    """Nobody waits where there is nothing to wait for."""
    look, pause = busy(0.1)
    wait = await_quiet(look, pause, patience_s=100)
    assert (LOOK_S, True) == (wait.waited_s, wait.quiet)
    assert 0.1 == pytest.approx(wait.load_cores)


def test_others_are_waited_out() -> None:
    """A round begins when the load has gone, and says how long that took."""
    look, pause = busy(1.5, 1.5, 0.9, 0.2)
    wait = await_quiet(look, pause, patience_s=100)
    assert (4 * LOOK_S, True) == (wait.waited_s, wait.quiet)


def test_patience_ends() -> None:
    """On a machine that is never quiet the round is taken all the same, and the load is told."""
    look, pause = busy(*[1.5] * 10)
    wait = await_quiet(look, pause, patience_s=5 * LOOK_S)
    assert (5 * LOOK_S, False) == (wait.waited_s, wait.quiet)
    assert 1.5 == pytest.approx(wait.load_cores)


def test_a_turn_that_others_disturbed_is_marked() -> None:
    """The wait says only that it began quietly; a figure that was spoiled later must be seen as such."""
    look, pause = busy(0.1, 0.1, 1.2, 0.1)
    watch = Watch(look, pause, patience_s=100)
    watch.begin("first")
    pause(1)
    assert "others use 0.10 cores after 2 s" == watch.begin("second")
    watch.end()
    first, second = watch.taken()
    assert ("first", True) == (first.turn, first.quiet)
    assert 0.1 == pytest.approx(first.during_cores)
    assert ("second", 2 * LOOK_S) == (second.turn, second.waited_s)
    assert [] == watch.taken()


def test_a_turn_disturbed_in_its_middle_is_not_quiet() -> None:
    """It began on a quiet machine and did not stay there."""
    look, pause = busy(0.1, 1.2)
    watch = Watch(look, pause, patience_s=100)
    watch.begin("only")
    pause(1)
    watch.end()
    (load,) = watch.taken()
    assert 1.2 == pytest.approx(load.during_cores)
    assert not load.quiet
