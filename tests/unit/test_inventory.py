"""The operator's inventory, read row by row: what is wrong is named by line and field, and the rest goes on."""

import gzip
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from producers.eligibility import Departure, InventoryRow, NumberState
from producers.inventory import Change, read_changes, read_inventory
from producers.rows import Rejection
from schemas.errors import InputError

HEADER = "number,state,deactivated_on,frozen_from,release_planned_on,reference,cycle,origin\n"
GOOD = "138 0000 0001,FROZEN,2026-08-01,2026-08-02,2026-12-01,R-1,2026-2,sim_swap\n"
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def read(path: Path) -> list[InventoryRow | Rejection]:
    """Return every row of an inventory."""
    return list(read_inventory(path))


def write(folder: Path, text: str, *, name: str = "pool.csv") -> Path:
    """Write a file."""
    path = folder / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["pool.csv", "pool.csv.gz"])
def test_a_row_is_read_with_all_its_columns(tmp_path: Path, name: str) -> None:
    """A file is as good packed as plain."""
    (row,) = read(write(tmp_path, HEADER + GOOD, name=name))
    assert row == InventoryRow(
        line=2, number="+8613800000001", state=NumberState.FROZEN, deactivated_on=date(2026, 8, 1),
        frozen_from=date(2026, 8, 2), release_planned_on=date(2026, 12, 1), reference="R-1", cycle="2026-2",
        departure=Departure.SIM_SWAP,
    )  # fmt: skip
    assert "13800000001" not in repr(row)


def test_json_lines_hold_the_same(tmp_path: Path) -> None:
    """The names are those of the columns; what is null or left out is empty."""
    text = '{"number": 13800000001, "state": "frozen", "release_planned_on": "2026-12-01", "origin": null}\n'
    (row,) = read(write(tmp_path, text, name="pool.jsonl"))
    assert isinstance(row, InventoryRow)
    assert (NumberState.FROZEN, None, date(2026, 12, 1)) == (row.state, row.deactivated_on, row.release_planned_on)
    assert Departure.CANCELLED is row.departure


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ("12345,FROZEN,,,,,,", "number", "not a valid mainland China mobile number"),
        (",FROZEN,,,,,,", "number", "missing"),
        ("13800000001,,,,,,,", "state", "missing"),
        ("13800000001,ICED,,,,,,", "state", "expected one of ACTIVE, SUSPENDED"),
        ("13800000001,FROZEN,01.08.2026,,,,,", "deactivated_on", "expected a date as in 2024-01-31"),
        ("13800000001,FROZEN,,2026-02-30,,,,", "frozen_from", "expected a date as in 2024-01-31"),
        ("13800000001,FROZEN,,,1926-02-01,,,", "release_planned_on", "expected a year from 2000 to 2099"),
        ("13800000001,FROZEN,,,,row of 13900000001,,", "reference", "a reference must not hold a phone number"),
        ("13800000001,FROZEN,,,,,a b,", "cycle", "expected at most 40 of A-Z"),
        ("13800000001,FROZEN,,,,,,stolen", "origin", "expected one of cancelled, sim_swap"),
        ("13800000001,FROZEN", "row", "expected 8 fields as in the header, found 2"),
        ('13800000001,"FROZEN,,,,,,', "row", "a quote is not closed"),
    ],
)
def test_a_wrong_row_is_named_and_the_rest_goes_on(tmp_path: Path, row: str, field: str, said: str) -> None:
    """One bad row of thirty thousand must not cost the night; and what is shown of it is no number."""
    wrong, good = read(write(tmp_path, f"{HEADER}{row}\n{GOOD}"))
    assert isinstance(wrong, Rejection)
    assert (2, field) == (wrong.line, wrong.field)
    assert wrong.problem.startswith(said)
    assert "13800000001" not in f"{wrong.problem}{wrong.value}"
    assert isinstance(good, InventoryRow)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the file is empty"),
        ("number,status\n", "line 1: the header: unknown column status; did you mean state?"),
        ('"number,state\n', "line 1: the header: a quote is not closed"),
        ("number,number,state\n", "line 1: the header: a column is there twice"),
        ("number\n13800000001\n", "line 1: the header: column state is missing"),
    ],
)
def test_a_file_with_a_wrong_header_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Of such a file no row means what it seems to."""
    with pytest.raises(InputError, match=r"pool\.csv: ") as caught:
        read(write(tmp_path, text))
    assert said in str(caught.value)


def test_a_wrong_line_of_json_is_named(tmp_path: Path) -> None:
    """By line, as in CSV."""
    text = '{"number"\n[1]\n{"number": "13800000001", "state": "FROZEN", "colour": "red"}\n{"number": [1]}\n'
    found = read(write(tmp_path, text, name="pool.jsonl"))
    assert [
        "not JSON at character 11", "expected a JSON object", "unknown name colour", "expected a text",
    ] == [row.problem for row in found if isinstance(row, Rejection)]  # fmt: skip


def test_a_list_of_numbers_needs_no_header(tmp_path: Path) -> None:
    """What a person pastes into `sweep reclaim -` is a list of numbers."""
    found = list(read_changes(write(tmp_path, "13800000001\nx\n"), now=NOW, state=NumberState.RECLAIMED))
    assert Change(line=1, number="+8613800000001", state=NumberState.RECLAIMED, at=NOW) == found[0]
    assert isinstance(found[1], Rejection)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-11-26", datetime(2026, 11, 25, 16, tzinfo=UTC)),
        ("2026-11-26T01:00:00+00:00", datetime(2026, 11, 26, 1, tzinfo=UTC)),
        ("", NOW),
    ],
)
def test_a_change_has_a_moment(tmp_path: Path, at: str, expected: datetime) -> None:
    """A bare date begins in Shanghai."""
    (change,) = read_changes(write(tmp_path, f"number,state,at\n13800000001,RECLAIMED,{at}\n"), now=NOW)
    assert isinstance(change, Change)
    assert expected == change.at


def test_a_time_without_its_offset_is_refused(tmp_path: Path) -> None:
    """It could be eight hours off, and so be about another cycle."""
    (wrong,) = read_changes(write(tmp_path, "number,state,at\n13800000001,FROZEN,2026-11-26T01:00\n"), now=NOW)
    assert isinstance(wrong, Rejection)
    assert ("at", "a time without its offset") == (wrong.field, wrong.problem.partition(";")[0])
