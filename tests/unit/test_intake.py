"""A file of any size and in any state becomes rows and rejections, or stops with one clear message."""

import gzip
import io
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from producers.intake import ROW_LINES_MAX, Rejection, Row, read
from producers.lines import ENCODINGS, LINE_CHARS_MAX
from schemas.errors import InputError

KNOWN = ("acme", "globex", "initech")
HEADER = "number,cutoff_at\n"
GOOD = "13800001234,2026-01-31\n"
OTHER = "13900005678,2026-01-31\n"

Format = Literal["csv", "jsonl"]


def intake(text: str | bytes, *, encoding: str = "utf-8", fmt: Format | None = None) -> list[Row | Rejection]:
    """Read a text, as UTF-8 unless it is bytes."""
    source = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return list(read(source, known_platforms=KNOWN, encoding=encoding, fmt=fmt))


def lines_of(items: list[Row | Rejection]) -> list[tuple[str, int]]:
    """Return what became of each row, and its line."""
    return [(type(item).__name__, item.line) for item in items]


def only_row(text: str, *, fmt: Format | None = None) -> Row:
    """Return the one row of a text."""
    [row] = intake(text, fmt=fmt)
    assert isinstance(row, Row), row
    return row


def only_rejection(text: str, *, fmt: Format | None = None) -> Rejection:
    """Return the one rejection of a text."""
    [rejection] = intake(text, fmt=fmt)
    assert isinstance(rejection, Rejection), rejection
    return rejection


def stopped(source: Path | BinaryIO | str | bytes, *, encoding: str = "utf-8") -> tuple[int, str]:
    """Return how many items came before the InputError, and its message."""
    if isinstance(source, str):
        source = source.encode()
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    items: list[Row | Rejection] = []
    with pytest.raises(InputError) as caught:
        items.extend(read(source, known_platforms=KNOWN, encoding=encoding))
    return len(items), str(caught.value)


