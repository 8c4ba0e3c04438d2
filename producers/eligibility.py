"""Whether a number of the operator's inventory may be renewed tonight: a pure rule over what the operator recorded.

Requirement 3: only a number that has really left its holder, after a freeze of at least the country's minimum.
Requirement 4: not before the last days of the freeze, and never one whose holder has taken it back.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from schemas.batch import Basis

_SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
# Days of freeze before a number may be given to somebody else (requirement 3).
FREEZE_DAYS_MIN: Final = {"CN": 90, "KR": 90, "IN": 90, "US": 45}


class NumberState(StrEnum):
    """Where a number stands in the operator's life cycle."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    PRE_CANCEL = "PRE_CANCEL"
    DEACTIVATED = "DEACTIVATED"
    FROZEN = "FROZEN"
    RELEASABLE = "RELEASABLE"
    ON_SALE = "ON_SALE"
    RE_ACTIVATED = "RE_ACTIVATED"
    RECLAIMED = "RECLAIMED"
    RESERVED = "RESERVED"


class Departure(StrEnum):
    """How a number left its holder. Only a cancelled one has an old owner whose bindings may go."""

    CANCELLED = "cancelled"
    SIM_SWAP = "sim_swap"
    TRANSFER = "transfer"
    PORT_IN = "port_in"
    SAME_OWNER = "same_owner"


class Ineligible(StrEnum):
    """Why a number is not renewed tonight. Closed: reports and counters name nothing else."""

    RECLAIMED = "reclaimed"  # its holder has taken it back
    RESERVED = "reserved"  # the operator keeps it
    SIM_SWAP = "sim_swap"  # a new card, the same owner
    TRANSFER = "transfer"  # given to another person without a freeze
    PORT_IN = "port_in"  # came from another operator
    SAME_OWNER = "same_owner"  # its former owner got it again
    ALREADY_RELEASED = "already_released"  # somebody new may have bound accounts
    WRONG_STATE = "wrong_state"  # not in the freeze, nor at its end
    DATES_MISSING = "dates_missing"
    DATES_CONTRADICT = "dates_contradict"
    FREEZE_TOO_SHORT = "freeze_too_short"
    TOO_EARLY = "too_early"  # not yet inside the last days before its release
    SUPERSEDED = "superseded"  # the same inventory has a newer row of this number
    NOT_LISTED = "not_listed"  # gone from the inventory since it was planned


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRow:
    """One number as the operator's inventory has it. `line` is the line of the file, or the row of the query."""

    line: int
    number: str = field(repr=False)
    state: NumberState
    deactivated_on: date | None = None
    frozen_from: date | None = None
    release_planned_on: date | None = None
    reference: str = ""
    cycle: str = ""
    departure: Departure = Departure.CANCELLED

    @property
    def cutoff_at(self) -> str:
        """The instant before which a binding is the old owner's: 00:00 in Shanghai of the planned release.

        Only of a row without an obstacle: another one may have no such date.
        """
        return f"{self.release_planned_on}T00:00:00+08:00"

    @property
    def basis(self) -> Basis:
        """Where the cut-off comes from (requirement 2)."""
        return Basis.PLANNED_RELEASE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a sweep asks of a number, beside what always holds."""

    country: str
    days_before_release: int

    @property
    def freeze_days_min(self) -> int:
        """Days from the beginning of the freeze to the planned release, at least."""
        return FREEZE_DAYS_MIN[self.country]


_STATES: Final = {
    NumberState.RECLAIMED: Ineligible.RECLAIMED,
    NumberState.RESERVED: Ineligible.RESERVED,
    NumberState.ON_SALE: Ineligible.ALREADY_RELEASED,
    NumberState.RE_ACTIVATED: Ineligible.ALREADY_RELEASED,
    NumberState.ACTIVE: Ineligible.WRONG_STATE,
    NumberState.SUSPENDED: Ineligible.WRONG_STATE,
    NumberState.PRE_CANCEL: Ineligible.WRONG_STATE,
    NumberState.DEACTIVATED: Ineligible.WRONG_STATE,
    NumberState.FROZEN: None,
    NumberState.RELEASABLE: None,
}
_DEPARTURES: Final = {
    Departure.CANCELLED: None,
    Departure.SIM_SWAP: Ineligible.SIM_SWAP,
    Departure.TRANSFER: Ineligible.TRANSFER,
    Departure.PORT_IN: Ineligible.PORT_IN,
    Departure.SAME_OWNER: Ineligible.SAME_OWNER,
}
# What the operator wants nobody to touch comes before how the number left its holder, and that before all the rest.
_FIRST: Final = frozenset({NumberState.RECLAIMED, NumberState.RESERVED})


def obstacle(row: InventoryRow, rule: Rule, *, day: date) -> Ineligible | None:
    """Say why a number is not renewed in the night of `day`, None if it is; the first reason in the order of the list.

    A number whose planned release has passed and that is still frozen is renewed: it is late, not lost.
    """
    if row.state in _FIRST:
        return _STATES[row.state]
    if why := _DEPARTURES[row.departure] or _STATES[row.state]:
        return why
    return _obstacle_in_dates(row, rule, day=day)


def _obstacle_in_dates(row: InventoryRow, rule: Rule, *, day: date) -> Ineligible | None:
    if row.deactivated_on is None or row.frozen_from is None or row.release_planned_on is None:
        return Ineligible.DATES_MISSING
    if not row.deactivated_on <= row.frozen_from <= row.release_planned_on:
        return Ineligible.DATES_CONTRADICT
    if (row.release_planned_on - row.frozen_from).days < rule.freeze_days_min:
        return Ineligible.FREEZE_TOO_SHORT
    if (row.release_planned_on - day).days > rule.days_before_release:
        return Ineligible.TOO_EARLY
    return None


def is_of_this_cycle(row: InventoryRow, changed_at: datetime) -> bool:
    """Whether a change of state came after the number left its holder: an older one was about an older cycle."""
    return row.deactivated_on is None or changed_at.astimezone(_SHANGHAI).date() >= row.deactivated_on
