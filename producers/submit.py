"""Submit: rows of a file become cases, cases fan out into batches, batches go to the jobs queue.

Nothing is lost on the way: a case is recorded first, marked as not yet queued; the mark goes after the broker has
every batch of it. A run that died in between is repaired by submitting the same file again, and the same file twice
adds nothing, since the case id comes from operator, number and cycle (requirement 15).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from threading import Event
from typing import NamedTuple

from backends.bootstrap import Backends
from backends.failpoint import reach
from backends.store import Known
from platforms.catalogue import Catalogue
from producers.cancel import cancel_open
from producers.rows import Rejection, Row
from schemas.batch import Batch, Lane, ManifestPart, root_batch_id, spans_of
from schemas.case import Case
from schemas.errors import InputError, Refused
from schemas.ids import case_id

CHUNK_ROWS = 1000
# Where nearly every row is refused, a chunk ends all the same: what was read must not be read again for ever.
_CHUNK_READ_MAX = 10 * CHUNK_ROWS
_DRAIN_POLL_S = 0.2
_LISTS_CACHED_MAX = 256


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


class Unqueued(NamedTuple):
    """A case whose batches the broker may not have yet: where its jobs are, and at which platforms."""

    run: str
    manifest: str
    place: int
    platforms: tuple[str, ...]


class Submitter:
    """Submits rows in chunks; memory holds one chunk at a time."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, operator: str, lane: Lane = Lane.BULK) -> None:
        self._backends, self._catalogue = backends, catalogue
        self._operator, self._lane = operator, lane
        self._everywhere = tuple(platform.key for platform in catalogue)
        self._split = lru_cache(_LISTS_CACHED_MAX)(self._asked_and_settled)

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
        platforms, settled = self._split(row.platforms or self._everywhere)
        return Case(
            id=case_id(operator=self._operator, number_token=token, cycle=row.cycle),
            number=row.number,
            token=token,
            line=row.line,
            cutoff_at=row.cutoff_at,
            basis=row.basis,
            cycle=row.cycle,
            reference=row.reference,
            platforms=platforms,
            settled=settled,
        )

    def _asked_and_settled(self, wanted: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """Part a list into the platforms that are asked, and the others with the one whose answer settles them too.

        Who is settled by one that is not wanted here is asked itself.
        """
        by = {key: self._catalogue.get(key).settled_by for key in wanted}
        settled = tuple((key, leader) for key, leader in by.items() if leader in by and leader is not None)
        return tuple(key for key in wanted if key not in dict(settled)), settled

    def _submit_chunk(
        self, run: str, chunk: list[Case], *, intake: Intake, stop: Event, on_progress: Callable[[Intake], None]
    ) -> None:
        if not chunk:
            return
        self._wait_for_room(intake, stop=stop, on_progress=on_progress)
        if stop.is_set():
            return
        now = self._backends.clock.now()
        unqueued = self._record(run, chunk, intake)
        reach("submit.accepted")
        intake.batches += self._backends.dispatch.send(self._batches(unqueued, now=now))
        reach("submit.published")
        self._backends.store.mark_queued(unqueued)
        on_progress(intake)

    def _wait_for_room(self, intake: Intake, *, stop: Event, on_progress: Callable[[Intake], None]) -> None:
        queue, mark = self._backends.broker.queues[self._lane].name, self._backends.settings.queue_high_water
        while (depth := self._backends.broker.depths()[queue]) >= mark:
            intake.waits = f"the {self._lane} queue holds {depth:,} batches; reading goes on below {mark:,}"
            on_progress(intake)
            if stop.wait(_DRAIN_POLL_S):
                break
        intake.waits = ""

    def _record(self, run: str, chunk: list[Case], intake: Intake) -> dict[str, Unqueued]:
        """Record the chunk's cases. Returns those, by case, whose batches the broker may not have yet."""
        new: dict[str, Unqueued] = {}
        left: dict[str, Case] = {}
        found = self._backends.store.accept(run, chunk, now=self._backends.clock.now())
        for case, accepted in zip(chunk, found, strict=True):
            if accepted.run != run:
                intake.other_runs.add(accepted.run)
            if case.id in new or case.id in left or accepted.known is Known.DUPLICATE or accepted.run != run:
                intake.duplicate += 1
            else:
                intake.accepted += 1
            if accepted.known is Known.NEW:
                new[case.id] = Unqueued(accepted.run, accepted.manifest, accepted.place, case.platforms)
            elif accepted.known is Known.UNQUEUED and case.id not in new:
                left[case.id] = case
        return new | dict(self._as_recorded(left))

    def _as_recorded(self, left: Iterable[str]) -> Iterator[tuple[str, Unqueued]]:
        """Yield cases that a run recorded and died before queueing, as that run knew them.

        This file may name other platforms or another cut-off: what was accepted first is what is owed. A case of
        platforms that this catalogue lacks stays as it is, for a submitter that has them.
        """
        for stored in self._backends.store.cases(left):
            if all(platform in self._catalogue for platform in stored.platforms):
                yield stored.id, Unqueued(stored.run, stored.manifest, stored.place, stored.platforms)

    def _batches(self, cases: Mapping[str, Unqueued], *, now: datetime) -> Iterator[Batch]:
        """Yield the batches of a chunk, one platform after the other in turn.

        In turn, because a worker that met ten batches of one platform in a row would be told to come back nine times.
        """
        wanted: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for case in cases.values():
            for key in case.platforms:
                wanted[key, case.run, case.manifest].append(case.place)
        parts = [
            (start // size, key, run, manifest, sorted(places)[start : start + size])
            for (key, run, manifest), places in wanted.items()
            for size in [self._catalogue.get(key).jobs_per_batch]
            for start in range(0, len(places), size)
        ]
        parts.sort(key=itemgetter(0))
        for _, key, run, manifest, places in parts:
            part = ManifestPart(id=manifest, spans=spans_of(places))
            yield Batch(
                id=root_batch_id(key, part),
                run=run,
                platform=key,
                lane=self._lane,
                deadline=now + timedelta(seconds=self._catalogue.get(key).retry.total_s),
                manifest=part,
            )
