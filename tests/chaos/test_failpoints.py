"""Every step of a process is once its last one: whoever comes after it finishes what it left, and nothing comes twice.

The steps are named in the source by `reach`; a process that was started with RENEWAL_FAILPOINT ends there without any
clean-up, as by SIGKILL.
"""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.command import Started, numbers, wait_until, write_input
from tests.rig import ROLES, Rig, limits_of

STEPS = {
    "worker": [
        "attempt.begun",
        "attempt.admitted",
        "attempt.called",
        "attempt.deferred",
        "attempt.waiting_put",
        "attempt.published",
    ],
    "recorder": ["recorder.written"],
    "scheduler": ["scheduler.leased", "scheduler.published"],
    "submit": ["submit.accepted", "submit.published", "submit.queued", "submit.cursor"],
}
NUMBERS = 30
EXIT_CODE = -9
# A worker has done something already; the others take all that is there at their first time.
TIMES = {"worker": 2, "recorder": 1, "scheduler": 1}
# So low that batches must wait for leave: that step is reached too.
LIMITS = {"calls_per_s": 15, "in_flight": 8, "timeout_s": 1}
FILES = count()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One system for all steps; each step has numbers of its own."""
    catalogue = limits_of(
        {
            "many": {"limits": {**LIMITS, "calls_per_s": 6, "items_per_call": 3}},
            "one": {"protocol": "json", "limits": LIMITS},
        }
    )
    with Rig(tmp_path_factory.mktemp("failpoints"), catalogue=catalogue, faults="normal", seed=14) as rig:
        yield rig


@pytest.fixture(scope="module")
def standing() -> dict[str, Started]:
    """What works between the steps, by role: only the one that is to die is started for its step."""
    return {}


def stand(rig: Rig, standing: dict[str, Started], role: str) -> None:
    """Have a process of a role at work."""
    if role not in standing or standing[role].process.poll() is not None:
        standing[role] = rig.start_single(role)


def fall(standing: dict[str, Started], role: str) -> None:
    """Have none of a role."""
    if role in standing:
        process = standing.pop(role).process
        process.kill()
        process.wait()


@pytest.mark.parametrize(("role", "step"), [(role, step) for role, steps in STEPS.items() for step in steps])
def test_a_process_that_ends_at_any_step_loses_nothing_and_repeats_no_effect(
    rig: Rig, standing: dict[str, Started], role: str, step: str
) -> None:
    """Nobody chooses where a process dies: each step must leave behind what the next process needs."""
    index = next(FILES)
    file = write_input(rig.folder / f"{index}.csv", numbers(NUMBERS, first=index * NUMBERS))
    fall(standing, role)
    for other in ROLES:
        if other != role:
            stand(rig, standing, other)
    if role == "submit":
        done = rig.renewal.run("submit", file, RENEWAL_FAILPOINT=step)
        assert EXIT_CODE == done.code, done.told
    rig.submit(file)
    if role != "submit":
        started = rig.start_single(role, RENEWAL_FAILPOINT=f"{step}:{TIMES[role]}")
        wait_until(lambda: started.process.poll() is not None, what=f"the {role} at {step}")
        assert EXIT_CODE == started.process.returncode, started.err
        stand(rig, standing, role)
    rig.jobs.settle(patience_s=2)
    assert NUMBERS * len(rig.catalogue) * (index + 1) == rig.jobs.states().total()
    rig.jobs.assert_told_truly()
