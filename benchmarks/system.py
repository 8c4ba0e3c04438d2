"""The real product as processes of its own, on a Valkey and in a folder of its own, while the context lasts."""

import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self
from zlib import crc32

from backends.bootstrap import embedded_if_needed, open_backends
from backends.runs import Counters
from backends.settings import Settings
from benchmarks.course import Course
from benchmarks.errors import Unmeasured
from benchmarks.platform_world import Told
from ops.supervisor import Supervisor
from platforms.catalogue import Catalogue
from schemas.state import STATES, State

WORKERS: Final = 2
POLL_S: Final = 0.02
_CHECK_EACH_S: Final = 1.0
_START_S: Final = 40.0
_STUCK_S: Final = 120.0
_FINAL: Final = tuple(state for state, rule in STATES.items() if rule.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A `renewal submit` that has ended."""

    seconds: float
    cpu_s: float


class Load(Protocol):
    """A file on its way: `began_s` is when its submission began."""

    began_s: float

    def counters(self) -> Counters:
        """Return the counters of its run; empty before there is one."""
        ...

    def done(self) -> bool:
        """Tell whether it is submitted. Raises Unmeasured if that failed."""
        ...


class Submitting:
    """A `renewal submit` that runs beside the benchmark."""

    def __init__(self, system: "System", file: Path) -> None:
        self._log = system.folder / "logs" / "submit.log"
        self._backends, self._run = system.backends, ""
        self._earlier = set(self._runs())
        self.began_s = time.monotonic()
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.cli.main", "submit", str(file)],
                env=system.settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._ended_s = self._cpu_s = 0.0
        self._watch = threading.Thread(target=self._await_end, daemon=True)
        self._watch.start()

    def _await_end(self) -> None:
        _, status, used = os.wait4(self.process.pid, 0)
        self._ended_s, self._cpu_s = time.monotonic(), used.ru_utime + used.ru_stime
        self.process.returncode = os.waitstatus_to_exitcode(status)

    def counters(self) -> Counters:
        """Return the counters of the run that it began; empty before."""
        self._run = self._run or next((run for run in self._runs() if run not in self._earlier), "")
        return self._backends.runs.counters(self._run) if self._run else Counters(values={})

    def _runs(self) -> list[str]:
        return list(self._backends.runs.newest_first())

    def runs(self) -> bool:
        """Tell whether it still runs."""
        return self._watch.is_alive()

    def done(self) -> bool:
        """Tell whether it has ended. Raises Unmeasured if it failed."""
        if self.runs():
            return False
        if self.process.returncode:
            raise Unmeasured(f"renewal submit failed: {self._log.read_text(encoding='utf-8')[-1000:].strip()}")
        return True

    def end(self) -> None:
        """End it now, if it runs: nobody waits for it any more."""
        if self.runs():
            self.process.terminate()
            self._watch.join()

    def wait(self) -> Submitted:
        """Wait for its end. Raises Unmeasured if it failed."""
        self._watch.join()
        self.done()
        return Submitted(seconds=self._ended_s - self.began_s, cpu_s=self._cpu_s)


class System:
    """Status store, broker and every process of ours; nothing of the real path is left out."""

    def __init__(self, folder: Path, catalogue: Path, *, high_water: int = 2000) -> None:
        self.folder = folder.resolve()
        self.catalogue = Catalogue.load(catalogue)
        self.settings = Settings(
            data_dir=self.folder / "data",
            catalogue=catalogue.resolve(),
            private_endpoints="allow",
            queue_high_water=high_water,
            namespace="bench",
        )
        self._stack = contextlib.ExitStack()
        self._submitting: Submitting | None = None

    def __enter__(self) -> Self:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        try:
            self.settings, self.server = self._stack.enter_context(embedded_if_needed(self.settings))
            self.backends = open_backends(self.settings)
            self._stack.callback(self.backends.close)
            self.backends.broker.declare()
            self.supervisor = self._stack.enter_context(
                Supervisor(self.settings, logs=self.folder / "logs", server=self.server)
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._submitting is not None:
            self._submitting.end()
        self._stack.close()

    # -- processes -------------------------------------------------------------------------------------------------

    def start_work(self) -> None:
        """Start recorder, scheduler and workers, and do not wait for them."""
        self.supervisor.start("recorder")
        self.supervisor.start("scheduler")
        self.supervisor.start("worker", count=WORKERS)

    def await_work(self) -> None:
        """Wait until every worker has shown a sign of life. Raises Unmeasured."""
        until = time.monotonic() + _START_S
        while len(self.backends.heartbeats.alive("worker")) < WORKERS or not self.backends.heartbeats.alive("recorder"):
            self.supervisor.check()
            if time.monotonic() > until:
                raise Unmeasured(f"not every process came up within {_START_S:.0f} s; see {self.folder / 'logs'}")
            time.sleep(POLL_S)

    def pids(self) -> dict[str, int]:
        """Return our living processes by name, the Valkey and `renewal submit` among them."""
        found = {**self.supervisor.pids(), "valkey": self.server.pid if self.server else 0}
        if self._submitting is not None and self._submitting.runs():
            found["submit"] = self._submitting.process.pid
        return found

    def submit(self, file: Path) -> Submitting:
        """Begin `renewal submit FILE`."""
        self._submitting = Submitting(self, file)
        return self._submitting

    # -- what has become of it -------------------------------------------------------------------------------------

    def follow(
        self, load: Load, total: int, *, began_s: float | None = None, count: Callable[[Counters], int]
    ) -> Course:
        """Watch a run until `count` says `total`, timed from `began_s`, else from the start of its submission.

        Raises Unmeasured when nothing moves any more.
        """
        began_s = load.began_s if began_s is None else began_s
        points: list[tuple[float, int]] = []
        moved_s = checked_s = time.monotonic()
        while not points or points[-1][1] < total:
            now_s = time.monotonic()
            done = count(load.counters())
            if not points or done > points[-1][1]:
                points.append((now_s - began_s, done))
                moved_s = now_s
            if now_s - moved_s > _STUCK_S:
                raise Unmeasured(f"{done} of {total} jobs were done, and nothing moved for {_STUCK_S:.0f} s")
            load.done()
            if now_s - checked_s > _CHECK_EACH_S:
                self.supervisor.check()
                self._refuse_restarts()
                checked_s = now_s
            time.sleep(POLL_S)
        return Course(jobs=total, points=points)

    def _refuse_restarts(self) -> None:
        if self.supervisor.events:
            raise Unmeasured(f"a process did not stay up: {self.supervisor.events[0]}")

    def prove(self, told: Told, *, jobs: int, runs: int = 1) -> int:
        """Hold the store against the platforms' ledger; returns how many jobs were decided more than once.

        Raises Unmeasured if a job is missing, was not asked for, or is recorded otherwise than it was decided.
        """
        recorded = dict.fromkeys(_FINAL, 0)
        names = list(self.backends.runs.newest_first())[:runs]
        for name in names:
            for state, n in self.backends.runs.counters(name).by_state().items():
                recorded[state] = recorded.get(state, 0) + n
        if sum(recorded.values()) != jobs or any(n for state, n in recorded.items() if state not in _FINAL):
            raise Unmeasured(f"expected {jobs} settled jobs, the store has {_shown(recorded)}")
        repeats = told.decided - jobs
        if repeats < 0:
            raise Unmeasured(f"the platforms decided {told.decided} of {jobs} jobs, and the store has more")
        if not repeats:
            counted = {State(code): n for code, n in told.codes.items()}
            if counted != {state: n for state, n in recorded.items() if n}:
                raise Unmeasured(f"the platforms decided {told.codes}, the store has {_shown(recorded)}")
            if told.decided_sum != self._sum(names):
                raise Unmeasured("as many jobs were decided as there are, but not the same ones")
        return repeats

    def _sum(self, runs: list[str]) -> int:
        endings = [f".{platform.key}".encode() for platform in self.catalogue]
        # A case that was handed in again is in both runs, and was decided once.
        cases = {case for run in runs for case in self.backends.runs.cases(run)}
        marks = [crc32(case.encode()) for case in cases]
        return sum(crc32(ending, mark) for mark in marks for ending in endings)


def settled(counters: Counters) -> int:
    """Return how many jobs of a run need nothing more."""
    states = counters.by_state()
    return sum(states.get(state, 0) for state in _FINAL)


def children_cpu_s() -> float:
    """Return the processor time of all children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def forget_environment() -> None:
    """Take every setting of the user out of the environment: what is measured stands on nothing of theirs.

    With them goes what forbids Python to keep compiled modules: it would compile us anew in each of our processes.
    """
    for name in [name for name in os.environ if name.startswith("RENEWAL_") or name == "PYTHONDONTWRITEBYTECODE"]:
        del os.environ[name]


def _shown(states: dict[State, int]) -> str:
    return ", ".join(f"{n} {state.value}" for state, n in states.items() if n) or "none"
