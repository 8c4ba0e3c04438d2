"""Processes that end without a word, or with one: nothing is lost, and no platform acts twice."""

from functools import partial
from pathlib import Path

from schemas.state import DISPATCHER_STATES
from tests.command import numbers, write_input
from tests.rig import ROLES, Rig, small_catalogue

NUMBERS = 200
PLATFORMS = 6


def test_processes_killed_under_load_lose_nothing_and_repeat_no_effect(tmp_path: Path) -> None:
    """A machine that runs out of memory kills whom it likes: each job must still come to its one end."""
    # In a storm every platform is soon asked at a small share of its rate: the rates are high to keep this short.
    with Rig(tmp_path, catalogue=partial(small_catalogue, haste=5), faults="storm", seed=11) as rig:
        rig.up(workers=2)
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        for calls in range(60, 480, 60):
            rig.await_calls(calls)
            role = rig.random.choice(ROLES)
            rig.await_role(role, instead_of=[rig.kill(role)])
        rig.jobs.settle()
        states = rig.jobs.states()
        assert NUMBERS * PLATFORMS == states.total()
        assert set() == set(states) & DISPATCHER_STATES
        check = rig.jobs.assert_told_truly()
        assert check.compared > NUMBERS * PLATFORMS * 0.95, dict(states)


def test_a_rolling_restart_asks_no_platform_twice(tmp_path: Path) -> None:
    """A new version is rolled out under load: what was begun is finished, and nothing is begun again."""
    with Rig(tmp_path) as rig:
        rig.up(workers=2)
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        rig.await_calls(60)
        rig.replace("worker")
        rig.jobs.settle()
        rig.jobs.assert_told_truly(compared=NUMBERS * PLATFORMS)
        assert {} == {job: times for job, times in rig.world.answers().items() if times != 1}
        calls = {platform.key: -(-NUMBERS // platform.limits.items_per_call) for platform in rig.catalogue}
        calls |= {platform.key: NUMBERS for platform in rig.catalogue if platform.protocol == "json"}
        assert calls == {key: counted["requests"] for key, counted in rig.world.stats()["platforms"].items()}
