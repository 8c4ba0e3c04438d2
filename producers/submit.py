"""Submit: rows of a file become cases, cases fan out into batches, batches go to the jobs queue.

Nothing is lost on the way: a case is recorded first, marked as not yet queued; the mark goes after the broker has
every batch of it. A run that died in between is repaired by submitting the same file again, and the same file twice
adds nothing, since the case id comes from operator, number and cycle (requirement 15).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter
from threading import Event

from backends.bootstrap import Backends
from backends.failpoint import reach
from backends.store import Known
from platforms.catalogue import Catalogue
from producers.rows import Rejection, Row
from schemas.batch import Basis, Batch, Job, Lane, ManifestPart, root_batch_id
from schemas.case import Case
from schemas.ids import case_id

CHUNK_ROWS = 1000
_DRAIN_POLL_S = 0.2


@dataclass(slots=True, kw_only=True)
class Intake:
    """What became of the rows of one file, counted while it is read."""

    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    batches: int = 0
    waiting_for_queue: bool = False
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
        stop: Event | None = None,
    ) -> Intake:
        """Send every good row on its way; bad ones go to `on_rejected`. Raises BackendUnavailable.

        Stops at the high-water mark of the queue and goes on as it drains. Returns when the broker has everything, or
        early when `stop` is set: the same rows submitted again complete what was left.
        """
        stop = stop or Event()
        intake = Intake()
        chunk: list[Case] = []
        for row in rows:
            if isinstance(row, Rejection):
                intake.rejected += 1
                on_rejected(row)
                continue
            chunk.append(self._case(row))
            if len(chunk) >= CHUNK_ROWS:
                self._submit_chunk(run, chunk, intake=intake, stop=stop, on_progress=on_progress)
                chunk = []
            if stop.is_set():
                return intake
        self._submit_chunk(run, chunk, intake=intake, stop=stop, on_progress=on_progress)
        self._backends.runs.note_intake(run, rejected=intake.rejected, duplicate=intake.duplicate)
        return intake

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
        queue = self._backends.broker.queues[self._lane].name
        while self._backends.broker.depths()[queue] >= self._backends.settings.queue_high_water:
            intake.waiting_for_queue = True
            on_progress(intake)
            if stop.wait(_DRAIN_POLL_S):
                break
        intake.waiting_for_queue = False

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
        One manifest serves them all.
        """
        wanted_by: dict[str, list[int]] = defaultdict(list)
        for place, case in enumerate(cases):
            for key in case.platforms:
                wanted_by[key].append(place)
        jobs = [Job(case=case.id, cutoff_at=case.cutoff_at, basis=case.basis) for case in cases]
        manifest = self._backends.manifests.put(jobs, [case.number for case in cases])
        parts = [
            (platform, places[start : start + platform.jobs_per_batch], start // platform.jobs_per_batch)
            for platform, places in ((self._catalogue.get(key), places) for key, places in wanted_by.items())
            for start in range(0, len(places), platform.jobs_per_batch)
        ]
        parts.sort(key=itemgetter(2))
        for platform, places, _ in parts:
            part = ManifestPart.of(manifest, places)
            yield Batch(
                id=root_batch_id(platform.key, part),
                run=run,
                platform=platform.key,
                lane=self._lane,
                deadline=now + timedelta(seconds=platform.retry.total_s),
                manifest=part,
            )
