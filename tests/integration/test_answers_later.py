"""Answers that come later, with every process of the system and platforms that answer 202 first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.state import STATES
from tests.answers import POLL
from tests.command import free_port, numbers, wait_until, write_input, write_platform
from tests.rig import Rig
from tests.rig_jobs import SETTLE_S

LIMITS = {"timeout_s": 2, "calls_per_s": 50, "in_flight": 4}


def catalogue(folder: Path) -> Path:
    """One platform that calls back and one that is asked; of each protocol one."""
    write_platform(folder, "calls", limits={**LIMITS, "items_per_call": 5}, callback={"secret": ["env:A", "env:B"]})
    write_platform(folder, "asked", protocol="json", limits=LIMITS, poll=POLL)
    return folder


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """The whole system, its console included, and platforms of which the first also has an impostor."""
    port = str(free_port())
    address = f"127.0.0.1:{port}"
    with Rig(
        tmp_path, catalogue=catalogue, faults="later", callbacks=f"http://{address}", RENEWAL_CONSOLE=address
    ) as rig:
        rig.up(workers=1)
        rig.await_role("console")
        rig.world.order("calls", "later", seconds=0.5, callback="forged")
        yield rig


def test_platforms_that_answer_later_are_heard_and_an_impostor_is_not(rig: Rig, tmp_path: Path) -> None:
    """202, then a callback or a poll: every job ends with its platform's own truth, and each effect is there once."""
    rig.submit(write_input(tmp_path / "numbers.csv", numbers(20)))

    def all_final() -> bool:
        states = rig.jobs.states()
        return states.total() == 40 and all(STATES[state].final for state in states)

    wait_until(all_final, what="an answer for every job", seconds=SETTLE_S)
    rig.jobs.assert_told_truly(compared=40)
    refused = rig.backends.callbacks.newest(at_most=100)
    assert {("calls", "signature")} == {(each.platform, each.why) for each in refused}
    listed = rig.renewal.run("callbacks", "list", "-o", "jsonl")
    assert len(refused) == len(listed.out.splitlines())
