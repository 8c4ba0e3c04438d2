"""What the owner of a number sees of a case. Pure: a case, a catalogue and an authorisation in, plain values out.

Requirement 21. Whether something was bound is another person's secret: UNBOUND, NO_BINDING and BOUND_AFTER_CUTOFF are
one and the same here, no time of any platform is shown, and of categories in which a name alone tells too much there is
one line for all platforms together, which says no more than whether all of it is done.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from backends.authorisations import Given
from backends.store import CaseView, epoch
from platforms.calendar import ZONE, Due, WorkingDays
from platforms.catalogue import Catalogue
from platforms.model import Name, Platform
from platforms.remedies import Remedy, remedy_of
from schemas.outcome import Hold, Refusal
from schemas.record import JobRecord
from schemas.state import STATES, State


class Standing(StrEnum):
    """How far one platform is, for its owner."""

    DONE = "done"
    IN_PROGRESS = "in_progress"
    NOT_POSSIBLE = "not_possible"


class With(StrEnum):
    """Who has to act next."""

    OPERATOR = "operator"
    PLATFORM = "platform"
    OWNER = "owner"


class Sum(StrEnum):
    """What all of it adds up to."""

    DONE = "done"
    IN_PROGRESS = "in_progress"
    DONE_WITH_EXCEPTIONS = "done_with_exceptions"
    WITHDRAWN = "withdrawn"


# Whether somebody had an account in one of these says something of their health, their money or their private life.
_SENSITIVE: Final[Mapping[str, str]] = {
    "bank": "finance",
    "payment": "finance",
    "invest": "finance",
    "health": "health",
    "dating": "dating",
}
SENSITIVE_GROUPS: Final = frozenset(_SENSITIVE.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One platform. `turn` is set while it is in progress; `remedy` where it is not possible and something helps."""

    name: Name
    standing: Standing
    turn: With | None = None
    remedy: Remedy | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The platforms of one category. A sensitive one has no lines."""

    key: str
    platforms: int
    done: int | None  # None for a sensitive one: then only the standing of all together is told
    standing: Standing
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerView:
    """Everything that the page says."""

    number: str  # masked
    asked_on: date
    promised_by: date
    provisional: bool
    sum: Sum
    groups: tuple[Group, ...]
    may_withdraw: bool


def owner_view(
    case: CaseView, catalogue: Catalogue, *, given: Given | None, calendar: WorkingDays, now: datetime
) -> OwnerView:
    """Return what the owner of a case's number may know of it."""
    members: dict[str, list[Line]] = defaultdict(list)
    for key in (*case.platforms, *case.settled):
        entry = catalogue.get(key) if key in catalogue else None
        members[group_of(entry)].append(_line(key, entry, case.record(key)))
    groups = tuple(sorted((_gathered(name, lines) for name, lines in members.items()), key=_place))
    withdrawn = given is not None and given.withdrawn_at is not None
    due = _due(case, catalogue, calendar)
    return OwnerView(
        number=case.mask,
        asked_on=epoch(case.accepted_s).astimezone(ZONE).date(),
        # Due at 24:00: the last day on which it may come.
        promised_by=_last_day(due.at),
        provisional=due.provisional,
        sum=Sum.WITHDRAWN if withdrawn else _sum(groups),
        groups=groups,
        may_withdraw=given is not None and not given.over_at(now) and _sum(groups) is Sum.IN_PROGRESS,
    )


def group_of(entry: Platform | None) -> str:
    """Return the group under which a platform is shown; several sensitive categories share one."""
    return "other" if entry is None else _SENSITIVE.get(entry.category, entry.category)


def _place(group: Group) -> tuple[bool, int, str]:
    """What an owner has to know or to do comes first, and the sensitive ones last, in an order that tells nothing."""
    if group.key in SENSITIVE_GROUPS:
        return True, 0, group.key
    return False, min(_loudness(line) for line in group.lines), group.key


def _line(key: str, entry: Platform | None, record: JobRecord) -> Line:
    name = entry.name if entry else Name(zh=key, en=key)
    if not STATES[record.state].final:
        return Line(name=name, standing=Standing.IN_PROGRESS, turn=_turn(record))
    if STATES[record.state].clean:
        return Line(name=name, standing=Standing.DONE)
    remedy = remedy_of(record.reason) if isinstance(record.reason, Refusal) else None
    cancelled = record.state is State.CANCELLED
    return Line(name=name, standing=Standing.NOT_POSSIBLE, remedy=remedy, cancelled=cancelled)


def _turn(record: JobRecord) -> With:
    if record.reason is Hold.USER_ACTION:
        return With.OWNER
    return With.PLATFORM if record.state is State.ACCEPTED else With.OPERATOR


def _gathered(key: str, lines: Sequence[Line]) -> Group:
    sensitive = key in SENSITIVE_GROUPS
    ordered = sorted(lines, key=lambda line: (_loudness(line), line.name.en.casefold()))
    return Group(
        key=key,
        platforms=len(lines),
        done=None if sensitive else sum(line.standing is Standing.DONE for line in lines),
        standing=_worst(line.standing for line in lines),
        lines=() if sensitive else tuple(ordered),
    )


def _loudness(line: Line) -> int:
    """What an owner has to do comes first, then what they have to know, then what goes on."""
    if line.turn is With.OWNER:
        return 0
    return {Standing.NOT_POSSIBLE: 1, Standing.IN_PROGRESS: 2, Standing.DONE: 3}[line.standing]


def _worst(standings: Iterable[Standing]) -> Standing:
    """Open while anything is; then not possible if anything is not."""
    found = set(standings)
    return next(each for each in (Standing.IN_PROGRESS, Standing.NOT_POSSIBLE, Standing.DONE) if each in found)


def _sum(groups: Sequence[Group]) -> Sum:
    return {
        Standing.IN_PROGRESS: Sum.IN_PROGRESS,
        Standing.NOT_POSSIBLE: Sum.DONE_WITH_EXCEPTIONS,
        Standing.DONE: Sum.DONE,
    }[_worst(group.standing for group in groups)]


def _due(case: CaseView, catalogue: Catalogue, calendar: WorkingDays) -> Due:
    """Return the latest promise of all platforms, from the day on which the owner asked: one date tells of none."""
    asked_at = epoch(case.accepted_s)
    promises = {catalogue.get(key).sla for key in case.platforms if key in catalogue}
    found = [calendar.due_of(sla, asked_at) for sla in promises]
    return max(found, key=lambda due: due.at, default=calendar.due(asked_at, 0))


def _last_day(due: datetime) -> date:
    return (due.astimezone(ZONE) - timedelta(seconds=1)).date()
