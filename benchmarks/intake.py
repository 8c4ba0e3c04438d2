"""Intake, file to queue: rows are read, cases recorded, numbers sealed, batches in custody and on the jobs queue."""

from typing import Final

from benchmarks.catalogue import write_platforms
from benchmarks.errors import Unmeasured
from benchmarks.numbers import write_numbers
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.system import System
from benchmarks.usage import Usage
from benchmarks.wants import Want
from schemas.batch import Lane

_ITEMS: Final = 500
_NOBODY: Final = "http://127.0.0.1:9"  # no worker runs, so nobody is called
_MANY: Final = (240, 4000)
_ONE: Final = (1, 50_000)
_QUICK_MANY: Final = (8, 1000)
_QUICK_ONE: Final = (1, 2000)
# As many batches as the files make: how long a queue may be is not what is measured here.
_HIGH_WATER: Final = 1_000_000


def measure(setting: Setting) -> Round:
    """Time `renewal submit` from its start to its end, without workers; and its rate between 5 % and 95 %."""
    taken = Round()
    for name, usual, quick in (("240_platforms", _MANY, _QUICK_MANY), ("1_platform", _ONE, _QUICK_ONE)):
        setting.turn(name)
        platforms, rows = quick if setting.quick else usual
        _submit(taken, name, platforms=platforms, rows=rows, setting=setting)
    return taken


def _submit(taken: Round, name: str, *, platforms: int, rows: int, setting: Setting) -> None:
    jobs = platforms * rows
    with setting.folder() as folder:
        catalogue = write_platforms(folder / "catalogue", platforms, url=_NOBODY)
        numbers = write_numbers(folder / "numbers.csv", rows, seed=setting.seed)
        with System(folder, catalogue, high_water=_HIGH_WATER) as system, Usage(system.pids) as usage:
            before_s = usage.cpu_s()["valkey"]
            submitting = system.submit(numbers)
            course = system.follow(submitting, jobs, count=lambda counters: counters.get("jobs"))
            submitted = submitting.wait()
            store_s = usage.cpu_s()["valkey"] - before_s
            queued = system.backends.broker.depths()[system.backends.broker.queues[Lane.BULK].name]
    if queued * _ITEMS < jobs:
        raise Unmeasured(f"{jobs} jobs are recorded, and only {queued} batches of at most {_ITEMS} are on the queue")
    taken.figures |= {
        f"{name}/jobs": jobs,
        f"{name}/jobs_per_s": jobs / submitted.seconds,
        f"{name}/steady_per_s": course.steady_per_s,
        f"{name}/rows_per_s": rows / submitted.seconds,
        f"{name}/batches": queued,
        f"{name}/submit_us_a_job": 1e6 * submitted.cpu_s / jobs,
        f"{name}/store_us_a_job": 1e6 * store_s / jobs,
    }


INTAKE: Final = Scenario(
    name="intake",
    about="`renewal submit`, file to queue, no worker running; start of the command included",
    measure=measure,
    wants=(Want(figure="240_platforms/jobs_per_s", text="intake, 240 platforms", unit="jobs/s", must=100_000),),
)
