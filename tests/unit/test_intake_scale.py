"""A large file: every bad row is named, every good one goes on, and memory does not grow with it."""

import gzip
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from producers.intake import Rejection, Row, read
from producers.parquet import parts
from producers.rows import COLUMNS
from tests.bad_rows import KINDS, RAW_CSV, RAW_JSON, Made, csv_line, json_line, rows, text_of

KNOWN = ("acme", "globex")
HEAD = ",".join(COLUMNS) + "\n"
ROWS = 20_000


def write_csv(path: Path, made: list[Made]) -> Path:
    """Write CSV, packed if the name says so."""
    data = text_of(made, csv_line, head=HEAD)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def write_jsonl(path: Path, made: list[Made]) -> Path:
    """Write JSON lines."""
    path.write_bytes(text_of(made, json_line))
    return path


def write_parquet(path: Path, made: list[Made]) -> Path:
    """Write one row group, as large as it comes."""
    table = pa.table({name: [row.values[name] for row in made] for name in COLUMNS})
    parquet.write_table(table, path, row_group_size=1 << 20)
    return path


@pytest.mark.parametrize(
    ("name", "write", "raw", "first_line"),
    [
        ("a.csv", write_csv, RAW_CSV, 2),
        ("a.csv.gz", write_csv, RAW_CSV, 2),
        ("a.jsonl", write_jsonl, RAW_JSON, 1),
        ("a.parquet", write_parquet, {}, 1),
    ],
)
def test_of_a_file_with_one_per_cent_bad_rows_every_good_one_comes_and_every_bad_one_is_named(
    tmp_path: Path, *, name: str, write: Callable[[Path, list[Made]], Path], raw: dict[str, str], first_line: int
) -> None:
    """By its line and its field, whatever is wrong with it and whatever stands beside it."""
    made = list(rows(ROWS, seed=11, raw=raw))
    found = {item.line: item for item in read(write(tmp_path / name, made), known_platforms=KNOWN)}
    # One item a row, none more and none less.
    assert [*range(first_line, first_line + ROWS)] == sorted(found)
    kinds = Counter(row.kind for row in made)
    assert {"", *(kind.name for kind in KINDS), *raw} == set(kinds)
    for line, row in enumerate(made, start=first_line):
        item = found[line]
        assert (not row.kind) == isinstance(item, Row), (row, item)
        if isinstance(item, Rejection):
            assert row.field is None or row.field == item.field, (row, item)
            assert item.problem
            assert "13800001234" not in f"{item.value}{item.problem}"
        elif isinstance(item, Row):
            assert item.number == f"+86{row.values['number']}"
            assert item.reference == row.values["reference"]
    assert ROWS - kinds[""] >= ROWS // 100


def write_good(path: Path, count: int) -> Path:
    """Write many different good rows."""
    if path.suffix == ".parquet":
        numbers = pa.array(range(13_000_000_000, 13_000_000_000 + count))
        columns = {"number": numbers, "cutoff_at": pa.array([date(2026, 12, 1)]).take(pa.array([0] * count))}
        parquet.write_table(pa.table(columns), path, row_group_size=1 << 20)
        return path
    if ".csv" in path.name:
        text = "number,cutoff_at,reference\n" + "".join(
            f"13{index:09d},2026-12-{1 + index % 28:02d},NR-{index}\n" for index in range(count)
        )
    else:
        text = "".join(f'{{"number":"13{index:09d}","cutoff_at":"2026-12-01"}}\n' for index in range(count))
    path.write_bytes(gzip.compress(text.encode(), 1) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_the_memory_of_the_reader_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    """A hundred thousand rows take what ten thousand take."""
    few, many = write_good(tmp_path / f"few-{name}", 10_000), write_good(tmp_path / f"many-{name}", 100_000)
    read_through(few)  # what is loaded once, is not the file's

    def peak_bytes(path: Path, count: int) -> int:
        tracemalloc.start()
        try:
            assert count == read_through(path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few_bytes = peak_bytes(few, 10_000)
    assert peak_bytes(many, 100_000) < 1.2 * few_bytes + 100_000


def test_arrow_holds_pages_and_not_a_row_group(tmp_path: Path) -> None:
    """Its memory is none of Python's, and writers make row groups of a million rows."""
    few, many = write_good(tmp_path / "few.parquet", 150_000), write_good(tmp_path / "many.parquet", 900_000)

    def peak_bytes(path: Path) -> int:
        pool = pa.default_memory_pool()
        before = pool.bytes_allocated()
        highest = 0
        with path.open("rb") as file:
            for _ in parts(file, after=0, check_names=lambda _: None):
                highest = max(highest, pool.bytes_allocated() - before)
        return highest

    few_bytes = peak_bytes(few)
    # As a table, the rows more would be nine million bytes.
    assert 0 < peak_bytes(many) < few_bytes + 3_000_000


def read_through(path: Path) -> int:
    """Read a file once, and count its rows."""
    return sum(1 for _ in read(path, known_platforms=KNOWN))


@pytest.mark.parametrize("after", [0, 1, 2, 500, 501, 502, 503, 504, 505, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_reading_goes_on_behind_the_line_of_any_row(tmp_path: Path, name: str, after: int) -> None:
    """Also behind one that spans several lines, and behind a bad one."""
    made = list(rows(1_000, seed=3, raw=RAW_CSV if name == "a.csv" else RAW_JSON))
    path = (write_csv if name == "a.csv" else write_jsonl)(tmp_path / name, made)
    if name == "a.csv":
        lines = path.read_text().split("\n")
        lines[500] = '"13800009999\n",2026-01-31,"two\nthree",,,,'
        path.write_text("\n".join(lines))
    whole = list(read(path, known_platforms=KNOWN))
    known = {item.line for item in whole}
    if after in known or not after:
        assert [item for item in whole if item.line > after] == list(read(path, known_platforms=KNOWN, after=after))
