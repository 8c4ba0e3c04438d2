"""One platform misbehaves: the others do not notice, and its own jobs do not die for it."""

import threading
from math import ceil, log2
from pathlib import Path

from schemas.outcome import Fault
from schemas.state import DISPATCHER_STATES, FINAL_STATES, State
from tests.command import numbers, wait_until, write_input
from tests.rig import Rig, limits_of
from tests.rig_jobs import SETTLE_S

NUMBERS = 200
ILL = "many0"
# Longer than it takes the other platforms to settle.
HANG_S = 30.0
LASTS_S = 5.0
IN_A_BATCH = 500


def open_jobs(rig: Rig, platform: str) -> int:
    """Return how many jobs of a platform the dispatcher holds."""
    return sum(count for state, count in rig.jobs.states(platform).items() if state in DISPATCHER_STATES)


def await_others(rig: Rig) -> None:
    """Wait until every job is settled but those of the ill platform."""
    others = [platform.key for platform in rig.catalogue if platform.key != ILL]
    wait_until(lambda: not any(open_jobs(rig, key) for key in others), what="the others' end", seconds=SETTLE_S)


def test_a_platform_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    """Two hundred and forty platforms share the workers: one that never answers must cost only its own jobs time."""
    with Rig(tmp_path) as rig:
        rig.change_limits(ILL, timeout_s=HANG_S)
        rig.world.order(ILL, "hang", seconds=HANG_S)
        rig.up(workers=2)
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        await_others(rig)
        assert open_jobs(rig, ILL), "the hanging platform was not slower than the others"
        assert rig.world.stats()["platforms"][ILL]["in_flight_max"] <= rig.catalogue.get(ILL).limits.in_flight


def test_no_job_dies_while_a_platform_refuses_our_credentials(tmp_path: Path) -> None:
    """A secret that ran out at midnight must not bury a night of jobs: they wait until somebody has renewed it."""
    with Rig(tmp_path) as rig:
        # After a suspension a platform gets a twentieth of its rate first: that shall not last the whole test.
        rig.change_limits(ILL, calls_per_s=100)
        rig.world.order(ILL, "unauthorized")
        rig.up(workers=2)
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        await_others(rig)
        assert NUMBERS == open_jobs(rig, ILL)
        before = rig.world.calls(ILL)
        threading.Event().wait(LASTS_S)
        assert rig.world.calls(ILL) <= before + 1, "a suspended platform is only probed"
        assert 0 == rig.jobs.states()[State.DEAD]
        rig.world.order(ILL, None)
        rig.jobs.settle()
        rig.jobs.assert_told_truly(compared=NUMBERS * len(rig.catalogue))


def test_a_bad_item_is_found_and_buried_alone(tmp_path: Path) -> None:
    """One number that a platform cannot read must not bury the 499 that travel with it, nor cost 500 calls."""
    one = limits_of({ILL: {"limits": {"calls_per_s": 20, "in_flight": 4, "items_per_call": IN_A_BATCH}}})
    with Rig(tmp_path, catalogue=one) as rig:
        rig.submit(write_input(tmp_path / "input.csv", numbers(IN_A_BATCH)))
        bad = [case.id for case in rig.jobs.cases()][137]
        rig.world.order(ILL, "reject_batch", status=422, cases=[bad])
        rig.up(workers=1)
        rig.jobs.settle()
        dead = [(case, record.reason) for case, _, record in rig.jobs.records() if record.state is State.DEAD]
        assert [(bad, Fault.REJECTED_REQUEST)] == dead
        assert IN_A_BATCH - 1 == sum(count for state, count in rig.jobs.states().items() if state in FINAL_STATES)
        assert rig.world.calls(ILL) <= 2 * ceil(log2(IN_A_BATCH)) + 2
        rig.jobs.assert_told_truly(compared=IN_A_BATCH - 1)
