"""rejected.csv of a run: written row by row while the file is read, so that a kill loses none and memory holds none."""

import csv
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.progress import RejectedRow
from ops.report import REJECTED_SHOWN_MAX, rejected_cells, whole_file
from producers.rows import Rejection


class RejectedFile:
    """The rows of one file that were refused, numbers masked."""

    def __init__(self, path: Path, *, goes_on_at_bytes: int = 0) -> None:
        """Begin, or go on where the file had this length: what a killed reader wrote behind it comes again."""
        self._path, self._length = path, goes_on_at_bytes

    def __enter__(self) -> Self:
        """Open the file."""
        self._path.touch(mode=0o600)
        self._file = self._path.open("r+", encoding="utf-8", errors="backslashreplace", newline="")
        self._file.truncate(self._length)
        self._file.seek(self._length)
        self._writer = csv.writer(self._file, lineterminator="\n")
        if not self._length:
            self._writer.writerow(RejectedRow._fields)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def keep(self, rejection: Rejection) -> None:
        """Write one row."""
        row = RejectedRow(rejection.line, rejection.field, rejection.problem, rejection.value)
        self._writer.writerow(rejected_cells(row))

    def flush(self) -> int:
        """Hand everything to the system, where a kill cannot lose it. Returns the length of the file, bytes."""
        self._file.flush()
        return self._path.stat().st_size


def holds(path: Path, length: int) -> bool:
    """Tell whether a reader that wrote so many bytes was here; on another machine the file is read from the start."""
    return not length or (path.is_file() and path.stat().st_size >= length)


def first_rows(path: Path) -> list[RejectedRow]:
    """Return what a report shows of the file; nothing where there is none."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(islice(_rows(file), REJECTED_SHOWN_MAX))


def copy(path: Path, target: Path) -> None:
    """Copy the file; a copy has its name only when it is whole."""
    with path.open(encoding="utf-8", newline="") as source, whole_file(target) as file:
        shutil.copyfileobj(source, file)


def _rows(file: Iterator[str]) -> Iterator[RejectedRow]:
    reader = csv.reader(file)
    next(reader, None)
    for line, field, problem, value in reader:
        yield RejectedRow(int(line), field, problem, value)
