"""A dry run: a whole file is read and checked, and nothing is sent or stored. Needs neither Redis nor broker."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from backends.settings import Settings
from ops.progress import RejectedRow
from ops.rejected import RejectedFile
from ops.run_folder import RunOptions
from platforms.catalogue import SAMPLE, Catalogue
from producers.intake import read
from producers.rows import Rejection, Row
from schemas.errors import InputError

EXAMPLES_MAX: Final = 3


class Tally:
    """What a file holds. Memory grows by about 60 bytes a case: a number that comes twice must be known again."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._keys = tuple(platform.key for platform in catalogue)
        self._seen: set[int] = set()
        self._everywhere = 0
        self._some: Counter[str] = Counter()
        self.rows = self.duplicate = 0
        self.rejected: Counter[str] = Counter()
        self.examples: dict[str, list[RejectedRow]] = {}
        self.problem = ""

    def add(self, item: Row | Rejection) -> None:
        """Count one row."""
        self.rows += 1
        if isinstance(item, Rejection):
            self.rejected[item.field] += 1
            examples = self.examples.setdefault(item.field, [])
            if len(examples) < EXAMPLES_MAX:
                examples.append(RejectedRow(item.line, item.field, item.problem, item.value))
            return
        case = hash((item.number, item.cycle))
        if case in self._seen:
            self.duplicate += 1
            return
        self._seen.add(case)
        if item.platforms is None:
            self._everywhere += 1
        else:
            self._some.update(item.platforms)

    @property
    def cases(self) -> int:
        """How many different cases the file names."""
        return len(self._seen)

    @property
    def by_platform(self) -> dict[str, int]:
        """How many jobs each platform would get."""
        return {key: self._everywhere + self._some[key] for key in self._keys}

    def report(self) -> dict[str, Any]:
        """Return all of it; the names are part of the interface."""
        return {
            "rows": self.rows,
            "cases": {"accepted": self.cases, "rejected": self.rejected.total(), "duplicate": self.duplicate},
            "jobs": {"total": sum(self.by_platform.values()), "by_platform": self.by_platform},
            "rejected": {
                field: {"rows": count, "examples": [row._asdict() for row in self.examples[field]]}
                for field, count in self.rejected.most_common()
            },
            "problem": self.problem or None,
        }


def check_file(options: RunOptions, *, rejected: Path | None) -> Tally:
    """Read a file to its end, or to where it cannot be read on. Raises InputError if not even one row can be read.

    `rejected` is the file for every row that would be refused.
    """
    catalogue = Catalogue.load(options.catalogue or Settings.load().catalogue or SAMPLE)
    if options.platforms:
        catalogue = catalogue.select(list(options.platforms))
    rows = read(Path(options.file), encoding=options.encoding, known_platforms=catalogue)
    tally = Tally(catalogue)
    if rejected is None:
        _count(tally, rows, keep=lambda _: None)
        return tally
    partial = rejected.with_name(f".{rejected.name}.partial")
    try:
        with RejectedFile(partial) as file:
            _count(tally, rows, keep=file.keep)
        partial.replace(rejected)
    finally:
        partial.unlink(missing_ok=True)
    return tally


def _count(tally: Tally, rows: Iterator[Row | Rejection], *, keep: Callable[[Rejection], None]) -> None:
    try:
        for item in rows:
            tally.add(item)
            if isinstance(item, Rejection):
                keep(item)
    except InputError as error:
        if not tally.rows:
            raise
        tally.problem = str(error)
