"""How long `renewal --help` takes: a command that is slow to answer is not used."""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.errors import Unmeasured
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.wants import Want

_TIMES: Final = 10
_QUICK_TIMES: Final = 2
_COMMAND: Final = Path(sys.executable).parent / "renewal"


def measure(setting: Setting) -> Round:
    """Run it again and again, after once to warm the caches of the disk."""
    setting.turn("help")
    taken = [_seconds() for _ in range(setting.size(_TIMES, quick=_QUICK_TIMES) + 1)][1:]
    return Round(figures={"help_s": statistics.median(taken), "slowest_s": max(taken)})


def _seconds() -> float:
    began_s = time.monotonic()
    done = subprocess.run([_COMMAND, "--help"], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise Unmeasured(f"renewal --help ended with {done.returncode}: {done.stderr.strip()}")
    return time.monotonic() - began_s


HELP: Final = Scenario(
    name="help",
    about="`renewal --help`, from its start to its end",
    measure=measure,
    wants=(Want(figure="help_s", text="renewal --help", unit="s", must=0.3, at_most=True),),
)
