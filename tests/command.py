"""What tests of the whole command build on: `renewal` in a clean environment, and a look at what it leaves behind."""

import contextlib
import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import psutil
import yaml

from ops.cli.main import main

T = TypeVar("T")
COMMAND = Path(sys.executable).parent / "renewal"
PATIENCE_S = 60.0
CUTOFF = "2026-12-02T00:00:00+08:00"
_POLL_S = 0.05


def wait_until(seen: Callable[[], T | None], *, what: str, seconds: float = PATIENCE_S) -> T:
    """Return what `seen` returns as soon as it is neither None nor false; fail after `seconds`."""
    until, pause = time.monotonic() + seconds, threading.Event()
    while True:
        found = seen()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"not seen within {seconds:.0f} s: {what}")
        pause.wait(_POLL_S)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON on standard output."""
        content: dict[str, Any] = json.loads(self.out)
        return content

    @property
    def told(self) -> tuple[int, str]:
        """Exit code and standard error together, so that a failed assertion shows both."""
        return self.code, self.err


class Started:
    """A command that runs beside the test."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: Path, err: Path) -> None:
        self.process, self._out, self._err = process, out, err

    @property
    def err(self) -> str:
        """What it has said on standard error so far."""
        return self._err.read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and to no other process."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 100) -> Done:
        """Return how it ended."""
        code = self.process.wait(seconds)
        return Done(code=code, out=self._out.read_text(encoding="utf-8"), err=self.err)


class Renewal:
    """The command as a newcomer has it: an empty HOME, no setting but the folder for its data."""

    def __init__(self, folder: Path, **settings: str) -> None:
        folder = folder.resolve()
        self.data, self.home, self.temporary, self.cwd = (folder / name for name in ("data", "home", "temp", "cwd"))
        self._outputs = folder / "outputs"
        self.settings = settings
        self.prefix: tuple[str, ...] = ()  # what starts the command, if it is not to be started as it is
        for made in (self.home, self.temporary, self.cwd, self._outputs):
            made.mkdir(parents=True)

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return everything that the command sees of this machine."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "RENEWAL_DATA_DIR": str(self.data),
            # Tests run beside each other: each listens where nobody else does.
            "RENEWAL_CONSOLE": "127.0.0.1:0",
            **self.settings,
            **settings,
        }

    def run(self, *arguments: str | Path, stdin: str = "", seconds: float = 100, **settings: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            [*self.prefix, COMMAND, *arguments],
            input=stdin,
            env=self.environment(settings),
            cwd=self.cwd,
            capture_output=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def look(self, *arguments: str | Path, stdin: str = "", **settings: str) -> Done:
        """Run a command to its end inside this process: the same code in the same environment, from its arguments on.

        Starting an interpreter costs more than all that a look-up does; each file starts some, so that it is tried.
        """
        said, complained = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.environment(settings), clear=True),
            contextlib.chdir(self.cwd),
            patch.object(sys, "argv", ["renewal", *map(str, arguments)]),
            patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(complained),
        ):
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Done(code=code, out=said.getvalue(), err=complained.getvalue())

    @contextlib.contextmanager
    def started(self, *arguments: str | Path, **settings: str) -> Iterator[Started]:
        """Start a command; at the end nothing of it lives, whatever the test did."""
        count = len(list(self._outputs.iterdir()))
        out, err = self._outputs / f"{count}.out", self._outputs / f"{count}.err"
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                [*self.prefix, COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                env=self.environment(settings),
                cwd=self.cwd,
            )
        try:
            yield Started(process, out, err)
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()

    # -- what is there now -----------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Return every living process that works in our data folder: each carries it in its environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("RENEWAL_DATA_DIR") == str(self.data):
                    found.append(process)
        return found

    def living(self) -> list[str]:
        """Return the command line of each of them."""
        lines = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                lines.append(f"{process.pid} {' '.join(process.cmdline())}")
        return lines

    def kill_leftovers(self) -> None:
        """End what a failed test left; only processes of our data folder."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def valkey_port(self) -> int | None:
        """Return the port of the embedded Valkey, once it has written it down."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.data / "valkey" / "server.json").read_bytes())["port"])
        return None

    def files(self) -> list[Path]:
        """Return every file that commands left anywhere: data, HOME, temporary folder, working folder, output."""
        folders = (self.data, self.home, self.temporary, self.cwd, self._outputs)
        return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]

    def asked(self) -> int:
        """Return how many bytes the simulated platforms have written of what they were asked."""
        return sum(path.stat().st_size for path in self.data.glob("runs/*/ledger"))


def port_is_open(port: int) -> bool:
    """Tell whether anybody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(count: int, *, first: int = 0) -> list[str]:
    """Return different mobile numbers of eleven digits, whose digits stand in no other text by chance."""
    return [f"138{(first + index) * 7919 + 10_243_657:08d}" for index in range(count)]


def write_input(path: Path, mobiles: list[str]) -> Path:
    """Write an input file with one good row for each number."""
    lines = [f"R-{index:04d},{mobile},{CUTOFF}" for index, mobile in enumerate(mobiles, start=1)]
    path.write_text("\n".join(["reference,number,cutoff_at", *lines]) + "\n", encoding="utf-8")
    return path


def write_platform(folder: Path, key: str, **fields: object) -> None:
    """Write one entry of a catalogue; `fields` replace its own."""
    folder.mkdir(parents=True, exist_ok=True)
    entry: dict[str, object] = {
        "key": key,
        "name": {"zh": "示例", "en": "Example"},
        "category": "social",
        "account_domain": key,
        "protocol": "bulk-json",
        "endpoint": f"https://{key}.example/v1/renewals",
        "auth": {"scheme": "none"},
    }
    text = yaml.safe_dump(entry | fields, allow_unicode=True, sort_keys=False)
    (folder / f"{key}.yaml").write_text(text, encoding="utf-8")


def write_mixed_catalogue(folder: Path, *, bulk: int, single: int) -> Path:
    """Write a catalogue whose limits make some hundred numbers last a few seconds."""
    for index in range(bulk):
        limits: dict[str, object] = {"calls_per_s": 12, "in_flight": 2, "items_per_call": 8 + index}
        write_platform(folder, f"many{index:02d}", limits=limits)
    for index in range(single):
        limits = {"calls_per_s": 60 + 5 * index, "in_flight": 4}
        write_platform(folder, f"one{index:02d}", protocol="json", limits=limits)
    return folder
