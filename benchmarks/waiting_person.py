"""A person's job behind bulk jobs: how long until it is sent."""

from typing import Final

from benchmarks import interactive
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.wants import Want

_BACKLOG: Final = 1_000_000
_QUICK_BACKLOG: Final = 10_000


def measure(setting: Setting) -> Round:
    """Queue a million bulk jobs, and ask for persons meanwhile."""
    setting.turn("interactive")
    backlog = setting.size(_BACKLOG, quick=_QUICK_BACKLOG)
    return Round(figures=interactive.measure(seed=setting.seed, backlog_jobs=backlog, say=setting.say))


INTERACTIVE: Final = Scenario(
    name="interactive",
    about="a person's job while 1 million bulk jobs are queued: from its submission to the call",
    measure=measure,
    wants=(
        Want(figure="sent_max_s", text="a person's job is sent within", unit="s", must=5, at_most=True),
        Want(figure="sent_p99_s", text="99 of 100 of them within", unit="s", must=5, aim=1, at_most=True),
    ),
)
