"""`renewal run`: start what is missing, submit a file, wait until every job is settled, report, stop what was started.

A run that was interrupted, even by SIGKILL, is taken up again by the same command: its folder remembers what it was,
intake adds only what is missing, and the queue and the waiting set live in Redis.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from redis.exceptions import RedisError

from backends.bootstrap import Backends, embedded_if_needed, open_backends
from backends.log import configure_logging
from backends.runs import Counters, Cursor
from backends.settings import Settings
from ops.front_door import front_door
from ops.inspector import Inspector
from ops.ledger import compare
from ops.progress import Progress, Sample
from ops.reading import REJECTED, Reading, intake_since
from ops.run_folder import RunFolder, RunOptions
from ops.run_report import Watched, report_watched
from ops.session import in_sandbox, with_sandbox_keys
from ops.supervisor import Supervisor
from platforms.catalogue import SAMPLE, Catalogue
from producers.intake import read
from producers.submit import Intake
from schemas.errors import BackendUnavailable, Refused
from schemas.summary import LedgerCheck, Summary
from simulator.sandbox import write_sandbox
from simulator.server import listen
from workers.credentials import check_secrets

_TICK_S = 1.0
_LEFTOVERS_S = 60.0
_STORE_AWAY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended."""

    summary: Summary
    rejected: int
    open_jobs: int
    dead: int


