"""Single calls at a platform that takes 20 ms and tells 1 of 100 to come later, beside what a user could pick."""

import time
from typing import Final

from benchmarks.catalogue import write_platforms
from benchmarks.contenders import CELERY_GEVENT, CONTENDERS, TASKIQ
from benchmarks.contest import Turn, take_turn
from benchmarks.errors import Unmeasured
from benchmarks.numbers import write_numbers
from benchmarks.platform_world import PlatformWorld
from benchmarks.rounds import Figures
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.system import System, settled
from benchmarks.usage import Usage
from benchmarks.wants import Want

OURS: Final = "renewal"
_JOBS: Final = 10_000
_QUICK_JOBS: Final = 500
_PLATFORMS: Final = 10


def measure(setting: Setting) -> Round:
    """Give each in turn the same number of jobs, queued before it starts; timed from the start of its processes."""
    taken = Round()
    count = setting.size(_JOBS, quick=_QUICK_JOBS)
    setting.turn(OURS)
    _note(taken, OURS, _our_turn(setting, count=count))
    for contender in CONTENDERS:
        missing = contender.missing()
        if missing:
            taken.problems.append(
                f"{contender.name}: cannot be imported: {', '.join(missing)}; install the extra `bench`"
            )
            continue
        setting.turn(contender.name)
        try:
            with setting.folder() as folder:
                _note(taken, contender.name, take_turn(contender, folder, count=count, seed=setting.seed))
        except Unmeasured as error:
            # The others are measured all the same; what needs this one is told as not measured.
            taken.problems.append(f"{contender.name}: {error}")
    return taken


def _our_turn(setting: Setting, *, count: int) -> Turn:
    with setting.folder() as folder, PlatformWorld() as world:
        catalogue = write_platforms(folder / "catalogue", _PLATFORMS, url=world.url, kind="single")
        with System(folder, catalogue) as system, Usage(system.pids) as usage:
            numbers = write_numbers(folder / "numbers.csv", count // _PLATFORMS, seed=setting.seed)
            submitting = system.submit(numbers)
            submitted = submitting.wait()
            store_before_s, server_before_s = usage.cpu_s()["valkey"], world.told().cpu_s
            began_s = time.monotonic()
            system.start_work()
            course = system.follow(submitting, count, began_s=began_s, count=settled)
            used = usage.cpu_s()
            held = usage.held_mb(but="valkey")
            told = world.told()
            system.prove(told, jobs=count)
    store_s = used.pop("valkey") - store_before_s
    return Turn(
        course=course,
        worker_cpu_s=sum(used.values()),
        store_cpu_s=store_s,
        server_cpu_s=told.cpu_s - server_before_s,
        held_mb=held,
        enqueue_per_s=count / submitted.seconds,
        calls=told.calls,
    )


def _note(taken: Round, name: str, turn: Turn) -> None:
    jobs = turn.course.jobs
    figures = {
        "jobs_per_s": turn.course.per_s,
        "steady_per_s": turn.course.steady_per_s,
        "worker_ms_a_job": 1000 * turn.worker_cpu_s / jobs,
        "store_ms_a_job": 1000 * turn.store_cpu_s / jobs,
        "server_ms_a_call": 1000 * turn.server_cpu_s / turn.calls,
        "server_cores": turn.server_cpu_s / turn.course.seconds,
        "rss_mb": turn.held_mb[0],
        "pss_mb": turn.held_mb[1],
        "enqueue_per_s": turn.enqueue_per_s,
    }
    taken.figures |= {f"{name}/{what}": value for what, value in figures.items() if value}


def ratios(medians: Figures) -> Figures:
    """Return how many times as fast we are, for each figure that both sides have."""
    found: dict[str, float] = {}
    for peer in (CELERY_GEVENT, TASKIQ):
        for what in ("jobs_per_s", "steady_per_s"):
            ours, theirs = medians.get(f"{OURS}/{what}"), medians.get(f"{peer}/{what}")
            if ours and theirs:
                found[f"x_{peer}_{what}"] = ours / theirs
    return found


SINGLE: Final = Scenario(
    name="single",
    about="single calls, platform of 20 ms, 1 % told to come later: from the start of the processes, and steady",
    measure=measure,
    conclude=ratios,
    wants=(
        Want(figure=f"x_{CELERY_GEVENT}_jobs_per_s", text="times Celery gevent, from start", unit="x", must=3),
        Want(figure=f"x_{CELERY_GEVENT}_steady_per_s", text="times Celery gevent, steady", unit="x", must=3, aim=10),
        Want(figure=f"x_{TASKIQ}_jobs_per_s", text="times taskiq + aiohttp, from start", unit="x", must=1, aim=2),
        Want(figure=f"x_{TASKIQ}_steady_per_s", text="times taskiq + aiohttp, steady", unit="x", must=1),
    ),
)
