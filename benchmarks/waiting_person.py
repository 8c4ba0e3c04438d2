"""A person's job behind bulk jobs: how long until it is sent. The measurement itself is `benchmarks/interactive.py`.

That module promises `measure(*, seed: int, backlog_jobs: int, say: Callable[[str], None]) -> dict[str, float]`: it
starts the product, queues `backlog_jobs` bulk jobs, submits interactive ones while workers are busy with them, and
returns at least `sent_p50_s`, `sent_p99_s` and `sent_max_s`, from the submission to the call at the platform, and
`backlog_jobs`, how many bulk jobs were open when the last interactive one was submitted. It raises a RenewalError for
what cannot be measured.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Final

from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.wants import Want

_MODULE: Final = "benchmarks.interactive"
_BACKLOG: Final = 1_000_000
_QUICK_BACKLOG: Final = 10_000


def measure(setting: Setting) -> Round:
    """Have it measured; where the module is not there, that is a problem and not a pass."""
    if find_spec(_MODULE) is None:
        return Round(problems=["benchmarks/interactive.py is not there: nothing was measured"])
    setting.turn("interactive")
    backlog = setting.size(_BACKLOG, quick=_QUICK_BACKLOG)
    found = import_module(_MODULE).measure(seed=setting.seed, backlog_jobs=backlog, say=setting.say)
    return Round(figures=dict(found))


INTERACTIVE: Final = Scenario(
    name="interactive",
    about="a person's job while 1 million bulk jobs are queued: from its submission to the call",
    measure=measure,
    wants=(
        Want(figure="sent_max_s", text="a person's job is sent within", unit="s", must=5, at_most=True),
        Want(figure="sent_p99_s", text="99 of 100 of them within", unit="s", must=5, aim=1, at_most=True),
    ),
)
