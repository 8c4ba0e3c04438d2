"""The console on a real socket: nobody holds it up, and as a process it ends when it is told to."""

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import uvicorn

from backends.embedded import EmbeddedValkey
from backends.vault import new_key_file, write_key_file
from ops.api import guard
from ops.api.server import server_config
from schemas.ids import new_id
from tests.command import Renewal, free_port, port_is_open, wait_until, write_platform
from tests.fixtures_web import Api


@pytest.fixture
def port(api: Api) -> Iterator[int]:
    """The port of a server of this process, set up as that of the console is."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as sock:
        server = uvicorn.Server(server_config(api.app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        yield int(sock.getsockname()[1])
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def begun(port: int, head: str, body: bytes = b"") -> socket.socket:
    """Begin a request byte by byte. Returns the open connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(f"{head}\r\nHost: here\r\nContent-Type: application/json\r\n\r\n".encode() + body)
    return connection


def told(connection: socket.socket) -> bytes:
    """Return all that is answered until the server closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            found += part
    return found


@pytest.mark.parametrize("told_length", [True, False])
def test_a_body_that_is_too_large_is_cut_and_the_connection_with_it(api: Api, port: int, told_length: bool) -> None:
    """Whether its length is told or not; what is left of it is not read."""
    key = next(iter(api.keys.values()))
    head = f"POST /v1/lookups HTTP/1.1\r\nAuthorization: Bearer {key}\r\n"
    if told_length:
        connection = begun(port, f"{head}Content-Length: {guard.BODY_BYTES_MAX + 1}")
    else:
        chunk = b"%x\r\n" % guard.BODY_BYTES_MAX + b"x" * guard.BODY_BYTES_MAX + b"\r\n1\r\nx\r\n"
        connection = begun(port, f"{head}Transfer-Encoding: chunked", chunk)
    with connection:
        assert told(connection).startswith(b"HTTP/1.1 413")


def test_a_body_that_drips_is_cut_and_others_are_served_meanwhile(
    api: Api, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred of them would else hold the server for ever."""
    monkeypatch.setattr(guard, "GRACE_S", 0.2)
    key = next(iter(api.keys.values()))
    head = f"POST /v1/lookups HTTP/1.1\r\nAuthorization: Bearer {key}\r\nContent-Length: 100"
    with begun(port, head, b"{") as connection:
        assert 200 == requests.get(f"http://127.0.0.1:{port}/healthz", timeout=20).status_code
        assert told(connection).startswith(b"HTTP/1.1 408")


def test_a_head_without_end_is_cut(port: int) -> None:
    """Heads are memory too."""
    with begun(port, "GET /healthz HTTP/1.1\r\nX-Long: " + "x" * 400_000) as connection:
        assert not told(connection).startswith(b"HTTP/1.1 200")


def test_it_is_a_process_that_takes_a_key_of_the_command_and_ends_by_a_signal(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """A container is stopped by SIGTERM; what ends otherwise is started again as if it had crashed."""
    keys, port = tmp_path / "number-keys", free_port()
    write_key_file(keys, new_key_file())
    write_platform(tmp_path / "catalogue", "alpha")
    renewal = Renewal(
        tmp_path / "clean", RENEWAL_CATALOGUE=str(tmp_path / "catalogue"), RENEWAL_REDIS_URL=valkey.url,
        RENEWAL_NAMESPACE=f"t{new_id()}",
        RENEWAL_NUMBER_KEYS_FILE=str(keys), RENEWAL_CONSOLE=f"127.0.0.1:{port}",
    )  # fmt: skip
    with renewal.started("console") as started:
        made = renewal.run("keys", "api", "create", "pipeline", "--scope", "admin", "--for", "1d")
        # Alone on standard output, so that a pipeline can take it as it is.
        assert (0, 1) == (made.code, len(made.out.splitlines())), made.told
        wait_until(lambda: port_is_open(port) or started.process.poll() is not None, what="the console", seconds=60)
        headers = {"Authorization": f"Bearer {made.out.strip()}"}
        assert 200 == requests.get(f"http://127.0.0.1:{port}/v1/runs", headers=headers, timeout=20).status_code
        assert "ready" == requests.get(f"http://127.0.0.1:{port}/readyz", timeout=20).json()["status"]
        ident = made.out.split("_")[1]
        assert 0 == renewal.run("keys", "api", "revoke", ident, "--reason", "it has served").code
        assert 401 == requests.get(f"http://127.0.0.1:{port}/v1/runs", headers=headers, timeout=20).status_code
        started.send(signal.SIGTERM)
        done = started.wait(60)
    assert 0 == done.code, done.told
    assert "request.ended" in done.err
    secret = made.out.strip().rpartition("_")[2]
    assert not [path for path in renewal.files() if secret.encode() in path.read_bytes()]
