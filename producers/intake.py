"""Reads an input file of any size, row by row, in fixed memory (design: "Input file"; requirement 5).

bytes → text → physical lines → the seven values of a row → Row or Rejection; Parquet gives the seven values at once
"""

import csv
from collections.abc import Callable, Container, Iterator
from itertools import dropwhile, islice
from operator import itemgetter
from pathlib import Path
from typing import Final, Literal, cast

import orjson

from producers import parquet
from producers.lines import LINE_CHARS_MAX, FileProblem, Lines, Source, numbered_lines, opened_whole
from producers.rows import COLUMNS, REQUIRED, Rejection, Row, RowProblem, RowRules, Values, near, shown

__all__ = ["Format", "Rejection", "Row", "read"]

Format = Literal["csv", "jsonl", "parquet"]
ROW_LINES_MAX: Final = 16

_ValuesOf = Callable[[str], Values | None]
_JSONL_SUFFIXES = (".jsonl", ".ndjson")
_PARQUET_SUFFIXES = (".parquet", ".pq")
_KNOWN: Final = frozenset(COLUMNS)
_TEXT: Final = frozenset({str})
_BLANK: Final = dict.fromkeys(COLUMNS, "")
_in_order: Final = itemgetter(*COLUMNS)
_ALLOWED = f"{', '.join(REQUIRED)} (optional: {', '.join(name for name in COLUMNS if name not in REQUIRED)})"


def read(
    source: Source,
    *,
    known_platforms: Container[str],
    encoding: str = "utf-8",
    fmt: Format | None = None,
    after: int = 0,
) -> Iterator[Row | Rejection]:
    """Yield one Row or Rejection for every data row, in the order of the file; blank lines are none.

    The file is opened when iteration begins. `fmt` overrides what the name says (.jsonl, .ndjson, .parquet, .pq, else
    CSV); a stream and `-` (standard input) are CSV unless it says otherwise, and are left open. A row may span 16 lines
    of 64 Ki characters; its line number is that of its first line, in Parquet its place among the rows. `after` is the
    line of a row of this very file: reading goes on behind it, and what stands before it is not parsed. Raises
    InputError, after the rows before it, where the file itself cannot be read on.
    """
    rules = RowRules(known_platforms)
    form = fmt or _format_of(source)
    if form == "parquet":
        yield from _parquet_rows(source, rules, after=after)
        return
    with numbered_lines(source, encoding) as lines:
        values_of = _values_of(lines, form)
        # The row at `after` itself is read again, since only reading it tells how many lines it spans.
        lines.skip_to(after - 1)
        yield from dropwhile(lambda item: item.line <= after, _rows(lines, values_of, rules))


def _parquet_rows(source: Source, rules: RowRules, *, after: int) -> Iterator[Row | Rejection]:
    with opened_whole(source) as stream:
        for first, columns in parquet.parts(stream, after=after, check_names=_header_problem):
            odd = any(isinstance(column, parquet.Odd) for column in columns)
            for row, values in enumerate(zip(*columns, strict=True), start=first):
                try:
                    if odd:
                        _check_cells(values)
                    yield rules.row(row, cast("Values", values))
                except RowProblem as problem:
                    yield _rejection(row, problem)


def _check_cells(values: tuple[str | RowProblem, ...]) -> None:
    for value in values:
        if isinstance(value, RowProblem):
            raise value


def _rows(lines: Lines, values_of: _ValuesOf, rules: RowRules) -> Iterator[Row | Rejection]:
    row_of = rules.row
    for text in lines:
        line = lines.number
        try:
            if len(text) > LINE_CHARS_MAX or "\0" in text:
                _check_line(text)
            values = values_of(text)
            if values is not None:
                yield row_of(line, values)
        except RowProblem as problem:
            said = problem.problem
            if lines.number > line:
                # Where a quote was forgotten, these lines were swallowed: they must be named.
                said += f" (in quotes, this row runs to line {lines.number})"
            yield _rejection(line, problem, said)


def _rejection(line: int, problem: RowProblem, said: str | None = None) -> Rejection:
    return Rejection(line=line, field=problem.field, problem=said or problem.problem, value=shown(problem.value))


def _check_line(text: str) -> None:
    if len(text) > LINE_CHARS_MAX:
        raise RowProblem("row", f"a line of more than {LINE_CHARS_MAX} characters", text)
    if "\0" in text:
        raise RowProblem("row", "the line holds NUL bytes", text)


