"""A file as numbered lines of text, in fixed memory: opens, unpacks, decodes, splits."""

import codecs
import gzip
import io
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

from schemas.errors import InputError

Source = Path | BinaryIO | Literal["-"]
LINE_CHARS_MAX: Final = 64 * 1024
ENCODINGS: Final = ("utf-8", "gb18030", "utf-16", "utf-16-le", "utf-16-be", "gbk", "gb2312", "big5")
STDIN: Final = "-"

_CHUNK_BYTES = 64 * 1024
_HEAD_BYTES_MAX = 64 * 1024
_FOREIGN_FILES = (
    (b"\x1f\x8b", "gzip data; give the file a name that ends in .gz, or unpack it first"),
    (b"PAR1", "Parquet data; give the file a name that ends in .parquet"),
    (b"PK\x03\x04", "a ZIP or Excel file; save the sheet as CSV"),
)


class FileProblem(Exception):
    """The file cannot be read on: at `line`, or at the one after the last that was delivered."""

    def __init__(self, problem: str, *, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


class Lines:
    """Numbers physical lines, and takes lines back."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._back: deque[str] = deque()
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = self._back.popleft() if self._back else next(self._source)
        self.number += 1
        return text

    def push_back(self, lines: list[str]) -> None:
        """Deliver these lines again."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)

    def skip_to(self, line: int) -> None:
        """Leave out lines until `line` is the last one that is counted; none of them is looked at."""
        while self._back and self.number < line:
            next(self)
        skipped = sum(1 for _ in islice(self._source, max(0, line - self.number)))
        self.number += skipped


@contextmanager
def opened_whole(source: Source) -> Iterator[BinaryIO]:
    """Open a file that is not read from start to end. Raises InputError, here or later, that names file and row."""
    if _is_stdin(source):
        raise InputError(f"{_name(source)}: Parquet cannot be read through a pipe; give the file")
    try:
        with _opened(source) as stream:
            yield stream
    except FileProblem as problem:
        where = f"{_name(source)}: row {problem.line}" if problem.line else _name(source)
        raise InputError(f"{where}: {problem}") from None


@contextmanager
def numbered_lines(source: Source, encoding: str) -> Iterator[Lines]:
    """Open a file, a stream or `-` (standard input) for as long as the context lasts; only a file is closed.

    Raises InputError, here or while lines are taken, that names the source and the line.
    """
    name = _name(source)
    codec = _codec(encoding)
    lines: Lines | None = None
    try:
        with _opened(source) as stream:
            lines = Lines(_split(_decoded(stream, codec)))
            yield lines
    except FileProblem as problem:
        where = f"{name}: line {problem.line or lines.number + 1}" if lines else name
        raise InputError(f"{where}: {problem}") from None


def _split(texts: Iterator[str]) -> Iterator[str]:
    """Yield lines with their ends; of a line that is too long, only its beginning, as soon as it is too long."""
    tail = ""
    skipping = False
    for text in texts:
        pieces = list(io.StringIO(tail + text, newline=""))
        # A lone CR stays in the tail, too: LF may follow in the next text.
        tail = "" if pieces[-1].endswith("\n") else pieces.pop()
        yield from islice(pieces, 1 if skipping else 0, None)
        skipping = skipping and not pieces
        if not skipping and len(tail) > LINE_CHARS_MAX:
            yield tail[: LINE_CHARS_MAX + 1]
            skipping = True
        if skipping:
            tail = tail[-1:]
    if tail and not skipping:
        yield tail


def _decoded(stream: BinaryIO, codec: str) -> Iterator[str]:
    """Yield texts that are not empty, up to the first byte that is not `codec`."""
    decoder = codecs.getincrementaldecoder(codec)()
    head = b""
    for chunk in _chunks(stream):
        if not head:
            _check_mark(chunk, codec)
        if len(head) < _HEAD_BYTES_MAX:
            head += chunk
        state = decoder.getstate()
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            decoder.setstate(state)
            good, bad = _parted(error, chunk)
            if text := decoder.decode(good):
                yield text
            raise FileProblem(f"not {codec} text; {_encoding_advice(codec, head=head, bad=bad)}") from None
        if text:
            yield text


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what is there, as soon as it is there; ends with an empty chunk."""
    read_some = getattr(stream, "read1", stream.read)
    chunk = b"\n"
    begun = False
    while chunk:
        try:
            chunk = read_some(_CHUNK_BYTES)
        except EOFError:
            raise FileProblem("the gzip data is cut off here; the rows before it were read") from None
        except (gzip.BadGzipFile, zlib.error):
            if not begun:
                raise FileProblem("not gzip data, although the name ends in .gz") from None
            raise FileProblem("the gzip data is damaged here; the rows before it were read") from None
        except OSError as error:
            raise FileProblem(f"cannot be read: {error.strerror or error}") from None
        yield chunk
        begun = True


def _check_mark(chunk: bytes, codec: str) -> None:
    for mark, meaning in _FOREIGN_FILES:
        if chunk.startswith(mark):
            raise FileProblem(f"this is {meaning}")
    if chunk.startswith(codecs.BOM_UTF8) and codec != "utf-8":
        raise FileProblem("the file begins with the mark of UTF-8; use --encoding utf-8")


def _parted(error: UnicodeError, chunk: bytes) -> tuple[bytes, bytes]:
    """Return the part of the chunk that can be decoded, and the bytes from the line that cannot."""
    if not isinstance(error, UnicodeDecodeError):
        return b"", chunk
    # The decoder puts what it kept of the chunk before in front.
    kept = len(error.object) - len(chunk)
    line_start = error.object.rfind(b"\n", 0, error.start) + 1
    return chunk[: max(0, error.start - kept)], error.object[line_start:]


def _encoding_advice(codec: str, *, head: bytes, bad: bytes) -> str:
    for candidate in ("utf-8", "gb18030", "utf-16"):
        if candidate != codec and _fits(candidate, head) and (candidate == "utf-16" or _fits(candidate, bad)):
            return f"use --encoding {candidate}"
    return "nor is it any of utf-8, gb18030, utf-16; expected CSV or JSON lines as text"


def _fits(codec: str, sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder(codec)().decode(sample[:_HEAD_BYTES_MAX])
    except UnicodeError:
        return False
    return True


def _codec(encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding).name.removesuffix("-sig")
    except (LookupError, ValueError):
        codec = ""
    if codec not in ENCODINGS:
        raise InputError(f"unknown encoding {encoding!r}; use one of {', '.join(ENCODINGS)}")
    return codec


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if _is_stdin(source):
        if sys.stdin is None:
            raise FileProblem("is closed")
        yield sys.stdin.buffer
    elif isinstance(source, Path):
        with _open(source) as raw:
            yield cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if source.suffix.lower() == ".gz" else raw
    else:
        yield cast("BinaryIO", source)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        problem = "no such file"
    except IsADirectoryError:
        problem = "is a folder; expected a file"
    except PermissionError:
        problem = "may not be read: permission denied"
    except (OSError, ValueError) as error:
        problem = f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    raise FileProblem(problem)


def _is_stdin(source: Source) -> bool:
    return isinstance(source, str | Path) and str(source) == STDIN


def _name(source: Source) -> str:
    if _is_stdin(source):
        return "standard input"
    return str(source) if isinstance(source, Path) else "the input"
