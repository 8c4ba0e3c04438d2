"""A server that behaves as platforms do, and worse: what it does with each request is up to the test."""

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from workers.tls import Tls


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request as the server sees it."""

    index: int  # of all requests to this server
    turn: int  # of the requests on this connection
    connection: socket.socket
    over: threading.Event  # set when the test ends: nobody drips for ever
    headers: dict[str, str]
    body: bytes

    def drip(self, piece: bytes) -> None:
        """Send a piece again and again, far faster than any socket timeout, until somebody hangs up."""
        with suppress(OSError):
            while not self.over.wait(0.05):
                self.connection.sendall(piece)

    def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        with suppress(OSError):
            self.connection.sendall(data)


# Answers with these bytes and keeps the connection, or with None hangs up.
Behaviour = Callable[[Exchange], bytes | None]


@dataclass
class Server:
    """A server on 127.0.0.1 with a thread for each connection."""

    behaviour: Behaviour
    tls: ssl.SSLContext | None = None
    requests: list[Exchange] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    open_most: int = 0

    def __post_init__(self) -> None:
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/v1/renewals"

    def close(self) -> None:
        """Hang up everywhere and end every thread."""
        self.over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._sockets.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self.tls:
                with self.tls.wrap_socket(connection, server_side=True) as secured:
                    self._sockets.append(secured)
                    self._talk(secured)
            else:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as reader:
            for turn in itertools.count():
                lines = list(itertools.takewhile(lambda line: line.strip(), iter(reader.readline, None)))
                headers = dict(line.decode().rstrip().lower().split(": ", 1) for line in lines[1:])
                if not headers:
                    return
                body = reader.read(int(headers["content-length"]))
                reply = self._answer(connection, turn=turn, headers=headers, body=body)
                if reply is None:
                    return
                connection.sendall(reply)

    def _answer(self, connection: socket.socket, *, turn: int, headers: dict[str, str], body: bytes) -> bytes | None:
        with self._lock:
            self.open_now += 1
            self.open_most = max(self.open_most, self.open_now)
            self.arrivals.append(time.monotonic())
            exchange = Exchange(
                index=len(self.requests), turn=turn, connection=connection, over=self.over, headers=headers, body=body
            )
            self.requests.append(exchange)
        try:
            return self.behaviour(exchange)
        finally:
            with self._lock:
                self.open_now -= 1


def reply(body: bytes = b'{"code":"UNBOUND"}', *, status: str = "200 OK", **headers: str) -> bytes:
    """Return an HTTP answer; a header name may be written with underscores."""
    fields = {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def friendly(exchange: Exchange) -> bytes:
    """Answer at once."""
    return reply()


def self_signed(folder: Path, *, address: str) -> tuple[ssl.SSLContext, Tls]:
    """Make a certificate that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "platform")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    pem = folder / "platform.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(pem)
    return server_side, Tls(authorities=pem)