class Run:
    """One run from start to end. `watch` is called with each new picture of its progress, `say` with what to know."""

    def __init__(
        self,
        options: RunOptions,
        *,
        watch: Callable[[Progress, list[Sample]], None],
        say: Callable[[str], None],
        stop: threading.Event,
        data_dir: Path | None = None,
    ) -> None:
        self._options, self._watch, self._say = options, watch, say
        self._stop, self._data_dir = stop, data_dir
        self._samples: list[Sample] = []
        self._intake = Intake()
        self._intake_done = threading.Event()
        self._intake_error: BaseException | None = None
        self._started = time.monotonic()
        self._started_at = datetime.now(UTC)

    def execute(self) -> RunEnd:
        """Do all of it. Raises RenewalError; KeyboardInterrupt when `stop` was set before the end."""
        options = self._options
        settings = Settings.load()
        if self._data_dir is not None:
            settings = settings.model_copy(update={"data_dir": self._data_dir})
        catalogue = Catalogue.load(options.catalogue or settings.catalogue or SAMPLE)
        if options.platforms:
            catalogue = catalogue.select(list(options.platforms))
        if options.file != "-" and not Path(options.file).is_file():
            # Before anything is started: intake says more, this says it sooner.
            next(iter(read(Path(options.file), encoding=options.encoding, known_platforms=catalogue)), None)
        with contextlib.ExitStack() as stack:
            settings = with_sandbox_keys(settings) if options.sandbox else settings
            settings, server = stack.enter_context(embedded_if_needed(settings))
            settings = settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
            scope = ("run", settings.namespace, settings.operator)
            folder = stack.enter_context(RunFolder(settings.data_dir, options, scope=scope))
            # A file of its own: on the terminal is the live view, and what people must know is among its events.
            configure_logging(stack.enter_context((folder.path / "run.log").open("a", encoding="utf-8", buffering=1)))
            stack.callback(configure_logging)
            if options.sandbox:
                settings = in_sandbox(settings)
            backends = open_backends(settings)
            stack.callback(backends.close)
            backends.broker.declare()
            supervisor = stack.enter_context(Supervisor(settings, logs=folder.path / "logs", server=server))
            world = ""
            if options.sandbox:
                self._await_leftovers(backends)
                sock = stack.enter_context(contextlib.closing(listen("127.0.0.1", 0)))
                catalogue = self._start_world(supervisor, catalogue, folder=folder, sock=sock)
                world = f"http://127.0.0.1:{sock.getsockname()[1]}"
            else:
                check_secrets(catalogue)
            # The run of a file is no night: its scheduler would sweep with the platforms that were chosen for the file.
            supervisor.settings = settings.model_copy(update={"catalogue": catalogue.folder.resolve(), "sweeps": None})
            self._start_missing(supervisor, backends)
            # A sandbox has keys of its own: the file of one must not be written over by that of another.
            key_folder = folder.path if options.sandbox else settings.data_dir if server is not None else None
            stack.enter_context(front_door(supervisor, backends, key_folder=key_folder, anywhere=True, say=self._say))
            return self._through(backends, catalogue, supervisor, folder=folder, world=world)

    # -- starting --------------------------------------------------------------------------------------------------

    def _await_leftovers(self, backends: Backends) -> None:
        """Let the processes of a sandbox run that was killed end first: they call a world that is gone."""
        until = time.monotonic() + _LEFTOVERS_S
        while backends.heartbeats.alive():
            if self._stop.wait(_TICK_S):
                raise KeyboardInterrupt
            if time.monotonic() > until:
                raise Refused("another sandbox run is going on here; wait for it, or set another RENEWAL_DATA_DIR")

    def _start_world(
        self, supervisor: Supervisor, catalogue: Catalogue, *, folder: RunFolder, sock: socket.socket
    ) -> Catalogue:
        """Start the simulator on a socket that we keep, so that it can end and start again on the same port."""
        base_url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        derived = write_sandbox(catalogue, folder.path / "catalogue", base_url=base_url)
        supervisor.start(
            "simulate",
            "--catalogue", str(derived.folder),
            "--descriptor", str(sock.fileno()),
            "--seed", str(self._options.seed),
            "--faults", self._options.faults,
            "--ledger", str(folder.path / "ledger"),
            descriptors=(sock.fileno(),),
        )  # fmt: skip
        return derived

    def _start_missing(self, supervisor: Supervisor, backends: Backends) -> None:
        """Start the roles that nobody fills; a pipeline's own workers are used where they run."""
        alive = {beat.role for beat in backends.heartbeats.alive()}
        for role, count in (("recorder", 1), ("scheduler", 1), ("worker", self._options.workers)):
            if role not in alive and not supervisor.has(role):
                supervisor.start(role, count=count)

    # -- running ---------------------------------------------------------------------------------------------------

    def _through(
        self, backends: Backends, catalogue: Catalogue, supervisor: Supervisor, *, folder: RunFolder, world: str
    ) -> RunEnd:
        inspector = Inspector(backends, catalogue)
        since = inspector.platform_counters()
        options = self._options
        reading = Reading(
            backends=backends,
            catalogue=catalogue,
            folder=folder,
            file=options.file,
            encoding=options.encoding,
            operator=f"sandbox-{folder.run[:8]}" if options.sandbox else backends.settings.operator,
            instrument=options.instrument,
        )
        cursor = reading.begin()
        self._intake = intake_since(cursor)
        threading.Thread(target=self._submit, args=(reading, cursor), daemon=True).start()
        last = self._wait(backends, inspector, supervisor, folder=folder, since=since)
        supervisor.events.append("stopping")
        open_jobs = inspector.open_jobs([folder.run, *self._intake.other_runs])
        supervisor.stop_work()
        cases = backends.runs.cases(folder.run)
        ledger = compare(backends, catalogue, cases, base_url=world) if world else None
        end = self._report(inspector, last, folder=folder, ledger=ledger, open_jobs=open_jobs)
        if not open_jobs:
            folder.finish()
        return end

    def _submit(self, reading: Reading, since: Cursor) -> None:
        try:
            self._intake = reading.submit(since=since, on_progress=self._note, stop=self._stop)
        except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
            self._intake_error = error
        finally:
            self._intake_done.set()

    def _note(self, intake: Intake) -> None:
        self._intake = intake

    def _wait(
        self,
        backends: Backends,
        inspector: Inspector,
        supervisor: Supervisor,
        *,
        folder: RunFolder,
        since: dict[str, Counters],
    ) -> Progress:
        """Watch until each job has left the dispatcher's hands. Raises BackendUnavailable if the store stays away."""
        seen_s = time.monotonic()
        while True:
            supervisor.check()
            done = self._intake_done.is_set()
            if self._intake_error is not None:
                raise self._intake_error
            try:
                self._start_missing(supervisor, backends)
                progress = self._look(inspector, supervisor, folder=folder, since=since)
                open_jobs = inspector.open_jobs([folder.run, *self._intake.other_runs])
            except RedisError as error:
                # Workers wait for a store that is away; so does who watches them.
                if self._stop.wait(_TICK_S):
                    raise KeyboardInterrupt from error
                if time.monotonic() - seen_s > _STORE_AWAY_S:
                    raise BackendUnavailable(f"Redis stays away ({type(error).__name__})") from error
                continue
            seen_s = time.monotonic()
            self._samples.append(progress.sample())
            self._watch(progress, self._samples)
            if done and not open_jobs:
                return progress
            if self._stop.wait(_TICK_S):
                raise KeyboardInterrupt
            if self._options.max_seconds and progress.at_s > self._options.max_seconds:
                self._stop.set()
                self._intake_done.wait()
                return progress

    def _look(
        self, inspector: Inspector, supervisor: Supervisor, *, folder: RunFolder, since: dict[str, Counters]
    ) -> Progress:
        return inspector.progress(
            folder.run,
            at_s=time.monotonic() - self._started,
            since=since,
            intake_done=self._intake_done.is_set(),
            rejected=self._intake.rejected,
            duplicate=self._intake.duplicate,
            events=tuple(supervisor.events),
            intake_waits=self._intake.waits,
        )

    # -- reporting -------------------------------------------------------------------------------------------------

    def _report(
        self, inspector: Inspector, last: Progress, *, folder: RunFolder, ledger: LedgerCheck | None, open_jobs: int
    ) -> RunEnd:
        command = f"renewal run {Path(self._options.file).name}" + (" --sandbox" if ledger else "")
        summary = report_watched(
            inspector,
            folder.run,
            self._options.report or folder.path / "report",
            watched=Watched(
                progress=last,
                samples=self._samples,
                started_at=self._started_at,
                command=command,
                sandbox=ledger is not None,
            ),
            rejected=folder.path / REJECTED,
            ledger=ledger,
        )
        return RunEnd(summary=summary, rejected=self._intake.rejected, open_jobs=open_jobs, dead=last.dead)
