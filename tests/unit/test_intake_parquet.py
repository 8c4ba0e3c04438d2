"""Parquet gives the same rows as text does, in flat memory, or one clear message."""

import io
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from producers.intake import Rejection, Row, read
from producers.lines import LINE_CHARS_MAX
from schemas.errors import InputError

KNOWN = ("acme", "globex")
NUMBERS = ["13800001234", "13900005678"]
DAY = date(2026, 1, 31)
SHANGHAI = timezone(timedelta(hours=8))


def write(path: Path, columns: dict[str, Any], **words: Any) -> Path:
    """Write a table; `words` are those of the writer."""
    parquet.write_table(pa.table(columns), path, **words)
    return path


def items(path: Path, *, after: int = 0) -> list[Row | Rejection]:
    """Read a file."""
    return list(read(path, known_platforms=KNOWN, after=after))


def rows(path: Path) -> list[Row]:
    """Read a file of good rows."""
    found = items(path)
    assert [] == [item for item in found if not isinstance(item, Row)]
    return [item for item in found if isinstance(item, Row)]


def stopped(path: Path) -> str:
    """Return why a file could not be read."""
    with pytest.raises(InputError) as caught:
        items(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.parquet", "a.pq", "a.PQ"])
def test_the_name_says_that_it_is_parquet(tmp_path: Path, name: str) -> None:
    """Rows count from one, as there are no lines."""
    found = rows(write(tmp_path / name, {"number": NUMBERS, "cutoff_at": [DAY, DAY]}))
    assert [(1, "+8613800001234"), (2, "+8613900005678")] == [(row.line, row.number) for row in found]


@pytest.mark.parametrize(
    "numbers",
    [
        pa.array(NUMBERS),
        pa.array(NUMBERS, pa.large_string()),
        pa.array(NUMBERS, pa.string_view()),
        pa.array(NUMBERS).dictionary_encode(),
        pa.array([int(number) for number in NUMBERS], pa.int64()),
        pa.array([int(number) for number in NUMBERS], pa.uint64()),
        pa.array([int(number) for number in NUMBERS], pa.decimal128(20, 0)),
    ],
    ids=lambda array: str(array.type),
)
def test_a_number_may_be_a_text_or_whole(tmp_path: Path, numbers: pa.Array) -> None:
    """Whatever a database makes of it, the digits are the same."""
    found = rows(write(tmp_path / "a.parquet", {"number": numbers, "cutoff_at": [DAY, DAY]}))
    assert [f"+86{number}" for number in NUMBERS] == [row.number for row in found]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "+08:00"])
def test_a_timestamp_with_its_zone_is_that_instant_without_its_fraction(tmp_path: Path, unit: str, zone: str) -> None:
    """Fractions are cut: an earlier cut-off can only spare a binding."""
    instant = datetime(2026, 1, 31, 23, 30, 59, 0 if unit == "s" else 999_000, SHANGHAI)
    cutoffs = pa.array([instant], pa.timestamp(unit, zone))
    [row] = rows(write(tmp_path / "a.parquet", {"number": NUMBERS[:1], "cutoff_at": cutoffs}))
    assert ("2026-01-31T23:30:59+08:00", "2026-01-31") == (row.cutoff_at, row.cycle)


@pytest.mark.parametrize("days", [pa.array([DAY]), pa.array([DAY], pa.date64()), pa.array(["2026-01-31"])])
def test_a_date_is_a_date(tmp_path: Path, days: pa.Array) -> None:
    """As a date of its own type, or as text."""
    columns = {"number": NUMBERS[:1], "cutoff_at": days, "deactivated_on": days}
    [row] = rows(write(tmp_path / "a.parquet", columns))
    assert ("2026-01-31T00:00:00+08:00", "2026-01-31") == (row.cutoff_at, row.cycle)


def test_platforms_may_be_a_list(tmp_path: Path) -> None:
    """No list asks every platform; an empty one asks nobody, and is refused."""
    lists = pa.array([["globex", "acme"], None, [], ["nobody"]], pa.list_(pa.string()))
    columns = {"number": NUMBERS * 2, "cutoff_at": [DAY] * 4, "platforms": lists}
    first, second, empty, unknown = items(write(tmp_path / "a.parquet", columns))
    assert isinstance(first, Row)
    assert ("globex", "acme") == first.platforms
    assert isinstance(second, Row)
    assert second.platforms is None
    for line, item in ((3, empty), (4, unknown)):
        assert isinstance(item, Rejection)
        assert (line, "platforms") == (item.line, item.field)


