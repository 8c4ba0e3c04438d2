"""The sweeper: looks after batches in custody that show no progress, and sends again what was lost.

Never by age alone. A worker's batch is taken for lost when its lease has ended or the worker shows no sign of life; a
queue's when the queue is empty, or when workers have begun batches that were queued well after it; a result's when the
results queue is empty. What has been begun too often without an end becomes dead letters: it may be what kills them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

import orjson
import structlog

from backends.bootstrap import Backends
from backends.custody import ANSWERED_S, BEGUN_S, QUEUED_S, Entry, Note, Phase
from schemas.batch import Batch, Lane
from schemas.errors import ContractError
from workers.burial import bury_batch, bury_message

STARTS_MAX: Final = 8
REDRIVES_MAX: Final = 24
_AT_ONCE: Final = 200
# A queue hands messages out in order, give or take what workers hold ready for their next free thread.
_OVERTAKEN_MS: Final = 60_000
_LOOK_S_MAX: Final = 3600.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What can be seen from outside: messages waiting in each lane and for the recorder, and how far lanes are."""

    depth: Mapping[Lane, int]
    results: int
    newest_begun_ms: Mapping[Lane, int]
    alive: frozenset[str]  # processes that have shown a sign of life
    now_ms: int


class Next(StrEnum):
    """What is to be done with a batch that somebody has to look after."""

    LEAVE = "leave"
    REDRIVE = "redrive"
    BURY = "bury"


def decide(note: Note, lane: Lane, seen: Seen) -> Next:
    """Say what to do with a batch whose time to be looked after has come. Pure."""
    match note.phase:
        case Phase.QUEUED:
            overtaken = seen.newest_begun_ms[lane] > note.since_ms + _OVERTAKEN_MS
            lost = seen.depth[lane] == 0 or overtaken
        case Phase.BEGUN:
            lost = seen.now_ms >= note.ends_ms or note.holder.partition("/")[0] not in seen.alive
        case Phase.ANSWERED:
            lost = seen.results == 0
        case _:
            assert_never(note.phase)
    if not lost:
        return Next.LEAVE
    spent = note.starts >= STARTS_MAX or note.redrives >= REDRIVES_MAX
    return Next.BURY if spent else Next.REDRIVE


def look_s(note: Note) -> float:
    """How long to wait before looking again: longer after each redrive that brought nothing."""
    match note.phase:
        case Phase.QUEUED:
            return min(_LOOK_S_MAX, QUEUED_S * 2.0 ** min(note.redrives, 10))
        case Phase.BEGUN:
            return BEGUN_S
        case Phase.ANSWERED:
            return ANSWERED_S
        case _:
            assert_never(note.phase)


class Sweeper:
    """Any number may sweep: each change is made only if nobody else has changed the batch meanwhile."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def sweep(self) -> int:
        """Look after what is overdue. Returns how many batches were sent again or buried. Raises BackendUnavailable."""
        overdue = self._backends.custody.overdue(self._backends.clock.now(), at_most=_AT_ONCE)
        if not overdue:
            return 0
        seen = self._seen()
        bodies = self._backends.custody.bodies([entry.batch for entry in overdue])
        done = 0
        for entry in overdue:
            body = bodies.get(entry.batch)
            if body is None:
                # It has just been recorded; else only its name is left, and nothing that could be sent.
                self._backends.custody.end(entry.batch)
                continue
            done += self._look_after(entry, body, seen)
        return done

    def _seen(self) -> Seen:
        depths, broker = self._backends.broker.depths(), self._backends.broker
        return Seen(
            depth={lane: depths[broker.queues[lane].name] for lane in Lane},
            results=depths[broker.results.name],
            newest_begun_ms=self._backends.custody.newest_begun_ms(),
            alive=frozenset(beat.name for beat in self._backends.heartbeats.alive("worker")),
            now_ms=int(self._backends.clock.now().timestamp() * 1000),
        )

    def _look_after(self, entry: Entry, body: bytes, seen: Seen) -> int:
        custody, now = self._backends.custody, self._backends.clock.now()
        try:
            batch = Batch.parse(body)
        except ContractError as error:
            bury_message(self._backends, orjson.loads(body), why=str(error))
            custody.end(entry.batch)
            return 1
        what = decide(entry.note, batch.lane, seen)
        if what is Next.LEAVE:
            custody.leave(entry, now=now, look_s=look_s(entry.note))
            return 0
        if not custody.redrive(entry, now=now, look_s=look_s(replace(entry.note, phase=Phase.QUEUED))):
            return 0
        if what is Next.BURY:
            # The event ends the custody; if it is lost, the batch is buried again.
            bury_batch(self._backends, batch, why=_why(entry.note))
            return 1
        log.warning("batch.redriven", batch=batch.id, run=batch.run, platform=batch.platform, phase=entry.note.phase,
                    starts=entry.note.starts, redrives=entry.note.redrives + 1)  # fmt: skip
        self._backends.broker.publish_batches([batch])
        return 1


def _why(note: Note) -> str:
    return f"no worker finished it: begun {note.starts} times, sent again {note.redrives} times"
