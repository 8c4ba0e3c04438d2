"""Submit: rows of a file become cases, cases fan out into batches, batches go to the jobs queue.

Nothing is lost on the way: a case is recorded first, marked as not yet queued; the mark goes after the broker has
every batch of it. A run that died in between is repaired by submitting the same file again, and the same file twice
adds nothing, since the case id comes from operator, number and cycle (requirement 15).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Event

from backends.bootstrap import Backends
from backends.failpoint import reach
from backends.store import Known
from platforms.catalogue import Catalogue
from platforms.model import Platform
from producers.cancel import cancel_open
from producers.rows import Rejection, Row
from schemas.batch import Basis, Batch, Job, Lane, root_batch_id, seal_context
from schemas.case import Case
from schemas.errors import InputError, Refused
from schemas.ids import case_id

CHUNK_ROWS = 1000
# Where nearly every row is refused, a chunk ends all the same: what was read must not be read again for ever.
_CHUNK_READ_MAX = 10 * CHUNK_ROWS
_DRAIN_POLL_S = 0.2


@dataclass(slots=True, kw_only=True)
class Intake:
    """What became of the rows of one file, counted while it is read."""

    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    batches: int = 0
    line: int = 0  # everything up to here is on its way, or was refused
    waits: str = ""  # why nothing is sent at this moment
    other_runs: set[str] = field(default_factory=set)  # runs that own cases of this file


class Submitter:
    """Submits rows in chunks; memory holds one chunk at a time."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, operator: str, lane: Lane = Lane.BULK) -> None:
        self._backends, self._catalogue = backends, catalogue
        self._operator, self._lane = operator, lane
        self._everywhere = tuple(platform.key for platform in catalogue)

    def submit(
        self,
        rows: Iterable[Row | Rejection],
        *,
        run: str,
        on_rejected: Callable[[Rejection], None],
        on_progress: Callable[[Intake], None] = lambda _: None,
        on_chunk: Callable[[Intake], None] = lambda _: None,
        stop: Event | None = None,
        intake: Intake | None = None,
    ) -> Intake:
        """Send every good row on its way; bad ones go to `on_rejected`. Raises BackendUnavailable, Refused.

        Stops at the high-water mark of the queue and goes on as it drains. Returns when the broker has everything, or
        early when `stop` is set: the same rows submitted again complete what was left. `on_chunk` is called whenever
        every row up to `line` is done: who hands in only the rows behind it, with the `intake` of that moment, goes on
        from there. Refused when somebody cancels the run. Where `rows` ends in InputError, what came before it is sent.
        """
        stop = stop or Event()
        intake = intake or Intake()
        chunk: list[Case] = []
        read = line = 0
        problem: InputError | None = None
        try:
            for row in rows:
                read, line = read + 1, row.line
                if isinstance(row, Rejection):
                    intake.rejected += 1
                    on_rejected(row)
                else:
                    chunk.append(self._case(row))
                if len(chunk) >= CHUNK_ROWS or read >= _CHUNK_READ_MAX:
                    self._submit_chunk(run, chunk, intake=intake, stop=stop, on_progress=on_progress)
                    if not stop.is_set():
                        self._chunk_done(run, intake=intake, line=line, on_chunk=on_chunk)
                    chunk, read = [], 0
                if stop.is_set():
                    return intake
        except InputError as error:
            problem = error
        self._submit_chunk(run, chunk, intake=intake, stop=stop, on_progress=on_progress)
        if stop.is_set():
            return intake
        self._chunk_done(run, intake=intake, line=line or intake.line, on_chunk=on_chunk)
        self._backends.runs.note_intake(run, rejected=intake.rejected, duplicate=intake.duplicate)
        if problem:
            raise problem
        return intake

    def _chunk_done(self, run: str, *, intake: Intake, line: int, on_chunk: Callable[[Intake], None]) -> None:
        """Move the cursor. Raises Refused if the run was cancelled, and lets this chunk be cancelled too.

        Who cancels marks the run first and then takes what is there: what comes after the mark is seen here.
        """
        reach("submit.queued")
        if reason := self._backends.runs.cancelled(run):
            cancel_open(self._backends, run, tell=lambda _: None)
            raise Refused(f"run {run} was cancelled ({reason}); the rest of the file was not read")
        intake.line = line
        on_chunk(intake)
        reach("submit.cursor")

    def _case(self, row: Row) -> Case:
        token = self._backends.vault.token(row.number)
        return Case(
            id=case_id(operator=self._operator, number_token=token, cycle=row.cycle),
            number=row.number,
            token=token,
            line=row.line,
            cutoff_at=row.cutoff_at,
            basis=row.basis,
            cycle=row.cycle,
            reference=row.reference,
            platforms=row.platforms or self._everywhere,
        )

    def _submit_chunk(
        self, run: str, chunk: list[Case], *, intake: Intake, stop: Event, on_progress: Callable[[Intake], None]
    ) -> None:
        if not chunk:
            return
        self._wait_for_room(intake, stop=stop, on_progress=on_progress)
        if stop.is_set():
            return
        now = self._backends.clock.now()
        for owner, unqueued in self._record(run, chunk, intake).items():
            reach("submit.accepted")
            intake.batches += self._backends.dispatch.send(self._batches(owner, unqueued, now=now))
            reach("submit.published")
            self._backends.store.mark_queued(case.id for case in unqueued)
        on_progress(intake)

    def _wait_for_room(self, intake: Intake, *, stop: Event, on_progress: Callable[[Intake], None]) -> None:
        queue, mark = self._backends.broker.queues[self._lane].name, self._backends.settings.queue_high_water
        while (depth := self._backends.broker.depths()[queue]) >= mark:
            intake.waits = f"the {self._lane} queue holds {depth:,} batches; reading goes on below {mark:,}"
            on_progress(intake)
            if stop.wait(_DRAIN_POLL_S):
                break
        intake.waits = ""

    def _record(self, run: str, chunk: list[Case], intake: Intake) -> dict[str, list[Case]]:
        """Record the chunk's cases. Returns, by owning run, those whose batches the broker may not have yet."""
        new: dict[str, Case] = {}
        left: dict[str, Case] = {}
        for case, (known, owner) in zip(
            chunk, self._backends.store.accept(run, chunk, now=self._backends.clock.now()), strict=True
        ):
            if owner != run:
                intake.other_runs.add(owner)
            if case.id in new or case.id in left or known is Known.DUPLICATE or owner != run:
                intake.duplicate += 1
            else:
                intake.accepted += 1
            if known is Known.NEW:
                new[case.id] = case
            elif known is Known.UNQUEUED and case.id not in new:
                left[case.id] = case
        owned: dict[str, list[Case]] = defaultdict(list)
        owned[run].extend(new.values())
        for owner, case in self._as_recorded(left):
            owned[owner].append(case)
        return {owner: cases for owner, cases in owned.items() if cases}

    def _as_recorded(self, left: dict[str, Case]) -> Iterator[tuple[str, Case]]:
        """Yield cases that a run recorded and died before queueing, as that run knew them.

        This file may name other platforms or another cut-off: what was accepted first is what is owed. A case of
        platforms that this catalogue lacks stays as it is, for a submitter that has them.
        """
        for stored in self._backends.store.cases(left):
            if all(platform in self._catalogue for platform in stored.platforms):
                yield (
                    stored.run,
                    replace(
                        left[stored.id],
                        cutoff_at=stored.cutoff_at,
                        basis=Basis(stored.basis),
                        platforms=stored.platforms,
                    ),
                )

    def _batches(self, run: str, cases: Sequence[Case], *, now: datetime) -> Iterator[Batch]:
        """Yield the batches of a chunk, one platform after the other in turn.

        In turn, because a worker that met ten batches of one platform in a row would be told to come back nine times.
        """
        wanted_by: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            for key in case.platforms:
                wanted_by[key].append(case)
        sealed: dict[tuple[str, ...], str] = {}
        parts = [
            (self._catalogue.get(key), wanted, start)
            for key, wanted in wanted_by.items()
            for start in range(0, len(wanted), self._catalogue.get(key).jobs_per_batch)
        ]
        parts.sort(key=lambda part: part[2] // part[0].jobs_per_batch)
        for platform, wanted, start in parts:
            part = wanted[start : start + platform.jobs_per_batch]
            yield self._batch(run, platform, part, sealed=sealed, now=now)

    def _batch(
        self, run: str, platform: Platform, cases: list[Case], *, sealed: dict[tuple[str, ...], str], now: datetime
    ) -> Batch:
        ids = tuple(case.id for case in cases)
        if ids not in sealed:
            # One seal serves every platform that is asked about the same cases.
            numbers = [case.number for case in cases]
            sealed[ids] = self._backends.vault.seal_numbers(numbers, context=seal_context(ids))
        jobs = tuple(Job(case=case.id, cutoff_at=case.cutoff_at, basis=case.basis) for case in cases)
        return Batch(
            id=root_batch_id(platform=platform.key, cases=list(ids)),
            run=run,
            platform=platform.key,
            lane=self._lane,
            deadline=now + timedelta(seconds=platform.retry.total_s),
            jobs=jobs,
            sealed=sealed[ids],
        )