class Parts(io.BytesIO):
    """Gives one part for every read."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        super().__init__()
        self._parts = iter(parts)

    @override
    def read1(self, _size: int | None = -1, /) -> bytes:
        return next(self._parts, b"")


def endless(start: str, repeated: str) -> Parts:
    """Give the same for ever; fail the test when far more is taken than the reader may hold."""

    def parts() -> Iterator[bytes]:
        yield start.encode() + repeated.encode()
        for _ in range(400):
            yield repeated.encode() * 1000
        pytest.fail("the reader does not stop")

    return Parts(parts())


# --- CSV ---------------------------------------------------------------------------------------------------------


def test_columns_may_come_in_any_order_case_and_spacing() -> None:
    """The header is what people type."""
    row = only_row(" Reference , CUTOFF_AT,number ,Platforms\nR-1,2026-01-31,13800001234,acme;initech\n")
    assert ("R-1", "2026-01-31T00:00:00+08:00", "+8613800001234") == (row.reference, row.cutoff_at, row.number)
    assert ("acme", "initech") == row.platforms


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize("last", [True, False])
def test_every_line_end_counts_as_one(end: str, last: bool) -> None:
    """Windows, Unix and old Mac files give the same lines; the last line needs no end."""
    text = end.join([HEADER.strip(), GOOD.strip(), "", OTHER.strip()]) + end * last
    assert [("Row", 2), ("Row", 4)] == lines_of(intake(text))


def test_a_line_end_split_between_two_reads_is_one() -> None:
    """CR at the end of one read and LF at the start of the next do not make an empty line more."""
    text = (HEADER + GOOD + "bad,2026-01-31\n").replace("\n", "\r\n").encode()

    source = Parts(bytes([byte]) for byte in text)
    assert [("Row", 2), ("Rejection", 3)] == lines_of(list(read(source, known_platforms=KNOWN)))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", b"\xef\xbb\xbf" + (HEADER + GOOD).encode()),
        ("UTF8", (HEADER + GOOD).encode()),
        ("utf-8-sig", (HEADER + GOOD).encode()),
        ("utf-16", (HEADER + GOOD).encode("utf-16")),
        ("utf-16-le", ("\ufeff" + HEADER + GOOD).encode("utf-16-le")),
        ("GB18030", (HEADER + GOOD).encode("gb18030")),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_first_column(encoding: str, text: bytes) -> None:
    """Excel writes it, other tools do not."""
    assert [("Row", 2)] == lines_of(intake(text, encoding=encoding))


def test_gb18030_is_read_where_it_is_asked_for() -> None:
    """Many operator systems in mainland China still write it; a character may lie across two reads."""
    text = (
        "number,cutoff_at,reference\n" + "".join(f"13800001234,2026-01-31,工单𠮷{i:05}号\n" for i in range(5000))
    ).encode("gb18030")
    rows = intake(text, encoding="gb18030")
    assert [f"工单𠮷{i:05}号" for i in range(5000)] == [cast("Row", row).reference for row in rows]


def test_quotes_protect_commas_and_line_breaks() -> None:
    """The line of a row is the first one that it stands on."""
    text = 'number,cutoff_at,reference\n"13800001234\n", "2026-01-31","a ""b"", c"\n' + "x,2026-01-31,\n"
    row, rejection = intake(text)
    assert isinstance(row, Row)
    assert (2, 'a "b", c') == (row.line, row.reference)
    assert ("Rejection", 4) == (type(rejection).__name__, rejection.line)


def test_a_quote_that_is_never_closed_costs_one_row() -> None:
    """The rows behind it are read for themselves."""
    text = HEADER + '"13800001234,2026-01-31\n' + GOOD * (2 * ROW_LINES_MAX)
    items = intake(text)
    assert [("Rejection", 2)] + [("Row", 3 + i) for i in range(2 * ROW_LINES_MAX)] == lines_of(items)
    assert isinstance(items[0], Rejection)
    assert ("row", True) == (items[0].field, "quote" in items[0].problem)


def test_lines_that_a_quote_swallowed_are_named() -> None:
    """Where a misplaced quote makes one row of several lines, its rejection says which."""
    merged = intake(HEADER + '13800001234,"2026-01-31\n' + '13700001234,2026-01-31"\n' + GOOD)
    assert [("Rejection", 2), ("Row", 4)] == lines_of(merged)
    assert "runs to line 3" in cast("Rejection", merged[0]).problem


@pytest.mark.parametrize(
    ("row", "found"), [("13800001234\n", 1), ("13800001234,2026-01-31,\n", 3), ('""\n', 1), (",,,\n", 4)]
)
def test_a_ragged_row_is_refused_with_its_count(row: str, found: int) -> None:
    """A row that is cut or shifted must not be guessed at."""
    rejection = only_rejection(HEADER + row)
    assert ("row", f"expected 2 fields as in the header, found {found}") == (rejection.field, rejection.problem)


def test_blank_lines_are_no_rows() -> None:
    """Before the header, between rows and at the end."""
    assert [("Row", 5), ("Row", 7)] == lines_of(intake("\n \n" + HEADER + "\t\n" + GOOD + "\r\n" + OTHER + "\n\n"))


def test_a_line_with_nul_bytes_is_refused_and_the_next_is_read() -> None:
    """A hole that a power cut left in a file."""
    items = intake(HEADER + "13800\0001234,2026-01-31\n" + GOOD)
    assert [("Rejection", 2), ("Row", 3)] == lines_of(items)
    assert "NUL" in cast("Rejection", items[0]).problem


@pytest.mark.parametrize("extra", [1, 100_000, 300_000])
def test_a_line_that_is_too_long_is_refused_and_the_next_is_read(extra: int) -> None:
    """Whether it ends in the same read or much later."""
    items = intake(HEADER + GOOD + "9" * (LINE_CHARS_MAX + extra) + "\r\n" + OTHER + "7" * (LINE_CHARS_MAX + extra))
    assert [("Row", 2), ("Rejection", 3), ("Row", 4), ("Rejection", 5)] == lines_of(items)
    assert "more than 65536 characters" in cast("Rejection", items[1]).problem


def test_an_endless_line_is_refused_before_it_ends() -> None:
    """What is held of it is bounded."""
    items = list(islice(read(endless(HEADER + GOOD, "8"), known_platforms=KNOWN), 2))
    assert [("Row", 2), ("Rejection", 3)] == lines_of(items)


# --- JSONL -------------------------------------------------------------------------------------------------------


def test_json_lines_have_the_same_names() -> None:
    """Numbers may be integers, platforms a list."""
    text = '{"Number": 13800001234, "cutoff_at": "2026-01-31", "platforms": ["acme", "globex"], "reference": 7}\n'
    row = only_row(text, fmt="jsonl")
    assert ("+8613800001234", ("acme", "globex"), "7") == (row.number, row.platforms, row.reference)
    same = only_row(
        '{"number": "138 0000 1234", "cutoff_at": "2026-01-31", "platforms": "acme", "cycle": null}', fmt="jsonl"
    )
    assert ("+8613800001234", ("acme",), "2026-01-31") == (same.number, same.platforms, same.cycle)


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ('{"number": 13800001234', "row", "not JSON at character"),
        ("13800001234", "row", "expected a JSON object"),
        ('["13800001234"]', "row", "expected a JSON object"),
        ("[" * 5000, "row", "not JSON"),
        ('{"cutoff_at": "2026-01-31"}', "number", "missing"),
        ('{"number": true, "cutoff_at": "2026-01-31"}', "number", "expected a text"),
        ('{"number": 13800001234.0, "cutoff_at": "2026-01-31"}', "number", "expected a text"),
        ('{"number": 13800001234, "cutoff_at": 20260131}', "cutoff_at", "expected a text"),
        ('{"number": 13800001234, "cut_off_at": "2026-01-31"}', "row", "did you mean cutoff_at?"),
        ('{"number": 13800001234, "NUMBER": 1}', "number", "twice"),
        ('{"number": 13800001234, "platforms": [1]}', "platforms", "expected a text"),
        ('{"number": 13800001234, "platforms": []}', "platforms", "empty list"),
    ],
)
def test_a_bad_json_line_is_refused_and_the_next_is_read(text: str, field: str, problem: str) -> None:
    """Each line stands for itself."""
    items = intake(text + '\n{"number": 13900005678, "cutoff_at": "2026-01-31"}\n', fmt="jsonl")
    assert [("Rejection", 1), ("Row", 2)] == lines_of(items)
    rejection = cast("Rejection", items[0])
    assert field == rejection.field
    assert problem in rejection.problem


@pytest.mark.parametrize("name", ["a.jsonl", "a.NDJSON", "a.jsonl.gz", "a.csv", "a.txt", "a.csv.GZ"])
def test_the_name_of_a_file_says_what_it_holds(tmp_path: Path, name: str) -> None:
    """JSON lines by extension, else CSV; gzip around either."""
    json = "json" in name.lower()
    data = ('{"number": 13800001234, "cutoff_at": "2026-01-31"}\n' if json else HEADER + GOOD).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    assert [("Row", 1 if json else 2)] == lines_of(list(read(path, known_platforms=KNOWN)))


@pytest.mark.parametrize("source", ["-", Path("-")])
def test_a_dash_is_standard_input(source: Literal["-"] | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is CSV unless the format is given, and stays open."""
    stdin = io.TextIOWrapper(io.BytesIO((HEADER + GOOD).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert [("Row", 2)] == lines_of(list(read(source, known_platforms=KNOWN)))
    assert not stdin.buffer.closed


def test_what_comes_through_a_pipe_is_delivered_at_once() -> None:
    """A row waits for its own line end, not for the next rows."""

    def parts() -> Iterator[bytes]:
        yield HEADER.encode()
        yield GOOD.encode()
        pytest.fail("the row was not delivered before the next read")

    assert isinstance(next(read(Parts(parts()), known_platforms=KNOWN)), Row)


# --- what stops a file -------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Nothing else is said."""
    assert (0, f"{tmp_path / 'gone.csv'}: no such file") == stopped(tmp_path / "gone.csv")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """The message names it."""
    assert (0, f"{tmp_path}: is a folder; expected a file") == stopped(tmp_path)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission is the reason given."""

    def refuse(*_args: object, **_options: object) -> BinaryIO:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    assert (0, "a.csv: may not be read: permission denied") == stopped(Path("a.csv"))


@pytest.mark.parametrize("name", ["a\0b", "n" * 5000])
def test_a_name_that_no_file_can_have_is_an_input_error(name: str) -> None:
    """The system's reason is passed on."""
    assert "cannot be opened" in stopped(Path(name))[1]


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", " \r\n\t"], ids=repr)
def test_an_empty_file_is_an_error(text: str) -> None:
    """The message says what was expected."""
    count, message = stopped(text.encode())
    assert 0 == count
    assert message.startswith("the input: line 1: the file is empty; expected number, cutoff_at")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("number,reference", "column cutoff_at is missing; found: number, reference"),
        ("cutoff_at", "column number is missing; found: cutoff_at"),
        (
            "number,cutoff_at,cut_off",
            "unknown column cut_off; did you mean cutoff_at?; allowed: number, cutoff_at (opt",
        ),
        ("number,cutoff_at,zzz", "unknown column zzz; allowed"),
        ("number,cutoff_at,", "column 3 has no name"),
        ("number,cutoff_at, Number", "column number is there twice"),
        ("number;cutoff_at", "expected names of columns, separated by commas"),
        ('"number,cutoff_at', "a quote is not closed"),
        ("x" * 70_000, "a line of more than 65536 characters"),
        ("n\0u\0m\0", "if the file is UTF-16, use --encoding utf-16-le"),
    ],
)
def test_a_wrong_header_stops_the_file(header: str, expected: str) -> None:
    """The column is named, and what was found or is allowed."""
    count, message = stopped(f"\n{header}\n{GOOD}")
    assert 0 == count
    assert message.startswith("the input: line 2: the header: ")
    assert expected in message