def _values_of(lines: Lines, fmt: Format) -> _ValuesOf:
    """Return what makes the values of a row from its first line, and None from a blank one."""
    try:
        first = next(lines).removeprefix("\ufeff")
        while not first.strip():
            first = next(lines)
    except StopIteration:
        raise FileProblem(f"the file is empty; expected {_ALLOWED}", line=1) from None
    if fmt == "csv":
        return _CsvRow(first, lines)
    lines.push_back([first])
    return _json_values


class _CsvRow:
    """Splits CSV rows by what the header of the file says."""

    def __init__(self, header: str, lines: Lines) -> None:
        self._lines = lines
        line = lines.number
        names: list[str] = []
        try:
            _check_line(header)
            names = [name.strip().lower() for name in self._fields(header)]
            problem = _header_problem(names)
        except RowProblem as unreadable:
            problem = f"{unreadable.problem}{_utf16_hint(header)}"
        if problem:
            raise FileProblem(f"the header: {problem}", line=line)
        self._width = len(names)
        # An absent column is read from the empty field that is added to each row.
        self._pick = itemgetter(*(names.index(name) if name in names else -1 for name in COLUMNS))

    def __call__(self, text: str) -> Values | None:
        fields = self._fields(text) if '"' in text else text.rstrip("\r\n").split(",")
        if len(fields) != self._width:
            if not text.strip():
                return None
            raise RowProblem("row", f"expected {self._width} fields as in the header, found {len(fields)}", text)
        fields.append("")
        return cast("Values", self._pick(fields))

    def _fields(self, text: str) -> list[str]:
        if '"' not in text:
            return text.rstrip("\r\n").split(",")
        taken = [text]
        try:
            return next(csv.reader(self._feed(taken), strict=True, skipinitialspace=True))
        except csv.Error:
            self._lines.push_back(taken[1:])
            raise RowProblem("row", "a quote is not closed, or text follows a closing quote", text) from None

    def _feed(self, taken: list[str]) -> Iterator[str]:
        yield taken[0]
        for text in islice(self._lines, ROW_LINES_MAX - 1):
            taken.append(text)
            yield text


def _header_problem(names: list[str]) -> str | None:
    found = ", ".join(map(shown, names[: 2 * len(COLUMNS)]))
    if not set(names) & set(COLUMNS):
        return f"expected names of columns, separated by commas: {_ALLOWED}; found: {found}"
    for place, name in enumerate(names, start=1):
        if not name:
            return f"column {place} has no name; allowed: {_ALLOWED}"
        if name not in COLUMNS:
            return f"unknown column {shown(name)}{near(name, COLUMNS)}; allowed: {_ALLOWED}"
        if names.index(name) < place - 1:
            return f"column {name} is there twice"
    missing = [name for name in REQUIRED if name not in names]
    return f"column {missing[0]} is missing; found: {found}" if missing else None


def _utf16_hint(header: str) -> str:
    return "; if the file is UTF-16, use --encoding utf-16-le or utf-16-be" if "\0" in header else ""


def _json_values(text: str) -> Values | None:
    if not text.strip():
        return None
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RowProblem("row", f"not JSON at character {error.pos + 1}", text) from None
    if not isinstance(record, dict):
        raise RowProblem("row", "expected a JSON object", text)
    if _KNOWN.issuperset(record) and _TEXT.issuperset(map(type, record.values())):
        return cast("Values", _in_order(_BLANK | record))
    return _odd_values(record, text)


def _odd_values(record: dict[str, object], text: str) -> Values:
    """Return the values of a record whose names are not spelled as ours, or whose values are not all texts."""
    values: dict[str, str] = {}
    for given, value in record.items():
        name = given.strip().lower()
        if name not in COLUMNS:
            raise RowProblem("row", f"unknown name {shown(given)}{near(name, COLUMNS)}", text)
        if name in values:
            raise RowProblem(name, "is there twice", text)
        values[name] = _json_text(name, value)
    return cast("Values", _in_order(_BLANK | values))


def _json_text(name: str, value: object) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case int() if name in {"number", "reference"} and not isinstance(value, bool):
            return str(value)
        case list() if name == "platforms" and all(isinstance(key, str) for key in value):
            if not value:
                raise RowProblem(name, "an empty list; leave it out to ask every platform", "[]")
            return ";".join(value)
        case _:
            raise RowProblem(name, "expected a text", str(value))


def _format_of(source: Source) -> Format:
    if not isinstance(source, Path):
        return "csv"
    if source.suffix.lower() in _PARQUET_SUFFIXES:
        return "parquet"
    name = source.name.lower().removesuffix(".gz")
    return "jsonl" if name.endswith(_JSONL_SUFFIXES) else "csv"
