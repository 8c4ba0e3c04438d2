"""Memory: bytes a job in the status store at rest, and what each process holds for ten times the jobs."""

from typing import Final

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
_RECORDS: Final = "jobs"
_AT_ONCE: Final = 1000


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
                taken.figures |= {f"{size}/record_bytes_a_job": _by_family(system).get(_RECORDS, 0) / jobs}
                taken.figures |= {f"{size}/{role}_mb": most for role, most in peaks.items()}
    return taken


def _used(system: System) -> int:
    """Return what the server holds, in bytes, by its own account."""
    return int(system.backends.redis.info("memory")["used_memory"])


def _by_family(system: System) -> dict[str, int]:
    """Return what the keys take, in bytes, by the server's account of each, for each first word of their names."""
    redis, found = system.backends.redis, dict[str, int]()
    keys = sorted(redis.scan_iter(match=f"{system.settings.namespace}:*", count=_AT_ONCE))
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        pipe = redis.pipeline(transaction=False)
        for key in part:
            pipe.memory_usage(key, samples=0)
        for key, size in zip(part, pipe.execute(), strict=True):
            family = key.decode().split(":")[1]
            # A key that ends just now has no size any more.
            found[family] = found.get(family, 0) + int(size or 0)
    return found


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
