"""The supervisor of the all-in-one run: starts the processes, starts them again when they end, stops them in order."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from backends.embedded import EmbeddedValkey
from backends.settings import Settings
from schemas.errors import RenewalError

# Longer than the longest attempt may hold its slot, so that a stop never cuts a call.
_STOP_S = 130.0
_KILLED_S = 5.0
_FAILURES_MAX = 3
_FAILURES_WINDOW_S = 60.0
_TAIL_BYTES = 2000
log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class _Child:
    role: str
    name: str
    arguments: tuple[str, ...]
    descriptors: tuple[int, ...]
    process: "subprocess.Popen[bytes] | None" = None
    failed: deque[float] = field(default_factory=deque)


class Supervisor:
    """Children of this process; none outlives the context."""

    def __init__(self, settings: Settings, *, logs: Path, server: EmbeddedValkey | None = None) -> None:
        self.settings, self._logs, self._server = settings, logs, server
        self._children: list[_Child] = []
        self._dormant: list[tuple[str, socket.socket]] = []
        self.events: deque[str] = deque(maxlen=50)

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, role: str, *arguments: str, count: int = 1, descriptors: tuple[int, ...] = ()) -> None:
        """Start `count` processes `renewal ROLE ARGUMENTS`; `descriptors` are handed down to them."""
        for number in range(1, count + 1):
            name = f"{role}-{number}" if count > 1 else role
            child = _Child(role=role, name=name, arguments=arguments, descriptors=descriptors)
            self._children.append(child)
            self._launch(child)

    def start_when_asked(self, role: str, sock: socket.socket) -> None:
        """Start a process `renewal ROLE` on a listening socket as soon as somebody connects to it.

        The socket stays ours: who asks while the process starts, or starts again, only waits a moment.
        """
        self._dormant.append((role, sock))

    def _start_asked(self) -> None:
        # Not `select`, which fails for a descriptor above 1023.
        poll = select.poll()
        for _, sock in self._dormant:
            poll.register(sock, select.POLLIN)
        asked = {descriptor for descriptor, _ in poll.poll(0)}
        for role, sock in [each for each in self._dormant if each[1].fileno() in asked]:
            self._dormant.remove((role, sock))
            self.start(role, "--descriptor", str(sock.fileno()), descriptors=(sock.fileno(),))

    def _launch(self, child: _Child) -> None:
        with (self._logs / f"{child.name}.log").open("ab") as output:
            child.process = subprocess.Popen(
                [sys.executable, "-m", "ops.cli.main", child.role, *child.arguments, "--with-parent"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self.settings.environment(),
                # Ctrl-C in a terminal reaches the whole group: children must hear of it from us, in order.
                start_new_session=True,
                pass_fds=(*(self._server.inherited if self._server else ()), *child.descriptors),
            )

    def check(self) -> None:
        """Start again what has ended. Raises RenewalError when a process keeps ending, with the end of its log."""
        if self._server is not None and self._server.revive():
            self.events.append("the embedded Valkey ended, started again")
            log.warning("process.ended", process="valkey", how="unknown")
        self._start_asked()
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            self.events.append(f"{child.name} ended ({_how(child.process.returncode)}), started again")
            log.warning("process.ended", process=child.name, how=_how(child.process.returncode))
            if self._gives_up(child):
                raise RenewalError(
                    f"{child.name} does not stay up ({_how(child.process.returncode)}):\n{self._tail(child)}"
                )
            self._close_pipe(child)
            self._launch(child)

    def _gives_up(self, child: _Child) -> bool:
        """Whether a process ends by its own will again and again; one that was killed is always started again."""
        now = time.monotonic()
        if child.process is not None and child.process.returncode > 0:
            child.failed.append(now)
        while child.failed and now - child.failed[0] > _FAILURES_WINDOW_S:
            child.failed.popleft()
        return len(child.failed) >= _FAILURES_MAX

    def has(self, role: str) -> bool:
        """Whether processes of this role are ours to keep alive."""
        return any(child.role == role for child in self._children)

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        return {child.name: child.process.pid for child in self._children if child.process and _lives(child)}

    def stop(self) -> None:
        """Stop everything, the fake world last."""
        self._dormant.clear()
        self._stop_role("console")
        self.stop_work()
        self._stop_role("simulate")

    def stop_work(self) -> None:
        """Stop first who ticks, then who makes calls, then who releases, then who records."""
        for role in ("beat", "worker", "scheduler", "recorder"):
            self._stop_role(role)

    def _stop_role(self, role: str) -> None:
        group = [child for child in self._children if child.role == role]
        for child in group:
            self._terminate(child)
        for child in group:
            self._await_end(child)
            self._children.remove(child)

    def _terminate(self, child: _Child) -> None:
        if child.process is not None:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)

    def _await_end(self, child: _Child) -> None:
        if child.process is None:
            return
        try:
            child.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("process.killed", process=child.name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait(_KILLED_S)
        self._close_pipe(child)

    def _close_pipe(self, child: _Child) -> None:
        if child.process is not None and child.process.stdin is not None:
            with contextlib.suppress(OSError):
                child.process.stdin.close()

    def _tail(self, child: _Child) -> str:
        text = (self._logs / f"{child.name}.log").read_bytes()[-_TAIL_BYTES:]
        return text.decode("utf-8", "replace").strip()


def _lives(child: _Child) -> bool:
    return child.process is not None and child.process.poll() is None


def _how(returncode: int) -> str:
    if returncode < 0:
        return signal.Signals(-returncode).name
    return f"exit code {returncode}"
