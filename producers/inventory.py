"""Reads the operator's inventory of numbers that are about to be released, row by row, in fixed memory.

CSV or JSON lines, also packed by gzip. A row that is wrong is refused by line and field, and the rest goes on.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

import orjson

from producers.eligibility import Departure, InventoryRow, NumberState
from producers.lines import LINE_CHARS_MAX, FileProblem, Lines, Source, numbered_lines
from producers.rows import Rejection, RowProblem, RowRules, near, shown

COLUMNS: Final = (
    "number", "state", "deactivated_on", "frozen_from", "release_planned_on", "reference", "cycle", "origin",
)  # fmt: skip
REQUIRED: Final = ("number", "state")
CHANGE_COLUMNS: Final = ("number", "state", "at")
_JSONL: Final = (".jsonl", ".ndjson")
_SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
_DATE_CHARS: Final = len("2026-01-31")
_CACHED_MAX: Final = 4096
_YEARS: Final = range(2000, 2100)
Values = Mapping[str, str]
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What has become of a number since the inventory was written; `at` is aware."""

    line: int
    number: str = field(repr=False)
    state: NumberState
    at: datetime


def read_inventory(source: Source, *, encoding: str = "utf-8") -> Iterator[InventoryRow | Rejection]:
    """Yield one row or rejection for every data row. Raises InputError where the file cannot be read on."""
    rules = RowRules(())
    for line, values in _values(source, encoding, columns=COLUMNS, required=REQUIRED):
        yield _made(line, values, lambda line, values: inventory_row(line, values, rules=rules))


def read_changes(
    source: Source, *, now: datetime, state: NumberState | None = None, encoding: str = "utf-8"
) -> Iterator[Change | Rejection]:
    """Yield changes; `at` is now where it is not given, and `state` what a row without one means.

    Raises InputError where the file cannot be read on.
    """
    required = CHANGE_COLUMNS if state is None else CHANGE_COLUMNS[:1]
    rules = RowRules(())

    def made(line: int, values: Values) -> Change:
        given = values.get("state", "")
        return Change(
            line=line,
            number=_identity(line, values, rules=rules)[0],
            state=state if state is not None and not given else _choice("state", given, NumberState),
            at=_instant(values.get("at", "")) or now,
        )

    for line, values in _values(source, encoding, columns=CHANGE_COLUMNS, required=required):
        yield _made(line, values, made)


_Made = TypeVar("_Made")


def _made(line: int, values: Values | RowProblem, make: Callable[[int, Values], _Made]) -> _Made | Rejection:
    try:
        if isinstance(values, RowProblem):
            raise values
        return make(line, values)
    except RowProblem as problem:
        return rejection(line, problem)


def rejection(line: int, problem: RowProblem) -> Rejection:
    """Return what a person may see of a row that is wrong."""
    return Rejection(line=line, field=problem.field, problem=problem.problem, value=shown(problem.value))


def inventory_row(line: int, values: Values, *, rules: RowRules) -> InventoryRow:
    """Return the row. Raises RowProblem for the first field that is wrong."""
    number, reference, cycle = _identity(line, values, rules=rules)
    departure = values.get("origin", "").strip().lower()
    return InventoryRow(
        line=line,
        number=number,
        state=_choice("state", values.get("state", ""), NumberState),
        deactivated_on=_day("deactivated_on", values.get("deactivated_on", "")),
        frozen_from=_day("frozen_from", values.get("frozen_from", "")),
        release_planned_on=_day("release_planned_on", values.get("release_planned_on", "")),
        reference=reference,
        cycle=cycle,
        departure=_choice("origin", departure, Departure) if departure else Departure.CANCELLED,
    )


def _identity(line: int, values: Values, *, rules: RowRules) -> tuple[str, str, str]:
    """Return number, reference and cycle by the very rules of an input file; a cycle that is not given stays empty."""
    given = (values.get("number", ""), "2000-01-01", values.get("reference", ""), "", "", values.get("cycle", ""), "")
    row = rules.row(line, given)
    return row.number, row.reference, row.cycle if values.get("cycle", "").strip() else ""


def _choice(name: str, text: str, choices: type[_Choice]) -> _Choice:
    spelled = text.strip() if name == "origin" else text.strip().upper()
    try:
        return choices(spelled)
    except ValueError:
        problem = "missing" if not spelled else f"expected one of {', '.join(choices)}"
        raise RowProblem(name, problem, text) from None