def test_a_bad_value_is_named_by_its_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    """One row costs one row, whatever is in it."""
    ends = [b"", *(b"R%d" % index for index in range(5))]
    ends[2:5] = [b"\xff\xfe", b"a\0b", b"x" * (LINE_CHARS_MAX + 1)]
    references = pa.array(ends, pa.binary()).view(pa.string())
    numbers = [*NUMBERS * 2, "123", None]
    found = items(write(tmp_path / "a.parquet", {"number": numbers, "cutoff_at": [DAY] * 6, "reference": references}))
    assert [1, 2] == [item.line for item in found if isinstance(item, Row)]
    problems = [(item.line, item.field, item.problem) for item in found if isinstance(item, Rejection)]
    assert [
        (3, "reference", "not UTF-8 text"),
        (4, "reference", "the text holds NUL bytes"),
        (5, "reference", f"a text of more than {LINE_CHARS_MAX} characters"),
        (6, "number", "missing"),
    ] == problems


@pytest.mark.parametrize("after", [0, 1, 9, 10, 11, 25, 29, 30, 99])
def test_reading_goes_on_behind_any_row(tmp_path: Path, after: int) -> None:
    """Whole row groups are left out, and the part of one that was read."""
    columns = {"number": NUMBERS * 15, "cutoff_at": [DAY] * 30, "reference": [f"R{i}" for i in range(1, 31)]}
    path = write(tmp_path / "a.parquet", columns, row_group_size=10)
    assert rows(path)[after:] == items(path, after=after)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"number": [1.38e10], "cutoff_at": [DAY]}, "column number: double; expected text or a whole number"),
        ({"number": NUMBERS[:1], "cutoff_at": [datetime(2026, 1, 31)]}, "cutoff_at: a timestamp without a zone"),  # noqa: DTZ001 - the point
        ({"number": NUMBERS[:1], "cutoff_at": [20260131]}, "column cutoff_at: int64; expected a timestamp"),
        ({"number": NUMBERS[:1], "cutoff_at": [DAY], "deactivated_on": [datetime(2026, 1, 1, tzinfo=SHANGHAI)]},
         "column deactivated_on: timestamp[us, tz=+08:00]; expected a date or text"),
        ({"number": NUMBERS[:1], "cutoff_at": [DAY], "cycle": [1]}, "column cycle: int64; expected text"),
        ({"number": NUMBERS[:1]}, "column cutoff_at is missing"),
        ({"number": NUMBERS[:1], "cutoff_at": [DAY], "refrence": ["a"]}, "did you mean reference?"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_is_named_before_any_row(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    """A number that went through a float has lost digits: better no row than a wrong one."""
    path = write(tmp_path / "a.parquet", columns)
    message = stopped(path)
    assert said in message
    assert str(path) in message


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    """Whatever its name says."""
    (tmp_path / "a.parquet").write_text("number,cutoff_at\n13800001234,2026-01-31\n")
    assert "a.parquet: row 1: not Parquet data" in stopped(tmp_path / "a.parquet")


def test_rows_before_damaged_data_are_delivered(tmp_path: Path) -> None:
    """They may be on their way to the platforms already."""
    numbers = [f"138{index:08d}" for index in range(20_000)]
    path = write(
        tmp_path / "a.parquet",
        {"number": numbers, "cutoff_at": [DAY] * len(numbers)},
        row_group_size=5_000,
        use_dictionary=False,
    )
    data = bytearray(path.read_bytes())
    middle = parquet.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(bytes(data))
    found: list[Row | Rejection] = []
    with pytest.raises(InputError, match="the Parquet data is damaged here") as caught:
        found.extend(read(path, known_platforms=KNOWN))
    assert 0 < len(found) <= 10_000
    assert f"row {len(found) + 1}: " in str(caught.value)


def test_parquet_under_another_name_is_recognised(tmp_path: Path) -> None:
    """The message says what to do."""
    write(tmp_path / "a.csv", {"number": NUMBERS[:1], "cutoff_at": [DAY]})
    assert "ends in .parquet" in stopped(tmp_path / "a.csv")


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should have to search for the name of a package."""
    path = write(tmp_path / "a.parquet", {"number": NUMBERS[:1], "cutoff_at": [DAY]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "number-renewal[parquet]" in stopped(path)


def test_a_stream_is_parquet_where_it_is_said(tmp_path: Path) -> None:
    """A pipe cannot be: its end is needed first."""
    path = write(tmp_path / "a.parquet", {"number": NUMBERS[:1], "cutoff_at": [DAY]})
    assert 1 == len(list(read(io.BytesIO(path.read_bytes()), known_platforms=KNOWN, fmt="parquet")))
    with pytest.raises(InputError, match="pipe"):
        list(read("-", known_platforms=KNOWN, fmt="parquet"))
