"""Connections to strangers: guarded addresses, one time limit for all of a call, and the fault behind each error."""

import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import DecodeError, HTTPError, LocationValueError, NewConnectionError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from schemas.outcome import Fault
from workers.endpoint import look_up

CONNECT_TIMEOUT_S: Final = 3.0
_SCAN_EVERY_S: Final = 0.1
_POOLS_MAX: Final = 1024
_CAUSES_MAX: Final = 8
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_log = logging.getLogger(__name__)
# Its one warning repeats header lines of the answer that it could not read, and those may hold a number (rule 8).
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


@dataclass(slots=True)
class Watch:
    """One open call, as its connection and the watchdog see it."""

    cut_at: float
    private_endpoints: bool
    sock: socket.socket | None = None
    fresh: bool = False  # this very attempt opened the connection
    cut: bool = False


class _Current(threading.local):
    watch: Watch


_current = _Current()


class Watchdog:
    """Shuts the socket of each call that is overdue: a socket timeout alone starts again with each byte that drips."""

    def __init__(self) -> None:
        self._open: dict[int, Watch] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._scan, name="transport-watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def over(self, watch: Watch) -> Iterator[None]:
        """Watch a call while the block runs in this thread."""
        _current.watch = watch
        self._open[id(watch)] = watch
        try:
            yield
        finally:
            watch.sock = None  # the connection may serve another call in a moment
            del self._open[id(watch)]

    def close(self) -> None:
        """Cut every open call and end the thread."""
        self._closed.set()
        self._thread.join()

    def _scan(self) -> None:
        while not self._closed.wait(_SCAN_EVERY_S):
            self._cut(before=time.monotonic())
        self._cut(before=float("inf"))

    def _cut(self, *, before: float) -> None:
        for watch in tuple(self._open.values()):
            if watch.cut_at > before:
                continue
            watch.cut = True
            sock = watch.sock
            if sock:
                with suppress(OSError):
                    # The plain method: that of an SSLSocket would pull its state from under the thread that reads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Unconnected(NewConnectionError):
    """No connection could be opened; `fault` says why."""

    def __init__(self, connection: HTTPConnection, fault: Fault) -> None:
        super().__init__(connection, fault.value)
        self.fault = fault


class _TooLarge(HTTPError):
    """The answer has more bytes than we take."""


