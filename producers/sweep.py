"""The nightly run over an inventory: begun when it is due, sent in chunks, resumable after each of them.

Any number of processes may step the same sweeps. One at a time holds the lease of a night, and what it writes carries
the number of that lease. After a crash the next one reads the inventory again and goes on behind the cursor; a chunk
that was sent without being written down is sent again, which changes nothing, since cases have derived ids.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from threading import Event
from typing import Final

import structlog

from backends.bootstrap import Backends
from backends.failpoint import reach
from backends.heartbeat import process_name
from backends.sweeps import Denied, Ending, Lease, Night
from platforms.catalogue import Catalogue
from producers.eligibility import Ineligible, InventoryRow, NumberState, is_of_this_cycle
from producers.forecast import Standing
from producers.inventory import Change
from producers.reclaim import Reclaimed, Reclaimer
from producers.rows import Rejection
from producers.sorter import Contents, Sorter
from producers.submit import Intake, Submitter
from producers.sweep_definition import Definition, Definitions
from producers.sweep_plan import asked, case_of, foresee_night, jobs_of, new_by_release, row_of
from producers.sweep_rule import Begin, End, GoOn, Rest, Skip, move
from producers.sweep_source import InventorySource, source_of
from schemas.batch import Lane
from schemas.errors import ConfigurationError, InputError, NotFound, Refused
from schemas.ids import derive
from schemas.number import mask_text

CHUNK_ROWS: Final = 1000
# How soon a night that cannot go on (no inventory yet, a wrong header) is tried again.
AGAIN: Final = timedelta(seconds=20)
# A lease lasts 30 s: it is kept well before that.
_KEEP: Final = timedelta(seconds=10)
_ROWS_BETWEEN_KEEPS: Final = 10_000
_LOGGED_MAX: Final = 20
log = structlog.get_logger()


class _Lost(Exception):
    """The lease has passed to somebody else, or the sweep is paused, or this process is to end."""


@dataclass(slots=True, kw_only=True)
class _Held:
    """The night that this process steps."""

    lease: Lease
    night: Night
    source: InventorySource
    sorter: Sorter
    rows: Iterator[InventoryRow]
    kept_at: datetime

    def close(self) -> None:
        self.sorter.close()


def run_of(sweep: str, day: date) -> str:
    """Name the run of a night; the same for everybody who ever steps it."""
    return derive("sweep", sweep, day.isoformat())


class SweepStepper:
    """Steps sweeps, a chunk at a time. Raises BackendUnavailable, RedisError: then another step goes on."""

    def __init__(
        self, backends: Backends, catalogue: Catalogue, definitions: Definitions, *, who: str = "scheduler",
        stop: Event | None = None,
        standings: Callable[[], Mapping[str, Standing]] = dict,
    ) -> None:  # fmt: skip
        self._backends, self._catalogue, self._definitions = backends, catalogue, definitions
        self._who, self._stop, self._standings = who, stop or Event(), standings
        self._submitter = Submitter(backends, catalogue, operator=backends.settings.operator)
        self._reclaimer = Reclaimer(backends, who=who, reason="the inventory says that it is taken back")
        self._held: dict[str, _Held] = {}
        self._not_before: dict[str, datetime] = {}

    @property
    def busy(self) -> bool:
        """Whether a night is in our hands, so that the next look must not wait for beat."""
        return bool(self._held)

    def step(self) -> bool:
        """Do one thing for each sweep. Returns whether there is more to be done at once."""
        more = False
        for definition in self._definitions:
            more = self.step_one(definition) or more
        return more

    def step_one(self, definition: Definition) -> bool:
        """Do what is to be done at one sweep now. Returns whether there is more to be done at once."""
        now = self._backends.clock.now()
        match move(definition, self._backends.sweeps.standing(definition.name), now=now):
            case Rest():
                self.leave(definition.name)
                return False
            case Skip(day):
                return self._end(definition, day, Ending.SKIPPED)
            case End(day, ending):
                return self._end(definition, day, ending)
            case Begin(day, late):
                return self.advance(definition, day, late=late) is True
            case GoOn(day):
                return self.advance(definition, day) is True

    def advance(self, definition: Definition, day: date, *, late: bool = False) -> bool | Denied:
        """Take up the night of a day, or send its next chunk. Returns whether more can be done at once."""
        name, now = definition.name, self._backends.clock.now()
        if now < self._not_before.get(name, now):
            return False
        held = self._held.get(name)
        try:
            if held is None or held.lease.day != day:
                self.leave(name)
                return self._take_up(definition, day, late=late)
            return self._send(definition, held)
        except _Lost:
            self.leave(name)
            return False

    def leave(self, name: str) -> None:
        """Give a sweep back, so that anybody may go on at once."""
        if held := self._drop(name):
            self._backends.sweeps.give_back(held.lease)

    def close(self) -> None:
        """Give all sweeps back."""
        for name in list(self._held):
            self.leave(name)

    def _drop(self, name: str) -> _Held | None:
        held = self._held.pop(name, None)
        if held:
            held.close()
        return held

    # -- begin -----------------------------------------------------------------------------------------------------

    def _take_up(self, definition: Definition, day: date, *, late: bool) -> bool | Denied:
        name, now = definition.name, self._backends.clock.now()
        begun = self._backends.sweeps.begin(name, self._new(definition, day, late=late), holder=process_name(), now=now)
        if isinstance(begun, Denied):
            return begun
        lease, night = begun
        reach("sweep.begun")
        log.info("sweep.night", sweep=name, day=night.day, what="taken up", cursor=night.cursor)
        sorter = Sorter(self._backends.vault, definition.rule, day=day)
        try:
            source = source_of(definition, day, folder=self._definitions.folder, vault=self._backends.vault)
            contents = self._read(definition, lease, source=source, sorter=sorter)
        except (InputError, ConfigurationError, NotFound, Refused) as error:
            sorter.close()
            self._cannot(lease, night, error)
            return False
        except BaseException:
            sorter.close()
            self._backends.sweeps.give_back(lease)
            raise
        held = _Held(lease=lease, night=night, source=source, sorter=sorter, rows=iter(()), kept_at=now)
        self._held[name] = held
        self._note(definition, night, contents, source=source)
        if not night.cursor:
            self._take_back(held)
        held.rows = sorter.planned(start=night.cursor)
        file, instrument = f"sweep {name} {night.day}", definition.instrument or ""
        self._backends.runs.begin(night.run, file=file, now=now, instrument=instrument)
        self._foresee(definition, held)
        self._write(held)
        reach("sweep.planned")
        return True

    def _new(self, definition: Definition, day: date, *, late: bool) -> Night:
        return Night(
            day=day.isoformat(),
            run=run_of(definition.name, day),
            begun_ms=_ms(self._backends.clock.now()),
            late=late,
            who=self._who,
        )

    def _read(self, definition: Definition, lease: Lease, *, source: InventorySource, sorter: Sorter) -> Contents:
        asked(definition, self._catalogue)
        if definition.instrument:
            self._backends.instruments.valid(definition.instrument, now=self._backends.clock.now())
        rejected = 0
        for count, row in enumerate(source.rows(), start=1):
            if isinstance(row, Rejection):
                rejected += 1
                if rejected <= _LOGGED_MAX:
                    log.warning("sweep.row_refused", sweep=definition.name, line=row.line, field=row.field,
                                reason=row.problem)  # fmt: skip
            else:
                sorter.add(row)
            if count % _ROWS_BETWEEN_KEEPS == 0:
                self._keep(lease)
        self._keep(lease)
        contents = sorter.contents()
        contents.rejected = rejected
        return contents

    def _note(self, definition: Definition, night: Night, contents: Contents, *, source: InventorySource) -> None:
        """Write what the inventory holds into the night; another inventory than before is begun anew, harmlessly."""
        if night.fingerprint != contents.fingerprint:
            night.cursor = night.sent = night.accepted = night.known = night.let_go = 0
            night.stopped = {}
        night.fingerprint, night.source, night.problem = contents.fingerprint, source.name, ""
        night.rows, night.rejected, night.refused = contents.rows, contents.rejected, contents.refused
        night.planned, night.planned_by_release = contents.planned, contents.planned_by_release
        night.jobs_by_platform = dict.fromkeys(asked(definition, self._catalogue), contents.planned)

    def _foresee(self, definition: Definition, held: _Held) -> None:
        """Keep what is to be expected of a night before anything of it is sent; `renewal sweep report` compares."""
        name, day = definition.name, held.lease.day
        if held.night.cursor or self._backends.sweeps.forecast(name, day):
            return
        new = new_by_release(self._backends, held.sorter, on_page=lambda: self._keep_now_and_then(held))
        jobs = jobs_of(definition, self._catalogue, new)
        now = self._backends.clock.now()
        found = foresee_night(definition, self._catalogue, jobs, day=day, now=now, standings=self._standings())
        self._backends.sweeps.keep_forecast(name, day, found.to_json())

    def _cannot(self, lease: Lease, night: Night, error: Exception) -> None:
        """Write down why a night cannot go on; it is tried again until the next one begins."""
        night.problem = mask_text(str(error))
        log.warning("sweep.night", sweep=lease.sweep, day=night.day, what="cannot go on", reason=night.problem)
        self._not_before[lease.sweep] = self._backends.clock.now() + AGAIN
        self._backends.sweeps.give_back(lease, night)

    # -- send ------------------------------------------------------------------------------------------------------

    def _send(self, definition: Definition, held: _Held) -> bool:
        if self._is_full():
            self._keep_now_and_then(held)
            return False
        page = list(islice(held.rows, CHUNK_ROWS))
        if not page:
            return self._complete(held)
        try:
            stopped = self._stopped(held, page)
        except (InputError, ConfigurationError) as error:
            self._drop(definition.name)
            self._cannot(held.lease, held.night, error)
            return False
        self._let_go(held, [row for row in page if stopped.get(row.line) is Ineligible.RECLAIMED])
        reach("sweep.checked")
        rows = [row for row in page if row.line not in stopped]
        self._submit(definition, held, rows)
        reach("sweep.submitted")
        # What was marked as taken back while it was handed in: who marked it looked for a case before there was one.
        self._let_go(held, self._reclaimed(rows))
        night = held.night
        night.cursor += len(page)
        night.sent += len(page) - len(stopped)
        for code in stopped.values():
            night.stopped[code.value] = night.stopped.get(code.value, 0) + 1
        self._write(held)
        reach("sweep.written")
        return True

    def _stopped(self, held: _Held, page: list[InventoryRow]) -> dict[int, Ineligible]:
        """Look once more, just before it is sent, at what has become of each number (requirement 4)."""
        stopped = held.source.changed(page, now=self._backends.clock.now())
        return stopped | {row.line: Ineligible.RECLAIMED for row in self._reclaimed(page)}

    def _reclaimed(self, rows: list[InventoryRow]) -> list[InventoryRow]:
        """Return those that a person has said are taken back."""
        marks = self._backends.withdrawals.reclaimed_ms([self._backends.vault.token(row.number) for row in rows])
        return [
            row
            for row, at_ms in zip(rows, marks, strict=True)
            if at_ms is not None and is_of_this_cycle(row, datetime.fromtimestamp(at_ms / 1000, UTC))
        ]

    def _let_go(self, held: _Held, rows: list[InventoryRow]) -> None:
        """Cancel and withdraw what is known of numbers that are taken back."""
        if rows:
            count = Reclaimed()
            self._reclaimer.let_go([case_of(row, self._backends) for row in rows], count)
            held.night.let_go += count.cases

    def _take_back(self, held: _Held) -> None:
        """Let go of the numbers that the inventory itself says are taken back."""
        now = self._backends.clock.now()
        changes = (
            Change(line=line, number=number, state=NumberState.RECLAIMED, at=now)
            for line, number in held.sorter.reclaimed()
        )
        while page := list(islice(changes, CHUNK_ROWS)):
            held.night.let_go += self._reclaimer.reclaim(page).cases
            self._keep(held.lease)

    def _submit(self, definition: Definition, held: _Held, rows: list[InventoryRow]) -> None:
        ended = Event()

        def keep(_: Intake) -> None:
            try:
                self._keep_now_and_then(held)
            except _Lost:
                ended.set()
            if self._stop.is_set():
                ended.set()

        intake = self._submitter.submit(
            (row_of(row, definition) for row in rows),
            run=held.night.run,
            on_rejected=lambda _: None,
            on_progress=keep,
            stop=ended,
        )
        if ended.is_set():
            raise _Lost
        held.night.accepted += intake.accepted
        held.night.known += intake.duplicate

    def _is_full(self) -> bool:
        broker = self._backends.broker
        return broker.depths()[broker.queues[Lane.BULK].name] >= self._backends.settings.queue_high_water

    def _keep_now_and_then(self, held: _Held) -> None:
        now = self._backends.clock.now()
        if now >= held.kept_at + _KEEP:
            self._keep(held.lease)
            held.kept_at = now

    def _keep(self, lease: Lease) -> None:
        if self._stop.is_set() or not self._backends.sweeps.write(lease, None, now=self._backends.clock.now()):
            raise _Lost

    def _write(self, held: _Held) -> None:
        held.kept_at = self._backends.clock.now()
        if not self._backends.sweeps.write(held.lease, held.night, now=held.kept_at):
            raise _Lost

    # -- end -------------------------------------------------------------------------------------------------------

    def _complete(self, held: _Held) -> bool:
        night = held.night
        night.ending, night.ended_ms = Ending.COMPLETED, _ms(self._backends.clock.now())
        self._backends.runs.note_intake(night.run, rejected=night.rejected, duplicate=night.known)
        self._settle(held.lease, night)
        self._drop(held.lease.sweep)
        return True

    def _end(self, definition: Definition, day: date, ending: Ending) -> bool:
        """End a night that this process does not go on with, or that nobody has begun."""
        self.leave(definition.name)
        now = self._backends.clock.now()
        begun = self._backends.sweeps.begin(
            definition.name, self._new(definition, day, late=False), holder=process_name(), now=now
        )
        if isinstance(begun, Denied):
            return False
        lease, night = begun
        night.ending, night.ended_ms = ending, _ms(now)
        night.why = {
            Ending.OVERTAKEN: f"the next night began with {night.planned - night.cursor} numbers left",
            Ending.FAILED: night.problem,
            Ending.SKIPPED: "nobody began it in time",
        }.get(ending, "")
        return self._settle(lease, night)

    def _settle(self, lease: Lease, night: Night) -> bool:
        settled = self._backends.sweeps.settle(lease, night)
        if settled:
            reach("sweep.settled")
            log.info("sweep.night", sweep=lease.sweep, day=night.day, what=night.ending, planned=night.planned,
                     sent=night.sent, accepted=night.accepted)  # fmt: skip
        return settled


def _ms(now: datetime) -> int:
    return int(now.timestamp() * 1000)