@lru_cache(_CACHED_MAX)
def _day(name: str, text: str) -> date | None:
    text = text.strip()
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise RowProblem(name, "expected a date as in 2024-01-31", text) from None
    if day.year not in _YEARS:
        raise RowProblem(name, f"expected a year from {_YEARS.start} to {_YEARS.stop - 1}", text)
    return day


def _instant(text: str) -> datetime | None:
    text = text.strip()
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise RowProblem("at", "expected a date or an instant as in 2024-01-31T08:00:00+08:00", text) from None
    if instant.tzinfo is None and len(text) > _DATE_CHARS:
        raise RowProblem("at", "a time without its offset; expected one as in 2024-01-31T08:00:00+08:00", text)
    return instant if instant.tzinfo else instant.replace(tzinfo=_SHANGHAI)


# -- lines to values ---------------------------------------------------------------------------------------------------


def _values(
    source: Source, encoding: str, *, columns: tuple[str, ...], required: tuple[str, ...]
) -> Iterator[tuple[int, Values | RowProblem]]:
    """Yield the values of each row by the names of their columns, or what is wrong with it."""
    with numbered_lines(source, encoding) as lines:
        name = source.name.lower().removesuffix(".gz") if isinstance(source, Path) else ""
        parse = _json if name.endswith(_JSONL) else _Csv(lines, columns=columns, required=required)
        for text in lines:
            line = lines.number
            if not text.strip():
                continue
            try:
                _check_length(text)
                yield line, _known(parse(text), columns, text=text)
            except RowProblem as problem:
                yield line, problem


def _check_length(text: str) -> None:
    if len(text) > LINE_CHARS_MAX:
        raise RowProblem("row", f"a line of more than {LINE_CHARS_MAX} characters", text)


def _known(values: Values, columns: tuple[str, ...], *, text: str) -> Values:
    if unknown := next((each for each in values if each not in columns), None):
        raise RowProblem("row", f"unknown name {shown(unknown)}{near(unknown, columns)}", text)
    return values


class _Csv:
    """Splits the lines of a CSV file by what its header says. A list of numbers alone needs none."""

    def __init__(self, lines: Lines, *, columns: tuple[str, ...], required: tuple[str, ...]) -> None:
        first = next((text for text in lines if text.strip()), None)
        allowed = ", ".join(columns)
        if first is None:
            raise FileProblem(f"the file is empty; expected {allowed}", line=1)
        try:
            self._names = [name.strip().lower() for name in _fields(first.removeprefix("\ufeff"))]
        except RowProblem as problem:
            raise FileProblem(f"the header: {problem.problem}", line=lines.number) from None
        if required == columns[:1] and len(self._names) == 1 and any(map(str.isdigit, first)):
            self._names = list(required)
            lines.push_back([first])
            return
        for name in self._names:
            if name not in columns:
                hint = near(name, columns)
                raise FileProblem(
                    f"the header: unknown column {shown(name)}{hint}; expected {allowed}", line=lines.number
                )
        if len(set(self._names)) < len(self._names):
            raise FileProblem("the header: a column is there twice", line=lines.number)
        if missing := next((name for name in required if name not in self._names), None):
            raise FileProblem(f"the header: column {missing} is missing; expected {allowed}", line=lines.number)

    def __call__(self, text: str) -> Values:
        fields = _fields(text)
        if len(fields) != len(self._names):
            said = f"expected {len(self._names)} fields as in the header, found {len(fields)}"
            raise RowProblem("row", said, text)
        return dict(zip(self._names, fields, strict=True))


def _fields(text: str) -> list[str]:
    if '"' not in text:
        return text.rstrip("\r\n").split(",")
    try:
        return next(csv.reader([text], strict=True, skipinitialspace=True))
    except csv.Error:
        raise RowProblem("row", "a quote is not closed, or text follows a closing quote", text) from None


def _json(text: str) -> Values:
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RowProblem("row", f"not JSON at character {error.pos + 1}", text) from None
    if not isinstance(record, dict):
        raise RowProblem("row", "expected a JSON object", text)
    values = {}
    for name, value in record.items():
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise RowProblem(name, "expected a text", str(value))
        values[name.strip().lower()] = "" if value is None else str(value)
    return values
