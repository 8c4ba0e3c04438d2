"""Whose turn it was: a job's life as intervals without gap or overlap, each with its evidence (requirement 14). Pure.

What is not on record is nobody's fault: a wait of ours, and what nobody knows any more, is the dispatcher's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from backends.dead import Step
from backends.store import epoch
from ops.when import said
from platforms.calendar import Pause
from schemas.outcome import Fault, Hold, Reason
from schemas.record import JobRecord, merge
from schemas.state import STATES, Holder, State
from workers.retry import BLAME, Blame

PARTIES: Final = (Holder.OPERATOR, Holder.DISPATCHER, Holder.PLATFORM, Holder.USER)
TURN_FIELDS: Final = ("holder", "since", "until", "s", "why", "attempt", "http_status", "reason", "batch")


class Because(StrEnum):
    """Why a party has the ball."""

    QUEUED = "queued"  # on its way to its first call
    CALL = "call"  # the platform is asked
    FAULT = "fault"  # the platform did not answer as it should; it is asked again
    WAIT = "wait"  # a wait of ours: half of a batch, or a request that has to be mended
    REPLAY = "replay"  # a person sent it again
    ACCEPTED = "accepted"  # the platform has it, and answers later
    USER_ACTION = "user_action"  # the platform waits for the number's owner
    DEAD = "dead"  # a person decides
    REVIEW = "review"  # a person reads the answer
    UNRECORDED = "unrecorded"  # what happened then is kept no longer


_SECOND: Final = timedelta(seconds=1)
_BECAUSE: Final[Mapping[State, Because]] = {
    State.QUEUED: Because.REPLAY,
    State.WAITING: Because.WAIT,
    State.DEAD: Because.DEAD,
    State.ACCEPTED: Because.ACCEPTED,
    State.PENDING_REVIEW: Because.REVIEW,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What began a turn: an attempt of a batch, and what the platform answered."""

    batch: str
    attempt: int
    generation: int
    http_status: int | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One party has the ball from `since` until `until`, which is None while it has it still."""

    holder: Holder
    since: datetime
    until: datetime | None
    because: Because
    evidence: Evidence | None = None

    def seconds(self, now: datetime, *, after: datetime | None = None) -> float:
        """Return how long it lasted, or lasts by `now`; with `after` only what lies behind that moment."""
        since = max(self.since, after) if after else self.since
        return max(0.0, ((self.until or now) - since).total_seconds())

    def row(self, now: datetime) -> dict[str, Any]:
        """Return it as a list shows it."""
        told = self.evidence
        return {
            "holder": self.holder.value,
            "since": said(self.since),
            "until": said(self.until) if self.until else None,
            "s": round(self.seconds(now), 1),
            "why": self.because.value,
            "attempt": told.attempt if told else None,
            "http_status": told.http_status if told else None,
            "reason": told.reason if told else None,
            "batch": told.batch if told else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """From here on the ball is with `holder`, or with nobody if that is None: then the job is over."""

    at: datetime
    holder: Holder | None
    because: Because = Because.CALL
    evidence: Evidence | None = None


def turns_of(record: JobRecord, trail: Sequence[Step], *, accepted_at: datetime) -> tuple[Turn, ...]:
    """Return the turns of one job, from intake to its end; that of a job which is open has no end yet.

    `trail` may be cut, in any order, or empty: a job that was answered at once has none. Times of a record are whole
    seconds, those of a trail are exact.
    """
    marks = list(_marks(record, trail, accepted_at=accepted_at))
    ends_at = marks.pop().at if STATES[record.state].final else None
    turns: list[Turn] = []
    for mark, until in zip(marks, [*(mark.at for mark in marks[1:]), ends_at], strict=True):
        if until == mark.at:
            continue
        if turns and mark.evidence and (turns[-1].holder, turns[-1].evidence) == (mark.holder, mark.evidence):
            turns[-1] = replace(turns[-1], until=until, because=mark.because)
        else:
            turns.append(_turn(mark, until=until))
    return tuple(turns) or (_turn(marks[0], until=ends_at),)


def totals(turns: Sequence[Turn], *, now: datetime, after: datetime | None = None) -> dict[Holder, float]:
    """Return for how many seconds each party had the ball; with `after` only behind that moment."""
    found = dict.fromkeys(PARTIES, 0.0)
    for turn in turns:
        found[turn.holder] += turn.seconds(now, after=after)
    return found


def late_party(turns: Sequence[Turn], *, due_at: datetime, now: datetime) -> Holder | None:
    """Name who had the ball for most of the time beyond the due time; None if there is no such time."""
    beyond = {party: seconds for party, seconds in totals(turns, now=now, after=due_at).items() if seconds > 0}
    return max(beyond, key=lambda party: beyond[party]) if beyond else None


def pauses(turns: Sequence[Turn], *, now: datetime) -> tuple[Pause, ...]:
    """Return when the number's owner had the ball: then the clock of the promise stands still."""
    return tuple((turn.since, turn.until or max(now, turn.since)) for turn in turns if turn.holder is Holder.USER)


