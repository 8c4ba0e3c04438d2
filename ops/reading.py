"""Reading the file of a run: goes on where the last reader ended, however it ended, and keeps what was refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import BinaryIO, Final, Protocol

from backends.bootstrap import Backends
from backends.runs import Cursor
from ops.rejected import RejectedFile, holds
from platforms.catalogue import Catalogue
from producers.intake import Format, read
from producers.submit import Intake, Submitter
from schemas.batch import Lane
from schemas.errors import Refused

REJECTED: Final = "rejected.csv"
_SIGN_S = 5.0


class Place(Protocol):
    """Where a run keeps its own things."""

    @property
    def run(self) -> str:
        """Its name."""
        ...

    @property
    def path(self) -> Path:
        """A folder of its own."""
        ...

    def finish(self) -> None:
        """Say that nothing is left to take up."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One file on its way into one run. `instrument` names the legal instrument on which the run rests, if one does."""

    backends: Backends
    catalogue: Catalogue
    folder: Place
    file: str
    encoding: str
    operator: str
    lane: Lane = Lane.BULK
    instrument: str = ""

    def begin(self) -> Cursor:
        """Record the run, and return how far its file was read.

        Raises Refused for a run that was cancelled; NotFound, Refused where its instrument does not carry it.
        """
        runs, run = self.backends.runs, self.folder.run
        if self.instrument:
            self.backends.instruments.valid(self.instrument, now=self.backends.clock.now())
        if reason := runs.cancelled(run):
            self.folder.finish()
            raise Refused(f"run {run} of this file was cancelled ({reason}); the same command again begins a new run")
        runs.begin(run, file=Path(self.file).name, now=self.backends.clock.now(), instrument=self.instrument)
        cursor = runs.cursor(run)
        return cursor if holds(self.rejected, cursor.rejected_bytes) else Cursor()

    @property
    def rejected(self) -> Path:
        """Where the rows are that were refused."""
        return self.folder.path / REJECTED

    def submit(
        self, *, since: Cursor, on_progress: Callable[[Intake], None], stop: Event, source: BinaryIO | None = None,
        form: Format | None = None,
    ) -> Intake:  # fmt: skip
        """Send every row behind `since` on its way, from an open `source` where the file has no name. RenewalError."""
        rows = read(
            source or Path(self.file), encoding=self.encoding, fmt=form, known_platforms=self.catalogue,
            after=since.line,
        )  # fmt: skip
        signed_s = 0.0

        def note(intake: Intake) -> None:
            nonlocal signed_s
            now = self.backends.clock.now()
            if intake.waits and now.timestamp() - signed_s >= _SIGN_S:
                signed_s = now.timestamp()
                self.backends.runs.note_waits(self.folder.run, intake.waits, now=now)
            on_progress(intake)

        with RejectedFile(self.rejected, goes_on_at_bytes=since.rejected_bytes) as rejected:

            def save(intake: Intake) -> None:
                cursor = _cursor(intake, rejected_bytes=rejected.flush())
                self.backends.runs.save_cursor(self.folder.run, cursor, now=self.backends.clock.now())

            submitter = Submitter(self.backends, self.catalogue, operator=self.operator, lane=self.lane)
            try:
                return submitter.submit(
                    rows, run=self.folder.run, on_rejected=rejected.keep, on_progress=note, on_chunk=save, stop=stop,
                    intake=intake_since(since),
                )  # fmt: skip
            except Refused:
                # Cancelled: nothing is left to take up.
                self.folder.finish()
                raise


def intake_since(cursor: Cursor) -> Intake:
    """Return what a reader had counted at a cursor."""
    return Intake(
        accepted=cursor.accepted,
        rejected=cursor.rejected,
        duplicate=cursor.duplicate,
        batches=cursor.batches,
        line=cursor.line,
        other_runs=set(cursor.other_runs),
    )


def _cursor(intake: Intake, *, rejected_bytes: int) -> Cursor:
    return Cursor(
        line=intake.line,
        accepted=intake.accepted,
        duplicate=intake.duplicate,
        rejected=intake.rejected,
        batches=intake.batches,
        rejected_bytes=rejected_bytes,
        other_runs=tuple(sorted(intake.other_runs)),
    )