class _Connection(HTTPConnection):
    """Opens to allowed addresses only, within one time limit for look-up, connect and handshake."""

    _held: list[bytes] | None = None

    @override
    def _new_conn(self) -> socket.socket:
        open_until = time.monotonic() + float(self.timeout or CONNECT_TIMEOUT_S)
        addresses = _resolve(self, until=open_until)
        fault = Fault.DNS
        for untried, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            # Checked on the very address that is connected to: a second look-up could say something else.
            if not (_current.watch.private_endpoints or is_public(str(address[0]))):
                raise _Unconnected(self, Fault.PRIVATE_ADDRESS)
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(_left_s(open_until) / untried)
                sock.connect(address)
            except OSError as error:
                sock.close()
                fault = Fault.TIMEOUT if isinstance(error, TimeoutError) else Fault.CONNECTION
            else:
                sock.settimeout(_left_s(open_until))  # what is left is for the handshake
                return sock
        raise _Unconnected(self, fault)

    @override
    def connect(self) -> None:
        _current.watch.fresh = True
        try:
            super().connect()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # Hung up in the middle of the handshake: a restart or an overload, no word about certificates.
            raise _Unconnected(self, Fault.CONNECTION) from None
        except ssl.SSLError:
            raise _Unconnected(self, Fault.TLS) from None
        self._take_over()

    @override
    def request(self, *args: Any, **kwargs: Any) -> None:
        self._held = []
        try:
            super().request(*args, **kwargs)
        finally:
            parts, self._held = self._held, None
        if self.sock:
            self._take_over()
        # Head and body in one packet: half the system calls, here and at the platform.
        super().send(b"".join(parts))

    @override
    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)

    def _take_over(self) -> None:
        """Put the socket under the call's own limit: what urllib3 allows for sending is the time for connecting."""
        watch = _current.watch
        watch.sock = self.sock
        self.sock.settimeout(_left_s(watch.cut_at))


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(HTTPAdapter):
    """The adapter of requests without what a fixed endpoint never needs: proxies, cookies, certificate files, URLs."""

    def __init__(self, *, connections_max: int, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._routes: dict[str, tuple[HTTPConnectionPool, str]] = {}
        super().__init__(pool_connections=_POOLS_MAX, pool_maxsize=connections_max, max_retries=0, pool_block=False)

    @override
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._tls)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    @override
    def get_connection_with_tls_context(self, request: PreparedRequest, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._route(str(request.url))[0]

    @override
    def request_url(self, request: PreparedRequest, _proxies: Any) -> str:
        return self._route(str(request.url))[1]

    @override
    def cert_verify(self, *_: Any) -> None:
        """The TLS context of the pool says what to trust; it is read once, not for each call."""

    @override
    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        response = Response()
        response.raw = resp
        return response

    def _route(self, url: str) -> tuple[HTTPConnectionPool, str]:
        route = self._routes.get(url)
        if route is None:
            if len(self._routes) >= _POOLS_MAX:
                self._routes.clear()
            parts = urlsplit(url)
            pool = self.poolmanager.connection_from_url(url)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            route = self._routes[url] = (pool, target)
        return route


def is_public(address: str) -> bool:
    """Whether an IP address is one that strangers may be called at: global, unicast, and no detour to a private one.

    IPv6 addresses that carry an IPv4 address (mapped, 6to4, NAT64 of RFC 6052) are judged by what they carry.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(ip.packed[-4:]) if ip in _NAT64 else None)
        if carried:
            return is_public(str(carried))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _resolve(connection: HTTPConnection, *, until: float) -> list[Any]:
    """Look a name up; no address if it has none."""
    found: SimpleQueue[list[Any]] = SimpleQueue()
    look_up(connection.host, int(connection.port), tell=found.put)
    try:
        return found.get(timeout=_left_s(until))
    except Empty:
        raise _Unconnected(connection, Fault.TIMEOUT) from None


def _left_s(until: float) -> float:
    return max(until - time.monotonic(), 0.001)


def read_body(raw: HTTPResponse, *, bytes_max: int) -> bytes:
    """Return the decoded body; the connection goes back to its pool, or is closed where something is left in it."""
    try:
        body = raw.read(bytes_max + 1, decode_content=True)
        if len(body) > bytes_max:
            raise _TooLarge(f"more than {bytes_max} bytes")
        return body
    finally:
        if not raw.isclosed():
            raw.close()


# The first that fits. An answer that stops too early is a broken connection, one that never was HTTP is unreadable.
_FAULTS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], Fault], ...]] = (
    (_TooLarge, Fault.ANSWER_TOO_LARGE),
    (LocationValueError, Fault.DNS),  # a host that no name can have
    ((TimeoutError, Urllib3TimeoutError), Fault.TIMEOUT),
    ((OSError, http.client.IncompleteRead), Fault.CONNECTION),
    ((DecodeError, http.client.HTTPException, HTTPError, ValueError), Fault.UNREADABLE_ANSWER),
)


def _innermost(error: BaseException) -> BaseException:
    """Return what the layers wrapped: requests wraps urllib3, that wraps http.client, and the socket knows best."""
    for _ in range(_CAUSES_MAX):
        inner = [e for e in (getattr(error, "reason", None), *error.args) if isinstance(e, BaseException)]
        if not inner or isinstance(error, _Unconnected | DecodeError):
            break
        error = inner[0]
    return error


def never_arrived(error: BaseException, watch: Watch) -> bool:
    """Whether one immediate repeat is right: nobody took the call, or a kept connection turned out to be closed.

    In the second case the platform may have seen it. The idempotency key makes that harmless.
    """
    cause = _innermost(error)
    if isinstance(cause, _Unconnected):
        return cause.fault is Fault.CONNECTION
    return isinstance(cause, ConnectionError) and not watch.fresh and not watch.cut


def fault_of(error: BaseException) -> Fault:
    """Return the fault that an error of requests, urllib3, http.client, ssl or the socket stands for."""
    cause = _innermost(error)
    if isinstance(cause, _Unconnected):
        return cause.fault
    # From TLS 1.3 on a platform that misses our certificate says so only after the handshake.
    if isinstance(cause, ssl.SSLError) and "_ALERT_" in str(cause.reason):
        return Fault.TLS
    for kinds, fault in _FAULTS:
        if isinstance(cause, kinds):
            return fault
    # Its text is left out: it may repeat what the platform sent.
    _log.error("unforeseen %s in a call", type(cause).__name__)
    return Fault.CONNECTION
