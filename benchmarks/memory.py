"""Memory: bytes a job in the status store at rest, and what each process holds for ten times the jobs."""

import itertools
import statistics
from typing import Final, cast

from benchmarks.catalogue import write_platforms
from benchmarks.flat import growth
from benchmarks.load import run_load, warm_up
from benchmarks.numbers import write_numbers
from benchmarks.platform_world import PlatformWorld
from benchmarks.rounds import Figures
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.system import System
from benchmarks.usage import Usage
from benchmarks.wants import Want

_PLATFORMS: Final = 240
_QUICK_PLATFORMS: Final = 8
_ROWS: Final = {"small": 500, "large": 5000}
_QUICK_ROWS: Final = {"small": 100, "large": 500}
_SAMPLED: Final = 200


def measure(setting: Setting) -> Round:
    """Run a small and a large load, each through processes of its own."""
    taken = Round()
    platforms = setting.size(_PLATFORMS, quick=_QUICK_PLATFORMS)
    for size, rows in (_QUICK_ROWS if setting.quick else _ROWS).items():
        setting.turn(size)
        with setting.folder() as folder, PlatformWorld() as world:
            catalogue = write_platforms(folder / "catalogue", platforms, url=world.url)
            with System(folder, catalogue) as system, Usage(system.pids) as usage:
                numbers = write_numbers(folder / "numbers.csv", rows, seed=setting.seed)
                empty = _used(system)
                system.start_work()
                system.await_work()
                warm_up(system, world, usage=usage)
                run_load(system, world, numbers, rows=rows, usage=usage)
                usage.look()
                jobs = (rows + 1) * platforms
                system.prove(world.told(), jobs=jobs, runs=2)
                peaks = usage.peaks()
                system.supervisor.stop_work()
                taken.figures |= {f"{size}/jobs": jobs, f"{size}/store_bytes_a_job": (_used(system) - empty) / jobs}
                taken.figures |= {f"{size}/case_bytes_a_job": _sampled(system) / platforms}
                taken.figures |= {f"{size}/{role}_mb": most for role, most in peaks.items()}
    return taken


def _used(system: System) -> int:
    """Return what the server holds, in bytes, by its own account."""
    return int(system.backends.redis.info("memory")["used_memory"])


def _sampled(system: System) -> float:
    """Return what the jobs of one case take, in bytes, by the server's account of single keys."""
    run = system.backends.runs.newest_first()[0]
    cases = itertools.islice(system.backends.runs.cases(run), _SAMPLED)
    keys = [system.backends.keys.jobs(case) for case in cases]
    return statistics.mean(cast("int", system.backends.redis.memory_usage(key, samples=0)) for key in keys)


def flatness(medians: Figures) -> Figures:
    """Return how much the process that grew most has grown."""
    small, large = (
        {
            name.partition("/")[2].removesuffix("_mb"): value
            for name, value in medians.items()
            if name.startswith(f"{size}/") and name.endswith("_mb")
        }
        for size in _ROWS
    )
    found = growth(small, large)
    return {} if found is None else {"growth": found}


MEMORY: Final = Scenario(
    name="memory",
    about="bytes a job at rest at 240 platforms, all keys counted; RSS of each process for ten times the jobs",
    measure=measure,
    conclude=flatness,
    wants=(
        Want(
            figure="large/store_bytes_a_job", text="status store at rest", unit="B a job", must=32, aim=16, at_most=True
        ),
        Want(figure="growth", text="memory of any process for ten times the jobs", unit="x", must=1.1, at_most=True),
    ),
)
