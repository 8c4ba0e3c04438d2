"""Files that came over HTTP: kept sealed until they have been read, then gone; only what was refused of them stays.

Whoever finds one that nobody reads takes it up, behind the last rows that were on their way: a console that dies leaves
nothing behind that the next one does not finish.
"""

import contextlib
import fcntl
import gzip
import hashlib
import io
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final, Literal, Self, cast

import orjson
import structlog
from redis.exceptions import RedisError

from backends.actions import Action, What
from backends.bootstrap import Backends
from backends.vault import Vault
from ops.reading import Reading
from ops.sealed_file import SealedReader, SealedWriter
from platforms.catalogue import Catalogue
from producers.intake import read
from schemas.errors import ContractError, InputError, NotFound, Refused, RenewalError
from schemas.ids import derive
from schemas.number import mask_text

_FACTS: Final = "upload.json"
_ROWS: Final = "rows.sealed"
_LOOK_S: Final = 1.0
_AGAIN_S: Final = 5.0
# A body that pauses for as long is cut long before.
_BROKEN_OFF_S: Final = 3600.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is said about a file beside its rows."""

    name: str  # what people call it
    instrument: str
    who: str
    form: Literal["csv", "jsonl"]
    encoding: str = "utf-8"
    packed: bool = False  # gzip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    terms: Terms
    digest: str
    blocks: int
    done: bool = False


class Upload:
    """One file on its way in: `write` its bytes, then `keep` it."""

    def __init__(self, uploads: "Uploads", run: str, terms: Terms) -> None:
        self._uploads, self.run, self._terms = uploads, run, terms
        self._digest = hashlib.sha256(orjson.dumps(asdict(terms)))
        self._path = uploads.folder / f".{run}.{threading.get_ident()}"
        shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(parents=True, mode=0o700)
        self._writer = SealedWriter(self._path / _ROWS, uploads.vault, name=run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind of a file that was not kept."""
        with contextlib.suppress(OSError):
            self._writer.close()
        shutil.rmtree(self._path, ignore_errors=True)

    def write(self, data: bytes) -> None:
        """Take some bytes more."""
        self._digest.update(data)
        self._writer.write(data)

    def keep(self) -> bool:
        """Keep the file for reading. Returns False if this very file is kept, or was read, already.

        Raises InputError for a file whose beginning cannot be read, Refused where its name is another file's.
        """
        self._writer.close()
        stored = _Stored(terms=self._terms, digest=self._digest.hexdigest(), blocks=self._writer.blocks)
        if (known := self._uploads.stored(self.run)) is not None:
            if known.digest != stored.digest:
                raise Refused("another file, or the same on other terms, was handed in under this Idempotency-Key")
            return False
        self._uploads.check(self._path, self.run, stored)
        _write(self._path, stored)
        try:
            self._path.rename(self._uploads.folder / self.run)
        except OSError:
            # Two of the same at one moment: one of them is kept.
            if self._uploads.stored(self.run) is None:
                raise
            return False
        return True


