"""What a sweep has to do at this moment: a pure rule over its definition, what is stored of it, and the time.

A night is due from its start; it may be begun late as far as the definition says; what is missed for good is skipped
with a record. A night that has been begun goes on until the next one starts: then it is overtaken, since the next
night's inventory holds whatever is left.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from backends.sweeps import Ending, Standing
from producers.sweep_definition import PUNCTUAL, Definition

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The night of a day is over without having been begun."""

    day: date


@dataclass(frozen=True, slots=True)
class Begin:
    """The night of a day is due."""

    day: date
    late: bool = False


@dataclass(frozen=True, slots=True)
class GoOn:
    """A night that was begun goes on."""

    day: date


@dataclass(frozen=True, slots=True)
class End:
    """A night that was begun does not go on."""

    day: date
    ending: Ending


Move = Rest | Skip | Begin | GoOn | End


def move(definition: Definition, standing: Standing, *, now: datetime) -> Move:
    """Say what is to be done. Called again after each move, it comes to rest."""
    if standing.paused:
        return Rest()
    if standing.open is not None:
        if now < definition.start(standing.open + _DAY):
            return GoOn(standing.open)
        return End(standing.open, Ending.FAILED if standing.problem else Ending.OVERTAKEN)
    return _move_to(definition, standing.done, now=now)


def _move_to(definition: Definition, done: date | None, *, now: datetime) -> Move:
    """Say what is to be done where no night is open."""
    newest = definition.newest_night(now)
    in_time = now < definition.begins_until(newest)
    # Where nobody has ever looked after this sweep, what came before is no night that was missed.
    oldest = done + _DAY if done else newest
    if oldest > newest or (done is None and not in_time):
        return Rest()
    if oldest < newest or not in_time:
        return Skip(oldest)
    return Begin(newest, late=now >= definition.start(newest) + PUNCTUAL)


def due_since(definition: Definition, standing: Standing, *, now: datetime) -> datetime | None:
    """Return since when something is to be done that nobody does; None where all is well, or a person has paused it."""
    match move(definition, standing, now=now):
        case Begin(day):
            return definition.start(day)
        case Skip(day):
            return definition.begins_until(day)
        case End(day):
            return definition.start(day + _DAY)
        case GoOn() if standing.held_until_ms:
            held_until = datetime.fromtimestamp(standing.held_until_ms / 1000, UTC)
            return held_until if held_until < now else None
    return None


def night_by_hand(definition: Definition, standing: Standing, *, now: datetime) -> date:
    """Return the night that a person who starts a sweep now means: the one under way or due, else today's."""
    if standing.open is not None:
        return standing.open
    newest = definition.newest_night(now)
    settled = standing.done is not None and standing.done >= newest
    return newest if not settled and now < definition.begins_until(newest) else definition.today(now)


def next_start(definition: Definition, standing: Standing, *, now: datetime) -> datetime:
    """Return when the next night begins that is not settled already."""
    day = definition.newest_night(now) + _DAY
    if standing.done is not None:
        day = max(day, standing.done + _DAY)
    return definition.start(day)
