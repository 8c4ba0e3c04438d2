"""Bulk, end to end: files in, 500 items a call, results queue, recorder, status written."""

from typing import Final

from benchmarks.catalogue import write_platforms
from benchmarks.load import run_load, warm_up
from benchmarks.numbers import write_numbers
from benchmarks.platform_world import PlatformWorld
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.system import System
from benchmarks.usage import Usage
from benchmarks.wants import Want

_PLATFORMS: Final = 240
_ROWS: Final = 3000
_QUICK_PLATFORMS: Final = 4
_QUICK_ROWS: Final = 500


def measure(setting: Setting) -> Round:
    """Take the time from the start of `renewal submit` to the last settled job, with every process up before."""
    setting.turn("bulk")
    rows = setting.size(_ROWS, quick=_QUICK_ROWS)
    with setting.folder() as folder, PlatformWorld() as world:
        catalogue = write_platforms(
            folder / "catalogue", setting.size(_PLATFORMS, quick=_QUICK_PLATFORMS), url=world.url
        )
        with System(folder, catalogue) as system, Usage(system.pids) as usage:
            numbers = write_numbers(folder / "numbers.csv", rows, seed=setting.seed)
            system.start_work()
            system.await_work()
            warm_up(system, world, usage=usage)
            cost = run_load(system, world, numbers, rows=rows, usage=usage)
            jobs = (rows + 1) * len(system.catalogue)
            repeats = system.prove(world.told(), jobs=jobs, runs=2)
    return Round(
        figures={
            "jobs": cost.course.jobs,
            "jobs_per_s": cost.course.per_s,
            "steady_jobs_per_s": cost.course.steady_per_s,
            "submit_s": cost.submit_s,
            "cpu_us_a_job": 1e6 * cost.cpu_s / cost.course.jobs,
            "valkey_us_a_job": 1e6 * cost.valkey_cpu_s / cost.course.jobs,
            "server_cores": cost.server_share,
            "decided_again": repeats,
        }
    )


BULK: Final = Scenario(
    name="bulk",
    about="bulk end to end, 240 platforms, 500 items a call: from `renewal submit` to the last settled job",
    measure=measure,
    wants=(Want(figure="jobs_per_s", text="bulk, end to end", unit="jobs/s", must=30_000, aim=60_000),),
)
