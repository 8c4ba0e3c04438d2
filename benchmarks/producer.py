"""A producer that stays up, as a pipeline's does: it submits each file it is told of as `renewal submit` would."""

import subprocess
import sys
import time
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Final, Self

from backends.runs import Counters
from benchmarks.errors import Unmeasured
from benchmarks.system import System
from ops.reading import Reading
from ops.run_folder import RunFolder, RunOptions
from ops.session import opened

_READ: Final = "read"


class Handed:
    """A file that the producer was told of, in the place of a `renewal submit` that runs."""

    def __init__(self, producer: "Producer", run: str, *, began_s: float) -> None:
        self._producer, self._run, self.began_s = producer, run, began_s

    def counters(self) -> Counters:
        """Return the counters of its run."""
        return self._producer.system.backends.runs.counters(self._run)

    def done(self) -> bool:
        """Say no: the producer is asked by `await_read`. Raises Unmeasured if it has ended."""
        self._producer.check()
        return False


class Producer:
    """The process while the context lasts."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._log = system.folder / "logs" / "producer.log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.producer"],
                env=self.system.settings.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.terminate()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def check(self) -> None:
        """Raise Unmeasured if it has ended."""
        if self._process.poll() is not None:
            raise Unmeasured(f"the producer ended: {self._log.read_text(encoding='utf-8')[-1000:].strip()}")

    def hand_in(self, file: Path) -> Handed:
        """Let it begin a file, once it has read the one before. Raises Unmeasured."""
        began_s = time.monotonic()
        self._tell(str(file))
        return Handed(self, self._hear(), began_s=began_s)

    def await_read(self) -> None:
        """Wait until the file is read to its end. Raises Unmeasured."""
        if self._hear() != _READ:
            raise Unmeasured("the producer told of another file")

    def _tell(self, line: str) -> None:
        if self._process.stdin is None:
            raise Unmeasured("the producer cannot be told anything")
        try:
            print(line, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._process.wait()
            self.check()

    def _hear(self) -> str:
        heard = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not heard:
            self._process.wait()
            self.check()
        return heard


def _serve() -> None:
    """Submit the files that standard input names; of each say its run once it has begun, and that it was read."""
    with opened() as (backends, catalogue):
        settings = backends.settings
        backends.broker.declare()
        for line in sys.stdin:
            options = RunOptions(file=line.rstrip("\n"))
            with RunFolder(settings.data_dir, options, scope=("producer", settings.operator)) as folder:
                reading = Reading(
                    backends=backends,
                    catalogue=catalogue,
                    folder=folder,
                    file=options.file,
                    encoding=options.encoding,
                    operator=settings.operator,
                )
                since = reading.begin()
                print(folder.run, flush=True)
                reading.submit(since=since, on_progress=lambda _: None, stop=Event())
                folder.finish()
            print(_READ, flush=True)


if __name__ == "__main__":
    _serve()
