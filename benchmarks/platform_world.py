"""The platform server as a process of its own, seen from the benchmark."""

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import orjson
import requests

from benchmarks.platform_server import LATENCY_MS
from simulator.server import listen

_STOP_S: Final = 10.0
_START_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The server's ledger at one moment; see `platform_server.Ledger`."""

    calls: int
    told_later: int
    decided: int
    decided_sum: int
    codes: dict[str, int]
    cpu_s: float


class PlatformWorld:
    """A running platform server; a context manager that ends it."""

    def __init__(self, *, latency_ms: float = LATENCY_MS) -> None:
        self._latency_ms = latency_ms
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        sock = listen("127.0.0.1", 0)
        with contextlib.closing(sock):
            self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            command = [sys.executable, "-m", "benchmarks.platform_server"]
            command += ["--descriptor", str(sock.fileno()), "--latency-ms", str(self._latency_ms)]
            # Ctrl-C in a terminal reaches the whole group: the server must hear of it from us, at the end.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, pass_fds=(sock.fileno(),), start_new_session=True
            )
        self._session = self._stack.enter_context(requests.Session())
        self._session.trust_env = False
        until = time.monotonic() + _START_S
        while True:
            try:
                self.told()
            except requests.RequestException:
                if time.monotonic() > until or self._process.poll() is not None:
                    self.end()
                    raise
                time.sleep(0.05)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the server now: calls that hang fail at once, so that who made them can stop."""
        self._stack.close()
        self._process.terminate()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(_STOP_S)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def told(self) -> Told:
        """Return the ledger as it is now."""
        return Told(**orjson.loads(self._session.get(f"{self.url}/_ledger", timeout=10).content))
