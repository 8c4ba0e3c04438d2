"""What else the machine does: waited out before a round, and noted during it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil

from benchmarks.usage import cpu_s

QUIET_CORES: Final = 0.3
PATIENCE_S: Final = 120.0
LOOK_S: Final = 1.0
_IDLE: Final = ("idle", "iowait", "guest", "guest_nice")


@dataclass(frozen=True, slots=True)
class Reading:
    """Processor seconds by a clock: of the whole machine, and of this benchmark with all that it started."""

    at_s: float
    machine_s: float
    own_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How the wait before a round ended."""

    waited_s: float
    load_cores: float
    quiet: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What others did with the machine before and during one turn, in cores."""

    turn: str
    waited_s: float
    before_cores: float
    during_cores: float

    @property
    def quiet(self) -> bool:
        """Whether the figures of this turn are those of a machine of our own."""
        return self.before_cores < QUIET_CORES and self.during_cores < QUIET_CORES


class Watch:
    """Waits before each turn, and notes what others did until it ended."""

    def __init__(self, look: Callable[[], Reading], pause: Callable[[float], object], *, patience_s: float) -> None:
        self._look, self._pause, self._patience_s = look, pause, patience_s
        self._loads: list[Load] = []
        self._open: tuple[str, Wait, Reading] | None = None

    def begin(self, turn: str) -> str:
        """End the turn before, wait until the machine is quiet, begin this one. Returns in words how the wait went."""
        self.end()
        wait = await_quiet(self._look, self._pause, patience_s=self._patience_s)
        self._open = (turn, wait, self._look())
        told = f"others use {wait.load_cores:.2f} cores after {wait.waited_s:.0f} s"
        return told if wait.quiet else f"{told}, not quiet"

    def end(self) -> None:
        """End the turn that is open, if one is."""
        if self._open is not None:
            turn, wait, before = self._open
            during = foreign_cores(before, self._look())
            self._loads.append(
                Load(turn=turn, waited_s=wait.waited_s, before_cores=wait.load_cores, during_cores=during)
            )
            self._open = None

    def taken(self) -> list[Load]:
        """Return the turns since this was asked last."""
        loads, self._loads = self._loads, []
        return loads


def read(clock: Callable[[], float] = time.monotonic) -> Reading:
    """Look at the machine now. Time that a hypervisor gave to others counts as theirs."""
    times = psutil.cpu_times()._asdict()
    busy_s = sum(seconds for name, seconds in times.items() if name not in _IDLE)
    return Reading(clock(), busy_s, cpu_s(os.getpid()))


def foreign_cores(before: Reading, after: Reading) -> float:
    """Return how many cores others used between two readings."""
    others_s = (after.machine_s - before.machine_s) - (after.own_s - before.own_s)
    return max(0.0, others_s / max(after.at_s - before.at_s, 1e-9))


def await_quiet(look: Callable[[], Reading], pause: Callable[[float], object], *, patience_s: float) -> Wait:
    """Wait until others use less than 0.3 core for a second, at most `patience_s`; the last load is told either way."""
    first = last = look()
    while True:
        pause(LOOK_S)
        now = look()
        load = foreign_cores(last, now)
        waited_s = now.at_s - first.at_s
        if load < QUIET_CORES or waited_s >= patience_s:
            return Wait(waited_s=waited_s, load_cores=load, quiet=load < QUIET_CORES)
        last = now
