"""The release list: every number of some runs, with what stands against its sale; and the answer about one number."""

import contextlib
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final
from zoneinfo import ZoneInfo

import orjson

from backends.actions import Action, What
from backends.bootstrap import Backends
from backends.store import CaseView
from ops.inspector import Inspector
from ops.release import LIST_FIELDS, Level, Release, judge
from platforms.catalogue import Catalogue
from schemas.errors import InputError, NotFound, Refused

_WALL: Final = ZoneInfo("Asia/Shanghai")
_PAGE: Final = 500
_OWNER_ONLY: Final = 0o600
_FOR_ALL: Final = 0o644


@dataclass(slots=True)
class Count:
    """How many numbers a list held so far."""

    yes: int = 0
    no: int = 0


class ReleaseList:
    """Reads; changes nothing but the actions log, where numbers are given out in full."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, level: Level) -> None:
        self._backends, self._inspector, self._level = backends, Inspector(backends, catalogue), level
        self._catalogue = tuple(platform.key for platform in catalogue)

    # -- which runs ------------------------------------------------------------------------------------------------

    def newest_run(self) -> str:
        """Return the newest run. Raises NotFound."""
        newest = next(iter(self._inspector.runs()), None)
        if newest is None:
            raise NotFound("no run yet")
        return newest

    def runs_of_day(self, day: date) -> list[str]:
        """Return the runs that were begun on a day of Asia/Shanghai, the oldest first. Raises NotFound."""
        begins = datetime.combine(day, time(), _WALL)
        runs = self._backends.runs.begun_between(begins, begins + timedelta(days=1))
        if not runs:
            raise NotFound(f"no run was begun on {day} (Asia/Shanghai)")
        return runs

    def run_of_sweep(self, name: str, day: date | None) -> str:
        """Return the run of a sweep's night, the newest if no day is given. Raises NotFound."""
        nights = self._backends.sweeps
        night = nights.night(name, day) if day else next(iter(nights.nights(name)), None)
        if night is None:
            raise NotFound(f"sweep {name}: no night {day or 'yet'}")
        return night.run

    # -- all numbers of some runs ----------------------------------------------------------------------------------

    def releases(self, runs: Sequence[str]) -> Iterator[Release]:
        """Yield the numbers that these runs name, each once, in the order of runs and lines. Raises NotFound."""
        return (release for page in _pages(self._cases(runs)) for release in self._judged(page))

    def _cases(self, runs: Sequence[str]) -> Iterator[CaseView]:
        """A run may name cases that another has accepted: those are told where they belong, if that is listed too."""
        chosen, named = set(runs), set[str]()
        for run in runs:
            for case in self._inspector.run_cases(run):
                if case.run != run:
                    if case.run in chosen or case.id in named:
                        continue
                    named.add(case.id)
                yield case

    def of(self, case: CaseView) -> Release:
        """Return what is to be said of this case itself, though its number may have a newer one."""
        return next(self._judged([case]))

    def _judged(self, cases: Sequence[CaseView]) -> Iterator[Release]:
        origins = self._backends.origins.of([case.id for case in cases])
        superseded = self._backends.origins.superseded(origins.values())
        as_of = self._backends.clock.now().astimezone(UTC)
        for case in cases:
            yield judge(
                case,
                level=self._level,
                catalogue=self._catalogue,
                as_of=as_of,
                superseded=case.id in superseded,
                readable=bool(origins[case.id].number) if case.id in origins else False,
            )

    # -- one number ------------------------------------------------------------------------------------------------

    def of_number(self, text: str) -> Release:
        """Return what the newest case of a number says. Raises InputError, NotFound."""
        return self._newest(self._inspector.cases_of_number(text))

    def of_reference(self, reference: str) -> Release:
        """Return the same by the operator's row id. Raises NotFound, and InputError if it names several numbers."""
        found = self._inspector.cases_of_reference(reference)
        numbers = {self._number(case) for case in found}
        if len(numbers) > 1:
            raise InputError(f"reference: names {len(numbers)} numbers; ask by number or case")
        return self._of_case(found[0])

    def of_case(self, case: str) -> Release:
        """Return what the newest case of this case's number says. Raises NotFound."""
        return self._of_case(self._inspector.case(case))

    def _of_case(self, case: CaseView) -> Release:
        number = self._number(case)
        return self._newest(self._inspector.cases_of_number(number) if number else [case])

    def _number(self, case: CaseView) -> str:
        origin = self._backends.origins.of([case.id]).get(case.id)
        return origin.number if origin else ""

    def _newest(self, cases: Sequence[CaseView]) -> Release:
        """Of cases with one and the same cut-off, none is newer: then the one that is worst counts."""
        judged = list(self._judged(cases))
        newest_at = max(datetime.fromisoformat(release.case.cutoff_at) for release in judged)
        newest = [each for each in judged if datetime.fromisoformat(each.case.cutoff_at) == newest_at]
        return max(newest, key=lambda release: release.badness)

    # -- files -----------------------------------------------------------------------------------------------------

    def write(
        self, path: Path, runs: Sequence[str], *, lines: str, with_numbers: bool = False, reason: str = ""
    ) -> Count:
        """Write the list as `csv`, `jsonl` or `json`, whole or not at all; replaces a file of that name.

        With numbers only its owner can read it, and it is on record who asked for it before the first is opened.
        Raises Refused for what is no ordinary file, such as a terminal.
        """
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise Refused(f"--file {path}: expected an ordinary file")
        if with_numbers:
            after = {"file": path.name, "runs": len(runs)}
            target = runs[0] if len(runs) == 1 else f"{len(runs)} runs"
            self._backends.actions.append(
                Action(what=What.NUMBERS_EXPORT, target=target, reason=reason, before={}, after=after)
            )
        count = Count()
        rows = self._rows(runs, flat=lines == "csv", with_numbers=with_numbers, count=count)
        fields = (*LIST_FIELDS, "e164") if with_numbers else LIST_FIELDS
        with _whole(path, mode=_OWNER_ONLY if with_numbers else _FOR_ALL) as file:
            _LINES[lines](file, rows, fields)
        return count

    def _rows(self, runs: Sequence[str], *, flat: bool, with_numbers: bool, count: Count) -> Iterator[dict[str, Any]]:
        for page in _pages(self._cases(runs)):
            origins = self._backends.origins.of([case.id for case in page]) if with_numbers else {}
            for release in self._judged(page):
                if release.may_be_sold:
                    count.yes += 1
                else:
                    count.no += 1
                row = release.flat_row() if flat else release.row()
                yield row | {"e164": origins[release.case.id].number} if with_numbers else row


def _pages(cases: Iterable[CaseView]) -> Iterator[list[CaseView]]:
    source = iter(cases)
    while page := list(islice(source, _PAGE)):
        yield page


@contextlib.contextmanager
def _whole(path: Path, *, mode: int) -> Iterator[IO[str]]:
    """Yield a file that takes its place when all is written; it is never readable for more than it should be."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise InputError(f"--file {path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_csv(file: IO[str], rows: Iterable[dict[str, Any]], fields: Sequence[str]) -> None:
    writer = csv.DictWriter(file, fieldnames=list(fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _write_jsonl(file: IO[str], rows: Iterable[dict[str, Any]], _: Sequence[str]) -> None:
    file.writelines(orjson.dumps(row).decode() + "\n" for row in rows)


def _write_json(file: IO[str], rows: Iterable[dict[str, Any]], _: Sequence[str]) -> None:
    file.write("[")
    for index, row in enumerate(rows):
        file.write(("," if index else "") + "\n" + orjson.dumps(row).decode())
    file.write("\n]\n")


_LINES: Final = {"csv": _write_csv, "jsonl": _write_jsonl, "json": _write_json}
