"""Where one run keeps its own things, and how an interrupted one is found again."""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

import orjson

from schemas.batch import Lane
from schemas.errors import InputError
from schemas.ids import derive, new_id

SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line asked for."""

    file: str
    encoding: str = "utf-8"
    catalogue: Path | None = None
    platforms: tuple[str, ...] = ()
    lane: Lane = Lane.BULK
    sandbox: bool = False
    faults: str = "normal"
    seed: int = SEED
    report: Path | None = None
    workers: int = 2
    max_seconds: float | None = None
    instrument: str = ""


class RunFolder:
    """Where one run keeps its own things; only one process at a time works in it."""

    def __init__(self, data_dir: Path, options: RunOptions, *, scope: tuple[str, ...]) -> None:
        """`scope` names what else makes a run another one: the command, and the stores and operator it works for."""
        self._runs = data_dir / "runs"
        self._options, self._scope = options, scope
        self.run = ""
        self.path = self._runs
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        """Take up the interrupted run of the same file and options, or begin a new one."""
        self._runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted = self._identity()
        for path in self._interrupted(wanted):
            if self._claim(path):
                return self
        self.run = new_id()
        path = self._runs / self.run
        path.mkdir(mode=0o700)
        (path / "run.json").write_bytes(orjson.dumps({"run": self.run, "identity": wanted, "finished": False}))
        self._claim(path)
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()

    def finish(self) -> None:
        """Say that nothing is left to take up."""
        facts = orjson.loads((self.path / "run.json").read_bytes())
        temporary = self.path / "run.json.tmp"
        temporary.write_bytes(orjson.dumps({**facts, "finished": True}))
        temporary.replace(self.path / "run.json")
        shutil.rmtree(self.path / "catalogue", ignore_errors=True)

    def _interrupted(self, wanted: str) -> Iterator[Path]:
        for file in self._runs.glob("*/run.json"):
            with contextlib.suppress(OSError, orjson.JSONDecodeError):
                facts = orjson.loads(file.read_bytes())
                if not facts["finished"] and facts["identity"] == wanted:
                    yield file.parent

    def _claim(self, path: Path) -> bool:
        lock = (path / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self.path, self.run, self._lock = path, path.name, lock
        return True

    def _identity(self) -> str:
        """Name what makes a run the same: the file's content, and whatever changes what is asked of whom."""
        if self._options.file == "-":
            return new_id()
        digest = hashlib.sha256()
        try:
            with Path(self._options.file).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{self._options.file}: {error.strerror or error}") from None
        options = asdict(self._options)
        asked = ("encoding", "catalogue", "platforms", "lane", "sandbox", "faults", "seed")
        return derive(digest.hexdigest(), *self._scope, *(str(options[name]) for name in asked))