def test_a_file_without_a_header_does_not_show_its_first_number() -> None:
    """The commonest mistake must not put a number on the screen."""
    message = stopped(GOOD)[1]
    assert "found: 138****34, 2026-01-31" in message


def test_an_endless_header_is_refused_before_it_ends() -> None:
    """A device or a binary file given by mistake."""
    assert "line 1: the header: a line of more than" in stopped(endless("", "a"))[1]


@pytest.mark.parametrize(
    ("written", "asked", "works"),
    [
        ("gb18030", "utf-8", "gb18030"),
        ("utf-16", "utf-8", "utf-16"),
        ("utf-16", "gb18030", "utf-16"),
        ("utf-8-sig", "gb18030", "utf-8"),
        ("utf-8", "utf-16", "utf-8"),
        ("utf-8", "gb2312", "utf-8"),
    ],
)
def test_a_wrong_encoding_names_the_line_and_the_one_that_works(written: str, asked: str, works: str) -> None:
    """The user copies the option from the message."""
    text = "number,cutoff_at,reference\n13800001234,2026-01-31,\n13800001234,2026-01-31,第三行€\n"
    message = stopped(text.encode(written), encoding=asked)[1]
    assert message.endswith(f"use --encoding {works}")
    assert f"line {3 if written in {'gb18030', 'utf-8'} and asked != 'utf-16' else 1}: " in message


