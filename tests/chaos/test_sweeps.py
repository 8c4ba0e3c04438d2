"""Two beats and two schedulers, and both leaders die: the night is completed once, and by one at a time."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backends.sweeps import Ending
from backends.withdrawals import Stage
from schemas.ids import job_id
from tests.command import wait_until, write_platform
from tests.rig import Rig
from tests.sweeping import NAME, SweepFolder, line_of, mobiles

NUMBERS = 2100  # three chunks: the leader dies at the second
LIMITS = {"calls_per_s": 50, "in_flight": 4}
ROOT = Path(__file__).parents[2]


def with_withdrawal(folder: Path) -> Path:
    """Write two platforms, one of which can be told that a number goes back."""
    write_platform(folder, "many0", limits=LIMITS, withdraw="https://many0.example/v1/withdrawals")
    write_platform(folder, "many1", limits=LIMITS)
    return folder


def stage_of(rig: Rig, job: str) -> Stage:
    """Return how far a withdrawal is."""
    return {each.job: each.stage for each in rig.backends.withdrawals.every()}[job]


@contextlib.contextmanager
def hurried(rig: Rig, role: str, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Have one process of a role whose waits are seconds; at the end it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hurried", role], env=rig.renewal.environment(settings), cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_whoever_leads_dies_and_the_night_is_completed_once(tmp_path: Path) -> None:
    """F14 of the acceptance list: exactly one completed sweep a day, and never two at once."""
    now = datetime.now(UTC)
    begun, until = (f"{now + timedelta(minutes=minutes):%H:%M}" for minutes in (-2, 600))
    folder = SweepFolder(tmp_path / "sweep")
    folder.define(at=begun, zone="UTC", catch_up={"rule": "newest", "until": until})
    folder.write([line_of(number, release=now.date() + timedelta(days=3)) for number in mobiles(NUMBERS)])
    day = folder.definition.newest_night(now)
    rigged = Rig(tmp_path / "rig", catalogue=with_withdrawal, RENEWAL_SWEEPS=str(folder.folder / "sweeps"))
    with rigged as rig, rig.single("worker"):
        sweeps = rig.backends.sweeps
        with hurried(rig, "scheduler", RENEWAL_FAILPOINT="sweep.submitted:2") as leader:
            wait_until(lambda: leader.poll() is not None, what="the leader at its second chunk", seconds=40)
            assert -9 == leader.returncode
            held = sweeps.standing(NAME)
            assert (day, 1) == (held.open, held.fence)
            with hurried(rig, "scheduler"), hurried(rig, "beat") as ticking, hurried(rig, "beat"):
                wait_until(lambda: sweeps.ticked_ms() > 0, what="a tick", seconds=40)
                ticking.kill()
                before = sweeps.ticked_ms()
                wait_until(lambda: sweeps.ticked_ms() > before + 2000, what="a tick of the other beat", seconds=40)
                wait_until(lambda: sweeps.standing(NAME).done == day, what="the end of the night", seconds=60)
        (night,) = sweeps.nights(NAME)
        assert (Ending.COMPLETED, NUMBERS, NUMBERS) == (night.ending, night.sent, night.accepted)
        counters = rig.backends.runs.counters(night.run)
        assert (NUMBERS, NUMBERS * len(rig.catalogue)) == (counters.get("accepted"), counters.get("jobs"))
        assert 2 <= sweeps.standing(NAME).fence
        # And the very worker of this system tells a platform that a number goes back.
        job = job_id(next(rig.backends.runs.cases(night.run)), "many0")
        rig.backends.withdrawals.request([job], now=datetime.now(UTC))
        wait_until(lambda: stage_of(rig, job) is Stage.ACKNOWLEDGED, what="the platform's word", seconds=40)
        assert 1 == rig.world.stats()["platforms"]["many0"]["withdrawals"]
