"""`renewal submit`: put a file on the jobs queue and leave."""

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from backends.bootstrap import Backends
from backends.log import configure_logging
from ops.live import LiveLine
from ops.progress import RejectedRow
from ops.reading import Reading
from ops.rejected import copy, first_rows
from ops.run_folder import RunFolder, RunOptions
from ops.session import opened
from producers.intake import read
from producers.submit import Intake

REFUSED_SHOWN_MAX = 10
_ALIVE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What became of the rows of a file. `whole` says that it was read to its end."""

    run: str
    accepted: int
    duplicate: int
    rejected: int
    batches: int
    taken_up_after_line: int
    whole: bool
    workers_alive: int
    examples: tuple[RejectedRow, ...]


def submit_file(options: RunOptions, *, rejected: Path | None, stop: threading.Event, console: Console) -> Submission:
    """Submit a file; one that was begun and not finished is taken up where it was. Raises RenewalError."""
    configure_logging()
    with contextlib.ExitStack() as stack:
        backends, loaded = stack.enter_context(opened(catalogue=options.catalogue))
        chosen = loaded.select(list(options.platforms)) if options.platforms else loaded
        if options.file != "-" and not Path(options.file).is_file():
            # Reading says more about it than the folder would.
            next(iter(read(Path(options.file), encoding=options.encoding, known_platforms=chosen)), None)
        settings = backends.settings
        scope = ("submit", settings.namespace, settings.operator)
        folder = stack.enter_context(RunFolder(settings.data_dir, options, scope=scope))
        backends.broker.declare()
        reading = Reading(
            backends=backends,
            catalogue=chosen,
            folder=folder,
            file=options.file,
            encoding=options.encoding,
            operator=settings.operator,
            lane=options.lane,
            instrument=options.instrument,
        )
        since = reading.begin()
        try:
            with LiveLine(console, title=f"renewal submit {Path(options.file).name}") as line:
                intake = reading.submit(since=since, on_progress=_Teller(backends, line).tell, stop=stop)
        finally:
            if rejected is not None and reading.rejected.exists():
                copy(reading.rejected, rejected)
        if not stop.is_set():
            folder.finish()
        return Submission(
            run=folder.run,
            accepted=intake.accepted,
            duplicate=intake.duplicate,
            rejected=intake.rejected,
            batches=intake.batches,
            taken_up_after_line=since.line,
            whole=not stop.is_set(),
            workers_alive=len(backends.heartbeats.alive("worker")),
            examples=tuple(first_rows(reading.rejected)[:REFUSED_SHOWN_MAX]),
        )


class _Teller:
    """Says how far a file has been read, and why it is not read on."""

    def __init__(self, backends: Backends, line: LiveLine) -> None:
        self._backends, self._line = backends, line
        self._waited = False
        self._looked_s, self._alive = float("-inf"), True

    def tell(self, intake: Intake) -> None:
        counts = (
            f"{intake.accepted:,} cases accepted · {intake.duplicate:,} known already · {intake.rejected:,} refused"
            f" · {intake.batches:,} batches queued"
        )
        text = f"{counts} · waits: {intake.waits}{self._nobody()}" if intake.waits else counts
        self._line.update(text, news=bool(intake.waits) and not self._waited)
        self._waited = bool(intake.waits)

    def _nobody(self) -> str:
        # Without a worker the queue never drains: who waits must be told.
        if time.monotonic() - self._looked_s > _ALIVE_EVERY_S:
            self._looked_s, self._alive = time.monotonic(), bool(self._backends.heartbeats.alive("worker"))
        return "" if self._alive else "; no worker runs: `renewal up` starts the whole system"