def test_rows_before_a_wrong_byte_are_delivered() -> None:
    """However far in the file it stands, its line is named."""
    text = (HEADER + GOOD * 20_000).encode() + "13800001234,二〇二六\n".encode("gb18030") + GOOD.encode()
    count, message = stopped(text)
    assert 20_000 == count
    assert "the input: line 20002: not utf-8 text; use --encoding gb18030" == message


def test_a_text_cut_inside_a_character_is_an_error() -> None:
    """The last row may be cut, too, so it is not delivered."""
    count, message = stopped((HEADER + GOOD).encode() + "13800001234,二".encode()[:-1])
    assert (1, True) == (count, "line 3: not utf-8 text" in message)


def test_bytes_that_are_no_text_get_no_advice_that_cannot_work() -> None:
    """Nothing fits a picture."""
    message = stopped(b"\x89PNG\r\n\x1a\n\x00\x00\xff\xd8\xff\xff\x80")[1]
    assert "nor is it any of utf-8, gb18030, utf-16" in message


@pytest.mark.parametrize("encoding", ["klingon", "", "rot13", "base64", "idna", "a\0b", "undefined"])
def test_an_unknown_encoding_is_refused_with_the_known_ones(encoding: str) -> None:
    """Codecs that give no text, or that nobody's file has, are unknown too."""
    count, message = stopped(HEADER, encoding=encoding)
    assert 0 == count
    assert "; use one of utf-8, gb18030, utf-16" in message


@pytest.mark.parametrize(
    ("start", "said"), [(gzip.compress(b"x", mtime=0), "gzip data"), (b"PK\x03\x04zip", "Excel file")]
)
def test_a_packed_file_is_recognised(start: bytes, said: str) -> None:
    """The message says what to do instead of complaining about bytes."""
    assert said in stopped(start)[1]


def test_a_gz_file_that_is_not_gzip_is_named(tmp_path: Path) -> None:
    """Its name is wrong, not its rows."""
    path = tmp_path / "a.csv.gz"
    path.write_text(HEADER + GOOD)
    assert (0, f"{path}: line 1: not gzip data, although the name ends in .gz") == stopped(path)


def gzip_of_varied_rows(rows: int) -> bytes:
    """Return gzip data that does not pack so well that a cut at the middle keeps nothing."""
    return gzip.compress((HEADER + "".join(f"138{i * 7919 % 10**8:08},2026-01-31\n" for i in range(rows))).encode())


