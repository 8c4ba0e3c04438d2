"""What a platform has promised about one job: until when, and how that stands. Pure.

The clock starts when the platform is first told, and for what was never sent at intake. It stands still while the
number's owner has to act, and only then (requirement 12).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from platforms.calendar import Pause, WorkingDays
from platforms.model import Sla
from schemas.record import JobRecord
from schemas.state import STATES, State


class Standing(StrEnum):
    """How a promise stands."""

    IN_TIME = "in_time"
    AT_RISK = "at_risk"  # open, and its last working day has begun
    OVERDUE = "overdue"  # open, and its time is over
    PAUSED = "paused"  # open, and the number's owner has to act
    MET = "met"  # answered in time
    MISSED = "missed"  # answered late, or never
    VOID = "void"  # nothing is owed: called off, or the platform has no way to answer


_OWES_NOTHING: Final = frozenset({State.CANCELLED, State.DELIVERED_UNCONFIRMED})
LATE: Final = frozenset({Standing.OVERDUE, Standing.MISSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One promise. `provisional` says that `due_at` may move with a calendar that nobody has published yet."""

    started_at: datetime
    due_at: datetime
    provisional: bool
    standing: Standing


def promise_of(
    record: JobRecord,
    *,
    started_at: datetime,
    settled_at: datetime | None,
    sla: Sla,
    calendar: WorkingDays,
    now: datetime,
    paused: Sequence[Pause] = (),
    with_user: bool = False,
) -> Promise:
    """Return the promise about a job. `paused` is when the owner held it, until `now` if `with_user` is so still."""
    due = calendar.due_of(sla, started_at, paused=paused)
    if not STATES[record.state].final:
        standing = _open(due.at, sla=sla, now=now, with_user=with_user)
    elif record.state in _OWES_NOTHING:
        standing = Standing.VOID
    else:
        in_time = record.state is not State.EXPIRED and (settled_at or now) < due.at
        standing = Standing.MET if in_time else Standing.MISSED
    return Promise(started_at=started_at, due_at=due.at, provisional=due.provisional, standing=standing)


def _open(due_at: datetime, *, sla: Sla, now: datetime, with_user: bool) -> Standing:
    if with_user:
        return Standing.PAUSED
    if now >= due_at:
        return Standing.OVERDUE
    return Standing.AT_RISK if now >= due_at - sla.warning else Standing.IN_TIME
