"""Parquet files as the texts of rows, in flat memory: one batch of rows is held at a time. Needs pyarrow.

A row has no line here: its number counts from 1. What a column may be is checked once, before the first row.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import lru_cache, partial
from typing import Any, BinaryIO, Final, NamedTuple

from producers.lines import LINE_CHARS_MAX, FileProblem
from producers.rows import COLUMNS, RowProblem

ROWS_AT_ONCE: Final = 4096
# Pages are taken from a row group as they are needed, so that one huge row group is not held whole.
_BUFFER_BYTES: Final = 64 * 1024
_CACHED_MAX: Final = 4096
_SHANGHAI: Final = timezone(timedelta(hours=8))


class Odd(list[str | RowProblem]):
    """Cells of a column, of which some cannot be read."""


Cells = list[str] | Odd
_Texts = Callable[[Any], Cells]


class Part(NamedTuple):
    """Some rows that follow each other, column by column, in the order of COLUMNS."""

    first: int
    columns: list[Cells]


def parts(stream: BinaryIO, *, after: int, check_names: Callable[[list[str]], str | None]) -> Iterator[Part]:
    """Yield the rows behind row `after`. Raises FileProblem; without pyarrow, with what to install."""
    arrow, parquet = _library()
    row = after
    try:
        file = parquet.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        schema = file.schema_arrow
        names = [name.strip().lower() for name in schema.names]
        if problem := check_names(names):
            raise FileProblem(f"the columns: {problem}")
        texts = {name: _texts_of(arrow, name, kind) for name, kind in zip(names, schema.types, strict=True)}
        groups, begun = _groups_behind(file, after)
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=groups, use_threads=False):
            begun, kept = begun + batch.num_rows, batch.slice(max(0, row - begun))
            if not kept.num_rows:
                continue
            made = {name: texts[name](column) for name, column in zip(names, kept.columns, strict=True)}
            blank: Cells = [""] * kept.num_rows
            yield Part(row + 1, [made.get(name, blank) for name in COLUMNS])
            row += kept.num_rows
    except (arrow.ArrowException, OSError):
        what = "the Parquet data is damaged here; the rows before it were read" if row > after else "not Parquet data"
        raise FileProblem(what, line=row + 1) from None


def _library() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise FileProblem("Parquet needs pyarrow: pip install 'number-renewal[parquet]', or save as CSV") from None
    else:
        return pa, parquet


def _groups_behind(file: Any, after: int) -> tuple[list[int], int]:
    """Return the row groups that hold rows behind `after`, and how many rows stand before the first of them."""
    begun = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if begun + rows > after:
            return list(range(group, file.num_row_groups)), begun
        begun += rows
    return [], begun


def _texts_of(arrow: Any, name: str, kind: Any) -> _Texts:
    """Return what makes the texts of a column. Raises FileProblem for a type that this column cannot be."""
    types = arrow.types
    if types.is_dictionary(kind):
        plain = _texts_of(arrow, name, kind.value_type)
        return lambda column: plain(column.dictionary_decode())
    texts: _Texts | None = None
    if types.is_null(kind):
        texts = lambda column: [""] * len(column)  # noqa: E731 - one of a list of such
    elif _is_text(arrow, kind):
        texts = partial(_strings, arrow, name)
    elif name in {"number", "reference"} and (types.is_integer(kind) or (types.is_decimal(kind) and kind.scale == 0)):
        texts = lambda column: _filled(column.cast(arrow.string()))  # noqa: E731
    elif name in {"cutoff_at", "deactivated_on"} and types.is_date(kind):
        texts = lambda column: _filled(column.cast(arrow.date32()).cast(arrow.string()))  # noqa: E731
    elif name == "cutoff_at" and types.is_timestamp(kind):
        texts = _timestamps(arrow, kind)
    elif (
        name == "platforms" and (types.is_list(kind) or types.is_large_list(kind)) and _is_text(arrow, kind.value_type)
    ):
        texts = lambda column: Odd(map(_joined, column.to_pylist()))  # noqa: E731
    if texts is None:
        raise FileProblem(f"column {name}: {kind}; expected {_EXPECTED[name]}")
    return texts


def _timestamps(arrow: Any, kind: Any) -> _Texts:
    if kind.tz is None:
        raise FileProblem("column cutoff_at: a timestamp without a zone; expected one with it, a date, or text")
    # Fractions are cut, as in text.
    seconds = arrow.timestamp("s", kind.tz)
    return lambda column: list(map(_instant, column.cast(seconds, safe=False).cast(arrow.int64()).to_pylist()))


_EXPECTED: Final = {
    "number": "text or a whole number",
    "cutoff_at": "a timestamp with a zone, a date, or text",
    "reference": "text or a whole number",
    "basis": "text",
    "deactivated_on": "a date or text",
    "cycle": "text",
    "platforms": "text, or a list of texts",
}


def _is_text(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _strings(arrow: Any, name: str, column: Any) -> Cells:
    from pyarrow import compute

    if arrow.types.is_string_view(column.type):
        column = column.cast(arrow.large_string())
    longest = compute.max(compute.binary_length(column)).as_py() or 0
    try:
        texts = _filled(column)
    except UnicodeDecodeError:
        longest = LINE_CHARS_MAX + 1
    else:
        if longest <= LINE_CHARS_MAX and not compute.any(compute.match_substring(column, "\0")).as_py():
            return texts
    return Odd(_checked(name, raw or b"") for raw in column.cast(arrow.large_binary()).to_pylist())


def _checked(name: str, raw: bytes) -> str | RowProblem:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return RowProblem(name, "not UTF-8 text", raw[:LINE_CHARS_MAX].decode(errors="replace"))
    if len(text) > LINE_CHARS_MAX:
        return RowProblem(name, f"a text of more than {LINE_CHARS_MAX} characters", text)
    return RowProblem(name, "the text holds NUL bytes", text) if "\0" in text else text


def _filled(column: Any) -> list[str]:
    found: list[str] = column.fill_null("").to_pylist()
    return found


def _joined(keys: list[str | None] | None) -> str | RowProblem:
    if keys is None:
        return ""
    if not keys:
        return RowProblem("platforms", "an empty list; leave it out to ask every platform", "[]")
    return ";".join(key or "" for key in keys)


@lru_cache(_CACHED_MAX)
def _instant(second: int | None) -> str:
    if second is None:
        return ""
    try:
        return datetime.fromtimestamp(second, _SHANGHAI).isoformat()
    except (OverflowError, ValueError, OSError):
        # Named by the rule for the field, with the row that it stands in.
        return f"{second} seconds since 1970"
