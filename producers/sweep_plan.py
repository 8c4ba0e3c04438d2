"""What a sweep would do: reads the inventory and counts, and changes nothing."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Final

from backends.bootstrap import Backends
from platforms.catalogue import Catalogue
from producers.eligibility import InventoryRow
from producers.rows import Rejection, Row
from producers.sorter import Contents, Sorter
from producers.sweep_definition import Definition
from producers.sweep_source import InventorySource
from schemas.errors import ConfigurationError
from schemas.ids import case_id

_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one night would bring. `known` are planned numbers that an earlier run has as a case already."""

    day: date
    source: str
    contents: Contents
    known: int = 0
    new_by_release: dict[str, int] = field(default_factory=dict)
    jobs_by_platform: dict[str, int] = field(default_factory=dict)


def plan(
    backends: Backends, catalogue: Catalogue, definition: Definition, *, day: date, source: InventorySource,
    on_refused: Callable[[int, str, Rejection | None], None] = lambda *_: None,
) -> Plan:  # fmt: skip
    """Count. `on_refused` hears line and code of each number that would not be sent, or its rejection.

    Raises InputError where the inventory cannot be read, BackendUnavailable.
    """
    platforms = asked(definition, catalogue)
    with Sorter(backends.vault, definition.rule, day=day) as sorter:
        rejected = 0
        for row in source.rows():
            if isinstance(row, Rejection):
                rejected += 1
                on_refused(row.line, "row", row)
            else:
                sorter.add(row)
        contents = sorter.contents()
        contents.rejected = rejected
        for line, code in sorter.refused():
            on_refused(line, code, None)
        new = Counter[str]()
        for page in _pages(sorter.planned()):
            for row in _unknown(backends, page):
                new[str(row.release_planned_on)] += 1
    return Plan(
        day=day,
        source=source.name,
        contents=contents,
        known=contents.planned - new.total(),
        new_by_release=dict(new),
        jobs_by_platform=dict.fromkeys(platforms, new.total()) if new else {},
    )


def asked(definition: Definition, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the platforms that each number of a sweep is asked at. Raises ConfigurationError for one not there.

    A platform that another one's answer settles is not asked itself.
    """
    wanted = definition.platforms or tuple(platform.key for platform in catalogue)
    for key in wanted:
        if key not in catalogue:
            raise ConfigurationError(f"sweep {definition.name}: platforms: no platform {key!r} in the catalogue")
    return tuple(key for key in wanted if catalogue.get(key).settled_by not in wanted)


def row_of(row: InventoryRow, definition: Definition) -> Row:
    """Return what is handed to intake for one number."""
    return Row(
        line=row.line,
        number=row.number,
        cutoff_at=row.cutoff_at,
        reference=row.reference,
        basis=row.basis,
        cycle=_cycle(row),
        platforms=definition.platforms,
    )


def case_of(row: InventoryRow, backends: Backends) -> str:
    """Return the id that the case of a number has, whoever hands it in."""
    token = backends.vault.token(row.number)
    return case_id(operator=backends.settings.operator, number_token=token, cycle=_cycle(row))


def _cycle(row: InventoryRow) -> str:
    """Return the day on which a number was deactivated, if the operator has no other name for its cycle."""
    return row.cycle or str(row.deactivated_on)


def _unknown(backends: Backends, page: Sequence[InventoryRow]) -> list[InventoryRow]:
    names = [case_of(row, backends) for row in page]
    known = set(backends.origins.of(names))
    return [row for name, row in zip(names, page, strict=True) if name not in known]


def _pages(rows: Iterable[InventoryRow]) -> Iterator[list[InventoryRow]]:
    iterator = iter(rows)
    while page := list(islice(iterator, _AT_ONCE)):
        yield page
