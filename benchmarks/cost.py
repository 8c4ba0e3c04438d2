"""What one job costs, from 10 thousand jobs to 10 million: processor time of all our processes together.

The sizes are measured minutes apart, so each is brought to one pace of the machine (`benchmarks.pace`).
"""

from typing import Final

from benchmarks.catalogue import BULK_LIMITS, write_platforms
from benchmarks.flat import growth
from benchmarks.load import Cost, idle_share, run_load, start_cpu_s, warm_up
from benchmarks.numbers import write_numbers
from benchmarks.pace import STANDARD_MS, Pace
from benchmarks.platform_world import PlatformWorld
from benchmarks.rounds import Figures
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.system import System
from benchmarks.usage import Usage
from benchmarks.wants import Want

# What is compared is the size of the whole: batches are full at every size, and each number is asked about everywhere.
_PLATFORMS: Final = 240
_LIMITS: Final = {**BULK_LIMITS, "items_per_call": 40}
_SIZES: Final = {"10k": 40, "100k": 400, "1M": 4000}
_FULL_SIZES: Final = {**_SIZES, "10M": 40_000}
_QUICK_SIZES: Final = {"10k": 40, "20k": 80}
# A small load costs less than the start of the command that hands it in, which is taken off: so it is run many times,
# and what a start takes is the median of several.
_ROWS_TOGETHER: Final = 400
_STARTS: Final = 7


def measure(setting: Setting) -> Round:
    """Run each size through processes of its own, which have done their first job before."""
    taken = Round()
    sizes = _QUICK_SIZES if setting.quick else _FULL_SIZES if setting.full else _SIZES
    for size, rows in sizes.items():
        setting.turn(size)
        _size(taken, size, rows=rows, setting=setting)
    return taken


def _size(taken: Round, size: str, *, rows: int, setting: Setting) -> None:
    times = 1 if setting.quick else max(1, _ROWS_TOGETHER // rows)
    with setting.folder() as folder, PlatformWorld() as world:
        catalogue = write_platforms(folder / "catalogue", _PLATFORMS, url=world.url, limits=_LIMITS)
        with System(folder, catalogue) as system, Usage(system.pids) as usage:
            system.start_work()
            system.await_work()
            warm_up(system, world, usage=usage)
            start_s = start_cpu_s(system, times=_STARTS)
            idle = idle_share(system, usage)
            costs: list[Cost] = []
            with Pace() as pace:
                for index in range(times):
                    numbers = write_numbers(folder / "numbers.csv", rows, seed=setting.seed + index)
                    costs.append(run_load(system, world, numbers, rows=rows, usage=usage))
            usage.look()
            system.prove(world.told(), jobs=(rows * times + 1) * _PLATFORMS, runs=times + 1 + _STARTS)
    jobs = rows * times * _PLATFORMS
    # Each `renewal submit` starts an interpreter; what that takes was measured with a row that was known already.
    # What all processes take while they wait is told and not taken off: who works does not ask whether there is work.
    seconds = sum(cost.course.seconds for cost in costs)
    cpu_s = sum(cost.cpu_s for cost in costs) - times * start_s
    taken.figures |= {
        f"{size}/jobs": rows * _PLATFORMS,
        f"{size}/cpu_us_a_job": 1e6 * cpu_s / jobs,
        f"{size}/paced_us_a_job": 1e6 * cpu_s / jobs * STANDARD_MS / pace.ms,
        f"{size}/pace_ms": pace.ms,
        f"{size}/valkey_us_a_job": 1e6 * sum(cost.valkey_cpu_s for cost in costs) / jobs,
        f"{size}/idle_cores": idle,
        f"{size}/jobs_per_s": jobs / seconds,
        **{f"{size}/{role}_mb": most for role, most in usage.peaks().items()},
    }


def spread_of_cost(medians: Figures) -> Figures:
    """Return how many times the dearest size costs a job what the cheapest does, and how memory grew."""
    sizes = list(dict.fromkeys(name.partition("/")[0] for name in medians))
    costs = [medians[f"{size}/paced_us_a_job"] for size in sizes]
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
