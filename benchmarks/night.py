"""A province's night: `python -m benchmarks.night` sweeps an inventory of 33,000 numbers at 240 platforms in one go.

The scheduler begins the sweep by itself, since its hour has come. The platforms are the simulator, which writes down
what it did. In the middle the scheduler that sends, one worker and the recorder are killed by SIGKILL; the supervisor
starts them again. At the end every recorded outcome is held against the platforms' own record, and every job must be in
somebody's hands. Exit code 0 only if the ledger agrees, nothing is lost, and every limit of `LIMITS` holds.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from redis.exceptions import RedisError

from benchmarks.catalogue import write_platforms
from benchmarks.errors import Unmeasured
from benchmarks.numbers import mobiles
from benchmarks.system import System, forget_environment
from benchmarks.usage import Usage
from ops.audit import audit
from ops.ledger import compare
from platforms.catalogue import Catalogue
from schemas.state import DISPATCHER_STATES
from simulator.sandbox import write_sandbox
from simulator.server import listen

NUMBERS: Final = 33_000
PLATFORMS: Final = 240
LIMITS: Final = {"duration_s": 600.0, "bytes_a_job": 32.0}
# What buffers and caches may come to; beyond it no process may grow from the first quarter of the jobs to the end.
SLACK_MB: Final = 24.0
GROWTH_MAX: Final = 1.1
# The store and the platforms' own ledger are there to hold every job.
_RECORDS: Final = {"valkey", "simulate"}
_NAME: Final = "nightly"
_LOOK_S: Final = 0.5
_STUCK_S: Final = 240.0
_TELL_EACH_S: Final = 10.0


@dataclass(slots=True, kw_only=True)
class Night:
    """What was seen while it ran. Memory in MB, by role: at a quarter of the jobs, and the most after it."""

    jobs: int
    seconds: float = 0.0
    quarter_mb: dict[str, float] = field(default_factory=dict)
    most_mb: dict[str, float] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)
    first_job_s: float = 0.0


def write_sweep(folder: Path, *, numbers: int, seed: int) -> Path:
    """Write the inventory and the definition of a sweep that is due now. Returns the folder of sweeps."""
    now = datetime.now(UTC)
    with (folder / "pool.csv").open("w", encoding="utf-8") as file:
        file.write("number,state,deactivated_on,frozen_from,release_planned_on\n")
        for index, number in enumerate(mobiles(numbers, seed=seed)):
            release = now.date() + timedelta(days=1 + index % 7)
            frozen = release - timedelta(days=91)
            file.write(f"{number},FROZEN,{frozen},{frozen},{release}\n")
    sweeps = folder / "sweeps"
    sweeps.mkdir()
    facts = {
        "name": _NAME,
        "inventory": {"path": "../pool.csv"},
        "at": f"{now - timedelta(minutes=1):%H:%M}",
        "zone": "UTC",
        "days_before_release": 10,
        "catch_up": {"rule": "newest", "until": f"{now + timedelta(hours=10):%H:%M}"},
    }
    (sweeps / f"{_NAME}.yaml").write_text(yaml.safe_dump(facts), encoding="utf-8")
    return sweeps


def run(folder: Path, *, numbers: int, platforms: int, seed: int, kill: bool) -> dict[str, Any]:
    """Run the night. Raises Unmeasured when nothing moves any more."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(contextlib.closing(listen("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        catalogue = write_sandbox_catalogue(folder, platforms=platforms, url=url)
        system = System(folder, catalogue)
        system.settings = system.settings.model_copy(
            update={"sweeps": write_sweep(folder, numbers=numbers, seed=seed).resolve()}
        )
        stack.enter_context(system)
        system.supervisor.start(
            "simulate", "--catalogue", str(catalogue), "--descriptor", str(sock.fileno()), "--seed", str(seed),
            "--ledger", str(folder / "ledger"), descriptors=(sock.fileno(),),
        )  # fmt: skip
        night = Night(jobs=numbers * platforms)
        with Usage(system.pids) as usage:
            system.start_work()
            follow(system, night, usage=usage, kill=kill)
        return judged(system, night, url=url)


def write_sandbox_catalogue(folder: Path, *, platforms: int, url: str) -> Path:
    """Write the platforms, and what points at the simulator."""
    plain = Catalogue.load(write_platforms(folder / "platforms", platforms, url=url))
    return write_sandbox(plain, folder / "catalogue", base_url=url).folder


