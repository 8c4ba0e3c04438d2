"""How one job went: whose turn it was, how the promise about it stands, and who was late. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backends.dead import Step
from backends.store import epoch
from ops.turns import Turn, late_party, pauses, totals, turns_of
from ops.when import said
from platforms.calendar import WorkingDays
from platforms.model import Sla
from platforms.promise import LATE, Promise, promise_of
from schemas.record import JobRecord
from schemas.state import Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One job by `now`.

    `promise` is None where the catalogue has the platform no more. `late` names who had the ball for most of the time
    beyond the promise, and is None while nobody is late.
    """

    turns: tuple[Turn, ...]
    promise: Promise | None
    late: Holder | None
    now: datetime

    def as_dict(self) -> dict[str, Any]:
        """Return it as programs read it; seconds by party in `held_s`."""
        return {
            "promise": None if self.promise is None else promise_row(self.promise),
            "late_party": self.late,
            "held_s": {party.value: round(s, 1) for party, s in totals(self.turns, now=self.now).items()},
            "turns": [turn.row(self.now) for turn in self.turns],
        }


def course_of(
    record: JobRecord,
    trail: Sequence[Step],
    *,
    accepted_s: int,
    sla: Sla | None,
    calendar: WorkingDays,
    now: datetime,
) -> Course:
    """Return how a job went that was taken in at `accepted_s`; without a contract (`sla`) nothing was promised."""
    turns = turns_of(record, trail, accepted_at=epoch(accepted_s))
    if sla is None:
        return Course(turns=turns, promise=None, late=None, now=now)
    promise = promise_of(
        record,
        started_at=epoch(record.first_sent_s or accepted_s),
        settled_at=turns[-1].until,
        sla=sla,
        calendar=calendar,
        now=now,
        paused=pauses(turns, now=now),
        with_user=turns[-1].until is None and turns[-1].holder is Holder.USER,
    )
    late = late_party(turns, due_at=promise.due_at, now=now) if promise.standing in LATE else None
    return Course(turns=turns, promise=promise, late=late, now=now)


def promise_row(promise: Promise) -> dict[str, Any]:
    """Return a promise as programs read it."""
    return {
        "started_at": said(promise.started_at),
        "due_at": said(promise.due_at),
        "provisional": promise.provisional,
        "standing": promise.standing.value,
    }
