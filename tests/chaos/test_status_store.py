"""The Valkey that is status store and broker goes away under load: everybody waits, and goes on where it was."""

import threading
from pathlib import Path

from tests.command import numbers, write_input
from tests.rig import Rig

NUMBERS = 200
PLATFORMS = 6
FROZEN_S = 6.0


def test_a_valkey_that_is_killed_twice_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    """Everything that was promised to anybody is in it: what it wrote down must do to go on."""
    with Rig(tmp_path, seed=12) as rig:
        rig.up(workers=2)
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        for calls in (80, 240):
            rig.await_calls(calls)
            rig.restart_valkey()
        rig.jobs.settle()
        rig.jobs.assert_told_truly(compared=NUMBERS * PLATFORMS)


def test_a_valkey_that_answers_nobody_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """A frozen server accepts connections and says nothing: nobody may take that for a yes, or give up for good."""
    with Rig(tmp_path, seed=13) as rig:
        rig.up(workers=2)
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        rig.await_calls(80)
        with rig.frozen_valkey():
            threading.Event().wait(FROZEN_S)
        rig.jobs.settle()
        rig.jobs.assert_told_truly(compared=NUMBERS * PLATFORMS)