def follow(system: System, night: Night, *, usage: Usage, kill: bool) -> None:
    """Watch until the night is completed and every job settled; kill in the middle."""
    backends, began_s = system.backends, time.monotonic()
    done, moved_s = 0, began_s
    for settled, ended in looks(system):
        now_s = time.monotonic()
        if settled > done:
            done, moved_s = settled, now_s
            night.first_job_s = night.first_job_s or now_s - began_s
        if now_s - moved_s > _STUCK_S:
            raise Unmeasured(f"{done} of {night.jobs} jobs were done, and nothing moved for {_STUCK_S:.0f} s")
        if not night.quarter_mb and done >= night.jobs / 4:
            night.quarter_mb = usage.peaks()
        if kill and not night.killed and done >= night.jobs / 2:
            night.killed = kill_some(system)
            print(f"killed in the middle: {', '.join(night.killed)}", file=sys.stderr)
        if ended and not backends.runs.counters(backends.sweeps.nights(_NAME)[-1].run).held:
            break
        system.supervisor.check()
        time.sleep(_LOOK_S)
    night.seconds, night.most_mb = time.monotonic() - began_s, usage.peaks()


def looks(system: System) -> Iterator[tuple[int, bool]]:
    """Yield again and again how many jobs are settled, and whether all were sent."""
    backends, told_s = system.backends, 0.0
    while True:
        try:
            nights = backends.sweeps.nights(_NAME)
            counters = backends.runs.counters(nights[-1].run) if nights else None
        except RedisError:
            continue
        states = counters.by_state() if counters else {}
        settled = sum(n for state, n in states.items() if state not in DISPATCHER_STATES)
        ended = bool(nights and nights[-1].ending)
        if time.monotonic() - told_s > _TELL_EACH_S:
            told_s = time.monotonic()
            print(f"{settled:,} jobs settled, {'all sent' if ended else 'sending'}", file=sys.stderr)
        yield settled, ended


def kill_some(system: System) -> list[str]:
    """Kill who sends, who records and one who works."""
    pids = system.supervisor.pids()
    chosen: list[str] = [name for name in ("scheduler", "recorder", "worker-1") if name in pids]
    for name in chosen:
        os.kill(pids[name], signal.SIGKILL)
    return chosen


def judged(system: System, night: Night, *, url: str) -> dict[str, Any]:
    """Hold the night against the platforms' ledger and against its limits."""
    backends = system.backends
    (record,) = backends.sweeps.nights(_NAME)
    used = int(backends.redis.info("memory")["used_memory"])
    hands = audit(backends, run=record.run)
    ledger = compare(backends, system.catalogue, backends.runs.cases(record.run), base_url=url)
    grown = {
        role: round(most / (night.quarter_mb[role] + SLACK_MB), 3)
        for role, most in night.most_mb.items()
        if role in night.quarter_mb and role not in _RECORDS
    }
    found: dict[str, Any] = {
        "numbers": record.accepted,
        "jobs": night.jobs,
        "duration_s": round(night.seconds, 1),
        "jobs_per_s": round(night.jobs / night.seconds),
        "first_job_s": round(night.first_job_s, 1),
        "ending": record.ending,
        "killed": night.killed,
        "bytes_a_job": round(used / night.jobs, 1),
        "peaks_mb": {role: round(mb) for role, mb in night.most_mb.items()},
        "memory_growth": grown,
        "in_nobodys_hands": len(hands.nobody),
        "ledger": ledger.model_dump(),
    }
    found["holds"] = (
        found["duration_s"] <= LIMITS["duration_s"]
        and found["bytes_a_job"] <= LIMITS["bytes_a_job"]
        and all(growth <= GROWTH_MAX for growth in grown.values())
        and (ledger.agrees, ledger.compared, len(hands.nobody)) == (True, night.jobs, 0)
        and (record.ending, record.accepted) == ("completed", night.jobs // len(system.catalogue))
    )
    return found


def main() -> int:
    """Run it, print what was seen as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, default=NUMBERS)
    parser.add_argument("--platforms", type=int, default=PLATFORMS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--undisturbed", action="store_true", help="kill nobody")
    words = parser.parse_args()
    forget_environment()
    with tempfile.TemporaryDirectory(prefix="night-") as folder:
        found = run(
            Path(folder), numbers=words.numbers, platforms=words.platforms, seed=words.seed, kill=not words.undisturbed
        )
    print(json.dumps(found, indent=2))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
