"""Custody: who holds each batch between the moment it is sent and the moment its result is recorded.

The broker is not the only record (rule 1). A batch enters before it is published, and leaves when `record.lua` applies
its result. Whoever holds it shows progress: a worker by a lease, a queue by moving on. What shows none is sent again
from here, so neither a lost message nor an emptied broker loses a job.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

from redis import Redis

from backends.connect import patiently, text
from backends.keys import Keys
from backends.scripts import script
from schemas.batch import Batch, Lane

# How long a queue may show no progress before somebody looks whether it still has the message.
QUEUED_S: Final = 10.0
# How long a worker may show no sign of life before somebody looks whether it still lives; its lease may be longer.
BEGUN_S: Final = 10.0
# How long a result may be under way to the status store before somebody looks whether it is still coming.
ANSWERED_S: Final = 15.0
_PAGE: Final = 500


class Phase(StrEnum):
    """Where a batch in custody is."""

    QUEUED = "queued"  # with the broker
    BEGUN = "begun"  # with a worker, until its lease ends
    ANSWERED = "answered"  # its result is on the results queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is known of a batch in custody. Times are milliseconds since 1970 UTC.

    `since_ms` is when its phase began, `ends_ms` until when nobody else may begin it.
    """

    phase: Phase
    since_ms: int
    ends_ms: int = 0
    starts: int = 0
    redrives: int = 0
    holder: str = ""

    @property
    def packed(self) -> str:
        """The note as Redis keeps it."""
        return f"{self.phase}|{self.since_ms}|{self.ends_ms}|{self.starts}|{self.redrives}|{self.holder}"

    @classmethod
    def parse(cls, note: str) -> Self:
        """Read a note back."""
        phase, since_ms, ends_ms, starts, redrives, holder = note.split("|", 5)
        return cls(
            phase=Phase(phase),
            since_ms=int(since_ms),
            ends_ms=int(ends_ms),
            starts=int(starts),
            redrives=int(redrives),
            holder=holder,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One batch in custody."""

    batch: str
    note: Note
    look_at_ms: int


class Custody:
    """Enter, begin, answered, end; and for who looks after it: overdue, redrive, leave."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._enter = script(client, "custody_enter")
        self._begin = script(client, "custody_begin")
        self._mark = script(client, "custody_mark")

    # -- who sends and who works -----------------------------------------------------------------------------------

    def enter(self, batches: Sequence[tuple[Batch, bytes]], *, now: datetime) -> int:
        """Take batches and their JSON into custody, before they are published. Returns how many are new."""
        if not batches:
            return 0
        args: list[str | int | bytes] = [_ms(now), _ms(now + timedelta(seconds=QUEUED_S))]
        for batch, body in batches:
            args += [batch.id, body]
        keys = [self._keys.custody, self._keys.custody_batches, self._keys.custody_notes]
        return int(patiently(lambda: self._enter(keys=keys, args=args)))

    def begin(self, batch: Batch, *, holder: str, lease_s: float, now: datetime) -> Note | None:
        """Hold a batch until the lease ends. Returns None if another holds it: then the message is a copy.

        A batch that is in nobody's custody may be begun all the same: its jobs' records say what is left to do.
        """
        ends = now + timedelta(seconds=lease_s)
        look_at = min(ends, now + timedelta(seconds=BEGUN_S))
        note = patiently(
            lambda: self._begin(
                keys=[self._keys.custody, self._keys.custody_notes, self._keys.custody_lanes],
                args=[batch.id, _ms(now), _ms(ends), holder, batch.lane, _ms(look_at)],
            )
        )
        if note is None:
            return None
        return Note.parse(text(note)) if note else Note(phase=Phase.BEGUN, since_ms=_ms(now), starts=1, holder=holder)

    def answered(self, batch: str, note: Note, *, now: datetime) -> bool:
        """Say that the result has been published."""
        look_at = now + timedelta(seconds=ANSWERED_S)
        after = replace(note, phase=Phase.ANSWERED, since_ms=_ms(now), ends_ms=_ms(look_at))
        return self._set(batch, note, after=after, look_at=look_at)

    def put_back(self, batch: str, note: Note, *, now: datetime) -> bool:
        """Say that the message is with the broker again; it was not the batch's fault, so this was no start."""
        starts = max(0, note.starts - 1)
        after = replace(note, phase=Phase.QUEUED, since_ms=_ms(now), ends_ms=0, starts=starts, holder="")
        return self._set(batch, note, after=after, look_at=now + timedelta(seconds=QUEUED_S))

    def end(self, batch: str) -> None:
        """Let a batch go for which there will be no result: all of it waits, or nothing of it was left to do."""

        def end() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.zrem(self._keys.custody, batch)
            pipe.hdel(self._keys.custody_batches, batch)
            pipe.hdel(self._keys.custody_notes, batch)
            pipe.execute()

        patiently(end)

    def seize(self, entry: Entry, *, holder: str, lease_s: float, now: datetime) -> bool:
        """Hold a batch instead of a worker, to end it. Returns False if anybody came first."""
        ends = now + timedelta(seconds=lease_s)
        after = replace(entry.note, phase=Phase.BEGUN, since_ms=_ms(now), ends_ms=_ms(ends), holder=holder)
        return self._set(entry.batch, entry.note, after=after, look_at=ends)

    # -- who looks after it ----------------------------------------------------------------------------------------

    def overdue(self, now: datetime, *, at_most: int) -> list[Entry]:
        """Return batches that somebody has to look after, the longest overdue first."""
        found: list[Any] = self._client.zrange(
            self._keys.custody, "-inf", _ms(now), byscore=True, withscores=True, offset=0, num=at_most
        )
        return self._entries([(text(batch), int(score)) for batch, score in found])

    def every(self) -> Iterator[Entry]:
        """Yield every batch in custody."""
        page: list[tuple[str, int]] = []
        for batch, score in self._client.zscan_iter(self._keys.custody, count=_PAGE):
            page.append((text(batch), int(score)))
            if len(page) >= _PAGE:
                yield from self._entries(page)
                page = []
        yield from self._entries(page)

    def _entries(self, found: list[tuple[str, int]]) -> list[Entry]:
        if not found:
            return []
        notes = self._client.hmget(self._keys.custody_notes, [batch for batch, _ in found])
        return [
            Entry(batch=batch, note=Note.parse(text(note)), look_at_ms=look_at_ms)
            for (batch, look_at_ms), note in zip(found, notes, strict=True)
            if note
        ]

    def bodies(self, batches: Sequence[str]) -> dict[str, bytes]:
        """Return the JSON of those batches that are in custody."""
        if not batches:
            return {}
        found: list[Any] = self._client.hmget(self._keys.custody_batches, list(batches))
        return {batch: body for batch, body in zip(batches, found, strict=True) if body}

    def redrive(self, entry: Entry, *, now: datetime, look_s: float) -> bool:
        """Note that a batch is being sent again. Returns False if somebody else came first."""
        note = entry.note
        redrives = note.redrives + 1
        after = replace(note, phase=Phase.QUEUED, since_ms=_ms(now), ends_ms=0, redrives=redrives, holder="")
        return self._set(entry.batch, note, after=after, look_at=now + timedelta(seconds=look_s), redrive=True)

    def leave(self, entry: Entry, *, now: datetime, look_s: float) -> bool:
        """Leave a batch where it is, and look again in `look_s` seconds."""
        return self._set(entry.batch, entry.note, after=entry.note, look_at=now + timedelta(seconds=look_s))

    def newest_begun_ms(self) -> dict[Lane, int]:
        """Return, by lane, when the newest batch that a worker has begun was queued."""
        found = {text(lane): int(since) for lane, since in self._client.hgetall(self._keys.custody_lanes).items()}
        return {lane: found.get(lane.value, 0) for lane in Lane}

    def counts(self) -> tuple[int, int]:
        """How many batches are in custody, and how many have ever been sent again."""
        return int(self._client.zcard(self._keys.custody)), int(self._client.get(self._keys.redriven) or 0)

    def _set(self, batch: str, known: Note, *, after: Note, look_at: datetime, redrive: bool = False) -> bool:
        keys = [self._keys.custody, self._keys.custody_notes, self._keys.redriven]
        args: list[str | int] = [batch, known.packed, after.packed, _ms(look_at), "1" if redrive else ""]
        return bool(patiently(lambda: self._mark(keys=keys, args=args)))


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