class Uploads:
    """The files of one machine: hand in, and read."""

    def __init__(self, backends: Backends, catalogue: Catalogue) -> None:
        self._backends, self._catalogue = backends, catalogue
        self.folder = backends.settings.data_dir / "uploads"

    @property
    def vault(self) -> Vault:
        """What seals them."""
        return self._backends.vault

    def begin(self, terms: Terms, *, key: str) -> Upload:
        """Begin to take a file; the same `key` names the same run. Raises NotFound, Refused for the instrument."""
        self._backends.instruments.valid(terms.instrument, now=self._backends.clock.now())
        run = derive("upload", self._backends.settings.operator, key)
        return Upload(self, run, terms)

    def announce(self, run: str, terms: Terms, *, again: bool) -> None:
        """Record the run of a file that is kept, so that it can be followed before it is read."""
        if again:
            with contextlib.suppress(NotFound):
                self._backends.runs.facts([run])
                return
        self._backends.runs.begin(run, file=terms.name, now=self._backends.clock.now(), instrument=terms.instrument)
        after = {"file": terms.name, "instrument": terms.instrument}
        self._backends.actions.append(
            Action(what=What.RUN_SUBMIT, target=run, reason="", before={}, after=after, who=terms.who)
        )

    def rejected(self, run: str) -> Path | None:
        """Return the rows that were refused so far; None for a run whose file did not come to this machine."""
        path = self.folder / run / "rejected.csv"
        return path if path.is_file() else None

    def stored(self, run: str) -> _Stored | None:
        """Return what is known of a file that was handed in."""
        try:
            said = orjson.loads((self.folder / run / _FACTS).read_bytes())
        except FileNotFoundError:
            return None
        return _Stored(**said | {"terms": Terms(**said["terms"])})

    def check(self, path: Path, run: str, stored: _Stored) -> None:
        """Read the first row. Raises InputError for a file that cannot be read at all."""
        with self._opened(path, run, stored) as source:
            rows = read(source, encoding=stored.terms.encoding, fmt=stored.terms.form, known_platforms=self._catalogue)
            next(rows, None)

    # -- reading -------------------------------------------------------------------------------------------------------

    def step(self, stop: threading.Event) -> int:
        """Read every file that nobody reads. Returns how many were read to their end."""
        self._sweep()
        return sum(self._read(path, stop) for path in sorted(self.folder.glob("[!.]*")))

    def _sweep(self) -> None:
        """Let go of what began to come and did not end: nobody has been told that it was taken."""
        before_s = self._backends.clock.now().timestamp() - _BROKEN_OFF_S
        for path in self.folder.glob(".*"):
            if path.stat().st_mtime < before_s and (path / _ROWS).stat().st_mtime < before_s:
                shutil.rmtree(path, ignore_errors=True)

    def _read(self, path: Path, stop: threading.Event) -> bool:
        stored = self.stored(path.name)
        if stored is None or stored.done or stop.is_set():
            return False
        with _claimed(path) as mine:
            stored = self.stored(path.name) if mine else None
            if stored is None or stored.done:
                return False
            try:
                self._submit(path, stored, stop)
            except (InputError, ContractError, Refused) as error:
                # No later try would read more of it.
                self._backends.runs.note_waits(
                    path.name, f"reading has ended: {mask_text(str(error))}", now=self._backends.clock.now()
                )
            if stop.is_set():
                return False
            _done(path, stored)
            return True

    def _submit(self, path: Path, stored: _Stored, stop: threading.Event) -> None:
        reading = Reading(
            backends=self._backends,
            catalogue=self._catalogue,
            folder=_Folder(run=path.name, path=path),
            file=stored.terms.name,
            encoding=stored.terms.encoding,
            operator=self._backends.settings.operator,
            instrument=stored.terms.instrument,
        )
        since = reading.begin()
        with self._opened(path, path.name, stored) as source:
            reading.submit(since=since, on_progress=lambda _: None, stop=stop, source=source, form=stored.terms.form)

    @contextlib.contextmanager
    def _opened(self, path: Path, run: str, stored: _Stored) -> Iterator[BinaryIO]:
        raw = SealedReader(path / _ROWS, self._backends.vault, name=run, blocks=stored.blocks)
        with contextlib.closing(raw):
            buffered = io.BufferedReader(raw)
            yield cast("BinaryIO", gzip.GzipFile(fileobj=buffered)) if stored.terms.packed else buffered


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """Where the reading of one file keeps its things."""

    run: str
    path: Path

    def finish(self) -> None:
        """Say that nothing is left to take up: who reads it says so itself."""


def read_until(stop: threading.Event, uploads: Uploads) -> None:
    """Read what comes until told to stop; go on when Redis or the broker comes back."""
    while not stop.is_set():
        try:
            uploads.step(stop)
            stop.wait(_LOOK_S)
        except (RenewalError, RedisError, OSError) as error:
            log.warning("upload.waiting", reason=type(error).__name__)
            stop.wait(_AGAIN_S)


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    lock: IO[str]
    with (path / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _done(path: Path, stored: _Stored) -> None:
    """Let the rows go; that they were read is known before, so that nobody looks for them."""
    _write(path, _Stored(terms=stored.terms, digest=stored.digest, blocks=stored.blocks, done=True))
    (path / _ROWS).unlink(missing_ok=True)


def _write(path: Path, stored: _Stored) -> None:
    temporary = path / f"{_FACTS}.tmp"
    temporary.write_bytes(orjson.dumps(asdict(stored)))
    temporary.replace(path / _FACTS)
