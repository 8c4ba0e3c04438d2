"""What a sweep would do: reads the inventory and counts, and changes nothing."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Final

from backends.bootstrap import Backends
from platforms.catalogue import Catalogue
from producers.eligibility import InventoryRow
from producers.forecast import Forecast, Standing
from producers.foresight import foresee
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
    new_jobs: dict[str, dict[date, int]] = field(default_factory=dict)  # by platform and release, also those settled_by


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
        new = new_by_release(backends, sorter)
    return Plan(
        day=day,
        source=source.name,
        contents=contents,
        known=contents.planned - new.total(),
        new_by_release={str(release): count for release, count in new.items()},
        jobs_by_platform=dict.fromkeys(platforms, new.total()) if new else {},
        new_jobs=jobs_of(definition, catalogue, new),
    )


def new_by_release(backends: Backends, sorter: Sorter, *, on_page: Callable[[], None] = lambda: None) -> Counter[date]:
    """Count the planned numbers that no earlier run has as a case, by their release. `on_page` hears of each page."""
    new = Counter[date]()
    for page in _pages(sorter.planned()):
        new.update(row.release_planned_on for row in _unknown(backends, page) if row.release_planned_on)
        on_page()
    return new


def jobs_of(definition: Definition, catalogue: Catalogue, new: Mapping[date, int]) -> dict[str, dict[date, int]]:
    """Return the jobs of a night by platform and release, also at those that another one's answer settles."""
    return {key: dict(new) for key in _wanted(definition, catalogue)} if new else {}


def foresee_night(
    definition: Definition, catalogue: Catalogue, jobs: Mapping[str, Mapping[date, int]], *, day: date, now: datetime,
    standings: Mapping[str, Standing],
) -> Forecast:  # fmt: skip
    """Foresee the night of a day, from now if it has begun. It lasts until the next one begins and overtakes it."""
    start, until = definition.start(day), definition.start(day + timedelta(days=1))
    begins = max(start, now) if now < until else start
    return foresee(catalogue, jobs, start=begins, until=until, standings=standings)


def asked(definition: Definition, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the platforms that each number of a sweep is asked at. Raises ConfigurationError for one not there.

    A platform that another one's answer settles is not asked itself.
    """
    wanted = _wanted(definition, catalogue)
    return tuple(key for key in wanted if catalogue.get(key).settled_by not in wanted)


def _wanted(definition: Definition, catalogue: Catalogue) -> tuple[str, ...]:
    wanted = definition.platforms or tuple(platform.key for platform in catalogue)
    for key in wanted:
        if key not in catalogue:
            raise ConfigurationError(f"sweep {definition.name}: platforms: no platform {key!r} in the catalogue")
    return wanted


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
