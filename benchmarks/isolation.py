"""What one platform that hangs costs the others: the same file with it well and with it hanging, in turn."""

from typing import Final

from backends.runs import Counters
from benchmarks.catalogue import write_platforms
from benchmarks.numbers import write_numbers
from benchmarks.platform_server import HANG_S
from benchmarks.platform_world import PlatformWorld
from benchmarks.rounds import Figures
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.system import System, settled
from benchmarks.wants import Want

_OTHERS: Final = 11
_ROWS: Final = 18_000
_QUICK_ROWS: Final = 200
_TURNS: Final = ("well", "hanging", "hanging", "well")
# High: what is measured is what workers can do, not what platforms allow. Small calls, so that there are many of them.
_LIMITS: Final = {"calls_per_s": 500, "in_flight": 8, "items_per_call": 20, "timeout_s": HANG_S}


def measure(setting: Setting) -> Round:
    """Measure well, hanging, hanging, well: what the machine gains or loses meanwhile falls on both alike."""
    took_s = {"well": 0.0, "hanging": 0.0}
    for how in _TURNS:
        took_s[how] += _others_take_s(setting, how)
    jobs = len(_TURNS) // 2 * setting.size(_ROWS, quick=_QUICK_ROWS) * _OTHERS
    return Round(figures={f"{how}/others_per_s": jobs / seconds for how, seconds in took_s.items()})


def _others_take_s(setting: Setting, how: str) -> float:
    """Return how long the others take, from the submission to their last job that settles."""
    setting.turn(how)
    rows = setting.size(_ROWS, quick=_QUICK_ROWS)
    with setting.folder() as folder, PlatformWorld() as world:
        catalogue = write_platforms(folder / "catalogue", _OTHERS, url=world.url, limits=_LIMITS)
        kind = "hang" if how == "hanging" else "bulk"
        write_platforms(catalogue, 1, url=world.url, kind=kind, limits=_LIMITS, first=_OTHERS)
        with System(folder, catalogue) as system:
            numbers = write_numbers(folder / "numbers.csv", rows, seed=setting.seed)
            others = [platform.key for platform in system.catalogue if f"{_OTHERS:03d}" not in platform.key]

            def settled_by_others(_: Counters) -> int:
                return sum(settled(each) for each in system.backends.runs.platform_counters(others).values())

            system.start_work()
            system.await_work()
            course = system.follow(system.submit(numbers), rows * _OTHERS, count=settled_by_others)
            world.end()
    return course.seconds


def ratio(medians: Figures) -> Figures:
    """Return what share of their throughput the others keep."""
    well, hanging = medians.get("well/others_per_s"), medians.get("hanging/others_per_s")
    return {"kept": hanging / well} if well and hanging else {}


ISOLATION: Final = Scenario(
    name="isolation",
    about=f"one of {_OTHERS + 1} platforms hangs {HANG_S:.0f} s a call: throughput of the others",
    measure=measure,
    conclude=ratio,
    wants=(Want(figure="kept", text="others keep, one platform hangs", unit="share", must=0.95, aim=0.99),),
)
