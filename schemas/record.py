"""The packed record of one job: 12 bytes in the status store, and the rule by which events change it.

The jobs of one manifest at one platform are one string, a column: a record for each case, at its place. Beside the
columns stands a roll of each case, also at its place.

`merge` is the model of `record.lua`; a property test drives both with the same events.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

from schemas.outcome import REASON_CODES, REASONS, Reason
from schemas.state import STATE_OF_CODE, STATES, State

_LAYOUT = struct.Struct(">BBBBII")
_DISPUTED = 0x80
ATTEMPTS_SHOWN_MAX = 255
RECORD_BYTES: Final = _LAYOUT.size
_ROLL = struct.Struct(">HH")
_UNTRIED: Final = b"\0" * RECORD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """What is known of one job. Times are seconds since 1970 UTC, 0 where nothing has happened yet."""

    state: State = State.QUEUED
    reason: Reason | None = None
    attempts: int = 0
    generation: int = 0
    first_sent_s: int = 0
    settled_s: int = 0
    disputed: bool = False

    def pack(self) -> bytes:
        """Return the 12 bytes that the status store keeps."""
        state = STATES[self.state].code | (_DISPUTED if self.disputed else 0)
        reason = REASON_CODES[self.reason] if self.reason else 0
        attempts = min(self.attempts, ATTEMPTS_SHOWN_MAX)
        return _LAYOUT.pack(state, reason, attempts, self.generation, self.first_sent_s, self.settled_s)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read the 12 bytes back."""
        state, reason, attempts, generation, first_sent_s, settled_s = _LAYOUT.unpack(packed)
        return cls(
            state=STATE_OF_CODE[state & ~_DISPUTED],
            reason=REASONS[reason - 1] if reason else None,
            attempts=attempts,
            generation=generation,
            first_sent_s=first_sent_s,
            settled_s=settled_s,
            disputed=bool(state & _DISPUTED),
        )

    @classmethod
    def at(cls, column: bytes, place: int) -> Self | None:
        """Read the record at one place of a column; None where nobody has tried it yet."""
        packed = column[place * RECORD_BYTES : (place + 1) * RECORD_BYTES]
        return None if packed in {_UNTRIED, b""} else cls.unpack(packed)

    @property
    def place(self) -> tuple[bool, int, int, int, int]:
        """Where this record stands in the total order of `schemas.state`."""
        rule = STATES[self.state]
        if rule.final:
            return (True, 0, 0, 0, 0)
        # Only WAITING competes by attempt: a job dies or is accepted once in a generation, and two workers that
        # ran the same attempt must not make the end depend on who came last.
        attempt = self.attempts if self.state is State.WAITING else 0
        reason = REASON_CODES[self.reason] if self.reason else 0
        return (False, self.generation, rule.rank, attempt, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """What a case's jobs add up to: those that are not final, and those that ended other than clean."""

    open_jobs: int
    exceptions: int

    @classmethod
    def at(cls, rolls: bytes, place: int) -> Self:
        """Read the roll at one place."""
        open_jobs, exceptions = _ROLL.unpack_from(rolls, place * _ROLL.size)
        return cls(open_jobs=open_jobs, exceptions=exceptions)


def contradicts(known: State, change: State, *, same: bool) -> bool:
    """Whether two ends of a job, not the `same`, cannot both be true. That nobody answered contradicts no answer."""
    one, other = STATES[known], STATES[change]
    return one.final and other.final and not same and one.unanswered == other.unanswered


def is_late(known: State, change: State) -> bool:
    """Whether an answer comes after a job has ended for want of one."""
    one, other = STATES[known], STATES[change]
    return one.unanswered and other.final and not other.unanswered


def merge(known: JobRecord, change: JobRecord) -> JobRecord:
    """Return what is known after `change`; the same whatever the order and number of changes.

    Two different final answers: `known` stays and becomes disputed (requirement 20), unless one of them only says that
    no answer was heard.
    """
    attempts = max(known.attempts, change.attempts)
    sent = [s for s in (known.first_sent_s, change.first_sent_s) if s]
    first_sent_s = min(sent, default=0)
    same = known.place == change.place and (known.state, known.reason) == (
        change.state,
        change.reason,
    )
    disputed = known.disputed or contradicts(known.state, change.state, same=same)
    winner = change if change.place > known.place else known
    settled_s = winner.settled_s
    if same:
        settled_s = min(known.settled_s, change.settled_s)
    return JobRecord(
        state=winner.state,
        reason=winner.reason,
        attempts=attempts,
        generation=max(known.generation, change.generation),
        first_sent_s=first_sent_s,
        settled_s=settled_s,
        disputed=disputed,
    )