# -- how a trail becomes turns -----------------------------------------------------------------------------------------


def _marks(record: JobRecord, trail: Sequence[Step], *, accepted_at: datetime) -> Iterator[_Mark]:
    """Yield what passed the ball on, no mark earlier than the one before; the last of a job that is over ends it."""
    at, known = accepted_at, JobRecord()
    yield _Mark(at=at, holder=Holder.DISPATCHER, because=Because.QUEUED)
    steps = sorted(trail, key=_order)
    first_sent_at = max(at, epoch(record.first_sent_s)) if record.first_sent_s else at
    if record.first_sent_s and (not steps or _started(steps[0]) > first_sent_at + _SECOND):
        at = first_sent_at
        yield _untold(record, at, steps)
    for step in steps:
        at = max(at, _started(step))
        yield _Mark(at=at, holder=Holder.PLATFORM, because=Because.CALL, evidence=_evidence(step))
        at = max(at, _started(step) + timedelta(milliseconds=step.ms))
        known = merge(known, _said(step))
        if STATES[known.state].final:
            break
        # Of two that say the same state the later one is the news, whichever of them the store has kept.
        reason = step.reason if step.state is known.state else known.reason
        yield _passed(known.state, reason, at=at, evidence=_evidence(step))
    settled_at = max(at, epoch(record.settled_s)) if record.settled_s else at
    if STATES[record.state].final:
        yield _Mark(at=at if STATES[known.state].final else settled_at, holder=None)
    elif known.state is not record.state:
        yield _passed(record.state, record.reason, at=settled_at, evidence=None)


def _untold(record: JobRecord, at: datetime, steps: Sequence[Step]) -> _Mark:
    """Return what is known of a time of which the trail tells nothing: a job that was answered at once, or a gap."""
    if not steps and STATES[record.state].final and record.attempts <= 1:
        return _Mark(at=at, holder=Holder.PLATFORM, because=Because.CALL)
    return _Mark(at=at, holder=Holder.DISPATCHER, because=Because.UNRECORDED)


def _passed(state: State, reason: Reason | None, *, at: datetime, evidence: Evidence | None) -> _Mark:
    """Return who has the ball after this was said of a job."""
    match state:
        case State.ACCEPTED if reason is Hold.USER_ACTION:
            holder, because = Holder.USER, Because.USER_ACTION
        case State.WAITING if isinstance(reason, Fault) and BLAME[reason] is not Blame.REQUEST:
            holder, because = Holder.PLATFORM, Because.FAULT
        case _:
            holder, because = STATES[state].holder, _BECAUSE[state]
    return _Mark(at=at, holder=holder, because=because, evidence=evidence)


def _turn(mark: _Mark, *, until: datetime | None) -> Turn:
    holder = mark.holder or Holder.DISPATCHER
    return Turn(holder=holder, since=mark.at, until=until, because=mark.because, evidence=mark.evidence)


def _said(step: Step) -> JobRecord:
    return JobRecord(state=step.state, reason=step.reason, attempts=step.attempt, generation=step.generation)


def _evidence(step: Step) -> Evidence:
    return Evidence(
        batch=step.batch,
        attempt=step.attempt,
        generation=step.generation,
        http_status=step.said.get("http_status"),
        reason=step.reason,
    )


def _started(step: Step) -> datetime:
    return datetime.fromisoformat(step.at)


def _order(step: Step) -> tuple[Any, ...]:
    return _started(step), step.ms, step.generation, step.attempt, step.state, step.reason or ""
