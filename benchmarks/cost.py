"""What one job costs, from 10 thousand jobs to 10 million: processor time of all our processes together.

A machine that shares its processor with others computes faster now and slower then, by a fifth within minutes. So all
sizes are up side by side and take turns, from the smallest to the largest and back; and what a job costs us is told
against what it cost the platform server in the same seconds, which does the same for each job whatever the size.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Self

from benchmarks.catalogue import BULK_LIMITS, write_platforms
from benchmarks.flat import growth
from benchmarks.numbers import mobiles, write_rows
from benchmarks.platform_world import PlatformWorld
from benchmarks.producer import Producer
from benchmarks.rounds import Figures
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.system import System, settled
from benchmarks.usage import Usage, cpu_s
from benchmarks.wants import Want

# What is compared is the size of the whole: batches are full at every size, and each number is asked about everywhere.
_PLATFORMS: Final = 240
_LIMITS: Final = {**BULK_LIMITS, "items_per_call": 40}
_SIZES: Final = {"10k": 40, "100k": 400, "1M": 4000}
_FULL_SIZES: Final = {**_SIZES, "10M": 40_000}
_QUICK_SIZES: Final = {"10k": 40, "20k": 80}
# A small load is over in a second: in a turn it is run again until so many rows are done.
_ROWS_A_TURN: Final = 1200


@dataclass(slots=True)
class _Spent:
    """Processor seconds of us, of the Valkey among us, and of the platform server; and what was done for them."""

    ours_s: float = 0.0
    valkey_s: float = 0.0
    server_s: float = 0.0
    seconds: float = 0.0
    jobs: int = 0


class _Size:
    """A product of its own for the loads of one size."""

    def __init__(
        self, rows: int, *, seed: int, world: PlatformWorld, system: System, producer: Producer, usage: Usage
    ) -> None:
        self._rows, self._world, self._system, self._producer, self.usage = rows, world, system, producer, usage
        # All at once, since no number may come twice: two turns, and the first job.
        self._numbers = iter(mobiles(2 * max(rows, _ROWS_A_TURN) + 1, seed=seed))
        self._loads = 0
        self.spent = _Spent()

    @classmethod
    @contextlib.contextmanager
    def up(cls, rows: int, folder: Path, *, seed: int) -> Iterator[Self]:
        """Start all processes, and let each do its first jobs."""
        with PlatformWorld() as world:
            catalogue = write_platforms(folder / "catalogue", _PLATFORMS, url=world.url, limits=_LIMITS)
            with (
                System(folder, catalogue) as system,
                Producer(system) as producer,
                Usage(lambda: {**system.pids(), "producer": producer.pid}) as usage,
            ):
                system.start_work()
                system.await_work()
                size = cls(rows, seed=seed, world=world, system=system, producer=producer, usage=usage)
                size._load(1)
                usage.look()
                yield size
                usage.look()
                jobs = (size._loads * rows + 1) * _PLATFORMS
                system.prove(world.told(), jobs=jobs, runs=size._loads + 1)

    def turn(self, times: int) -> None:
        """Run so many loads, one after the other."""
        before, server_before_s = self.usage.cpu_s(), cpu_s(self._world.pid)
        for _ in range(times):
            self._loads += 1
            self.spent.seconds += self._load(self._rows)
        after = self.usage.cpu_s()
        self.spent.ours_s += sum(after.values()) - sum(before.values())
        self.spent.valkey_s += after["valkey"] - before["valkey"]
        self.spent.server_s += cpu_s(self._world.pid) - server_before_s
        self.spent.jobs += times * self._rows * _PLATFORMS

    def _load(self, rows: int) -> float:
        """Hand a file in and follow it to its end; returns the seconds that it took."""
        numbers = write_rows(self._system.folder / "numbers.csv", islice(self._numbers, rows))
        course = self._system.follow(self._producer.hand_in(numbers), rows * _PLATFORMS, count=settled)
        self._producer.await_read()
        return course.seconds


def measure(setting: Setting) -> Round:
    """Let the sizes take turns, from the smallest to the largest and back."""
    taken = Round()
    sizes = _QUICK_SIZES if setting.quick else _FULL_SIZES if setting.full else _SIZES
    setting.turn("cost")
    with contextlib.ExitStack() as stack:
        up = {
            name: stack.enter_context(_Size.up(rows, stack.enter_context(setting.folder()), seed=setting.seed))
            for name, rows in sizes.items()
        }
        for name in (*up, *list(up)[-2::-1]):
            up[name].turn(1 if setting.quick else max(1, _ROWS_A_TURN // sizes[name]))
    for name, size in up.items():
        spent = size.spent
        taken.figures |= {
            f"{name}/jobs": sizes[name] * _PLATFORMS,
            f"{name}/times_platform": spent.ours_s / spent.server_s,
            f"{name}/cpu_us_a_job": 1e6 * spent.ours_s / spent.jobs,
            f"{name}/valkey_us_a_job": 1e6 * spent.valkey_s / spent.jobs,
            f"{name}/platform_us_a_job": 1e6 * spent.server_s / spent.jobs,
            f"{name}/jobs_per_s": spent.jobs / spent.seconds,
            **{f"{name}/{role}_mb": most for role, most in size.usage.peaks().items()},
        }
    return taken


def spread_of_cost(medians: Figures) -> Figures:
    """Return how many times the dearest size costs a job what the cheapest does, and how memory grew."""
    sizes = list(dict.fromkeys(name.partition("/")[0] for name in medians))
    costs = [medians[f"{size}/times_platform"] for size in sizes]
    if len(costs) < 2:  # noqa: PLR2004 - two are compared
        return {}
    first, last = (
        {
            name.partition("/")[2]: value
            for name, value in medians.items()
            if name.startswith(f"{size}/") and "_mb" in name
        }
        for size in (sizes[0], sizes[-1])
    )
    grown = growth(
        {n.removesuffix("_mb"): v for n, v in first.items()}, {n.removesuffix("_mb"): v for n, v in last.items()}
    )
    return {"dearest_to_cheapest": max(costs) / min(costs)} | ({} if grown is None else {"growth": grown})


COST: Final = Scenario(
    name="cost",
    about=f"processor time a job at {_PLATFORMS} platforms from 10 thousand to 1 million jobs (10 million with --full)",
    measure=measure,
    conclude=spread_of_cost,
    wants=(
        Want(
            figure="dearest_to_cheapest",
            text="cost of a job, dearest to cheapest size",
            unit="x",
            must=1.1,
            at_most=True,
        ),
        Want(figure="growth", text="memory of any process, largest to smallest size", unit="x", must=1.1, at_most=True),
    ),
)