def test_rows_before_the_cut_of_a_gzip_file_are_delivered(tmp_path: Path) -> None:
    """The row that the cut went through is not: it could be one that is only shorter."""
    path = tmp_path / "a.csv.gz"
    packed = gzip_of_varied_rows(20_000)
    path.write_bytes(packed[: len(packed) // 2])
    count, message = stopped(path)
    assert 5_000 < count < 20_000
    assert f"{path}: line {count + 2}: the gzip data is cut off here; the rows before it were read" == message


def test_damaged_gzip_data_stops_the_file(tmp_path: Path) -> None:
    """Rows before the damage are delivered."""
    path = tmp_path / "a.csv.gz"
    packed = bytearray(gzip_of_varied_rows(20_000))
    packed[-8:-4] = b"\0\0\0\0"  # the checksum
    path.write_bytes(packed)
    count, message = stopped(path)
    assert 20_000 == count
    assert "the gzip data is damaged here" in message


def test_a_file_is_closed_when_reading_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops iterating leaves nothing open."""
    path = tmp_path / "a.csv"
    path.write_text(HEADER + GOOD + GOOD)
    opened = path.open("rb")
    monkeypatch.setattr(Path, "open", lambda *_: opened)
    rows = cast("Iterator[Row]", read(path, known_platforms=KNOWN))
    next(rows)
    rows.close()  # type: ignore[attr-defined] # a generator
    assert opened.closed


# --- whatever the file -------------------------------------------------------------------------------------------


def test_memory_is_flat_whatever_the_number_of_rows() -> None:
    """Fifty thousand different rows need no more than five thousand."""

    def parts(rows: int) -> Iterator[bytes]:
        yield b"number,cutoff_at,reference,platforms\n"
        for i in range(0, rows, 500):
            cutoff = f"2026-01-31T{i // 500 % 24:02}:00:00+08:00"
            yield "".join(f"138{i + k:08},{cutoff},R-{i + k},acme\n" for k in range(500)).encode()

    def peak_bytes(rows: int) -> int:
        tracemalloc.start()
        try:
            items = read(Parts(parts(rows)), known_platforms=KNOWN)
            assert rows == sum(isinstance(item, Row) for item in items)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_few = peak_bytes(5_000)
    assert peak_bytes(50_000) < 1.5 * peak_few


FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            HEADER,
            GOOD,
            "number",
            "cutoff_at",
            ",",
            '"',
            '""',
            "\n",
            "\r",
            "\r\n",
            "\0",
            "\ufeff",
            ";",
            " ",
            "{",
            "}",
            "：",
            "[" * 50,
        ]
    ).map(str.encode),
    st.sampled_from([b'{"number": 13800001234, "cutoff_at": "2026-01-31"}\n', b"\xff\xfe", b"\x1f\x8b", b"\x81\x30"]),
    st.binary(max_size=8),
    st.text(max_size=8).map(lambda text: text.encode(errors="replace")),
)


@given(
    parts=st.lists(FRAGMENTS, max_size=20),
    head=st.sampled_from(["", HEADER]),
    encoding=st.sampled_from(ENCODINGS),
    fmt=st.sampled_from(["csv", "jsonl"]),
)
def test_no_bytes_raise_anything_but_input_error(parts: list[bytes], head: str, encoding: str, fmt: Format) -> None:
    """Whatever a file holds, it gives rows and rejections in the order of lines, and at most one clear message."""
    last = 0
    source = io.BytesIO(head.encode(encoding) + b"".join(parts))
    with suppress(InputError):
        for item in read(source, known_platforms=KNOWN, encoding=encoding, fmt=fmt):
            assert last < item.line
            last = item.line


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_no_gzip_bytes_raise_anything_but_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int
) -> None:
    """Cut, damaged or no gzip at all."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv.gz"
    path.write_bytes(gzip.compress(HEADER.encode() + data)[:cut] + data[:cut])
    with suppress(InputError):
        list(read(path, known_platforms=KNOWN))


@given(
    st.lists(st.sampled_from([GOOD, OTHER, "\n", "bad,2026-01-31\n", "13800001234\n", '"13800001234","x\ny"\n', '"\n']))
)
def test_every_data_row_gives_exactly_one_item(rows: list[str]) -> None:
    """In the order of the file; only what quotes join shares a line."""
    closed = [row for row in rows if row != '"\n']
    expected, line = [], 2
    for row in closed:
        if row.strip():
            expected.append(("Row" if row in {GOOD, OTHER} else "Rejection", line))
        line += row.count("\n")
    assert expected == lines_of(intake(HEADER + "".join(closed)))
