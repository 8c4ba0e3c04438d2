"""The numbers that an integrator lends to the kit, each with the part that it plays at his test copy.

Always his own choice: there is no number that is surely nobody's, so none is built in.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from schemas.errors import InputError
from schemas.number import NumberProblem, normalise
from schemas.outcome import Outcome

COLUMNS: Final = ("role", "number", "bound_at")
_ROWS_MAX: Final = 100


class Role(StrEnum):
    """What is bound to a number when the kit begins."""

    BOUND_BEFORE = "bound_before"  # an old owner's binding, made at `bound_at`: the kit has it removed
    BOUND_AFTER = "bound_after"  # a binding made at `bound_at`, which is asked about with that very cut-off
    NOT_BOUND = "not_bound"
    REFUSING = "refusing"  # bound, and the platform will not remove it


EXPECTED: Final = {
    Role.BOUND_BEFORE: Outcome.UNBOUND,
    Role.BOUND_AFTER: Outcome.BOUND_AFTER_CUTOFF,
    Role.NOT_BOUND: Outcome.NO_BINDING,
    Role.REFUSING: Outcome.REFUSED,
}
_DATED: Final = frozenset({Role.BOUND_BEFORE, Role.BOUND_AFTER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """One number; `bound_at` is None where nothing depends on it."""

    role: Role
    number: str = field(repr=False)
    bound_at: datetime | None = None


def read_numbers(lines: Iterable[str], *, source: str) -> tuple[Lent, ...]:
    """Read CSV with the columns role, number and bound_at. Raises InputError that names line and field, no value."""
    rows = csv.DictReader(lines)
    if not {"role", "number"} <= set(rows.fieldnames or ()):
        raise InputError(f"{source}: expected the columns {', '.join(COLUMNS)}")
    found: list[Lent] = []
    for place, row in enumerate(rows, start=2):
        if len(found) == _ROWS_MAX:
            raise InputError(f"{source}: more than {_ROWS_MAX} numbers")
        found.append(_read(row, place=f"{source} line {place}"))
    if len({lent.number for lent in found}) != len(found):
        raise InputError(f"{source}: number: the same one twice; each plays one part")
    if not any(lent.role is Role.NOT_BOUND for lent in found):
        raise InputError(f"{source}: role: expected at least one number with the role {Role.NOT_BOUND}")
    return tuple(found)


def _read(row: dict[str, str | None], *, place: str) -> Lent:
    try:
        role = Role((row.get("role") or "").strip())
    except ValueError:
        raise InputError(f"{place}: role: expected one of {', '.join(Role)}") from None
    try:
        number = normalise((row.get("number") or "").strip())
    except NumberProblem as problem:
        raise InputError(f"{place}: number: {problem}") from None
    if role not in _DATED:
        return Lent(role=role, number=number)
    try:
        bound_at = datetime.fromisoformat((row.get("bound_at") or "").strip())
    except ValueError:
        bound_at = None
    if bound_at is None or bound_at.tzinfo is None:
        raise InputError(f"{place}: bound_at: expected the instant of the binding, e.g. 2026-01-05T09:30:00+08:00")
    return Lent(role=role, number=number, bound_at=bound_at)
