"""One line to the platforms: a curl handle that carries call after call, and what it says when something goes wrong."""

import logging
import math
import os
import socket
from collections.abc import Callable
from typing import Any, Final

import pycurl

from schemas.outcome import Fault
from workers import connection
from workers.connection import is_public
from workers.endpoint import Endpoint
from workers.tls import Tls
from workers.transport import Answer, Call

_HEAD_BYTES_MAX: Final = 64 * 1024
_HEADERS_MAX: Final = 100
_TRIES_MAX: Final = 2
_E_TOO_LARGE: Final = 100  # pycurl has no name for it yet
_HUNG_UP: Final = ("unexpected eof", "SSL_ERROR_SYSCALL", "reset by peer", "SSL_ERROR_ZERO_RETURN")
_FAULTS: Final[dict[int, Fault]] = {
    pycurl.E_OPERATION_TIMEDOUT: Fault.TIMEOUT,
    pycurl.E_COULDNT_RESOLVE_HOST: Fault.DNS,
    pycurl.E_URL_MALFORMAT: Fault.DNS,
    pycurl.E_PEER_FAILED_VERIFICATION: Fault.TLS,
    pycurl.E_SSL_CONNECT_ERROR: Fault.TLS,
    pycurl.E_SSL_CERTPROBLEM: Fault.TLS,
    pycurl.E_SSL_CIPHER: Fault.TLS,
    # An answer that stops too early is a broken connection, one that never was HTTP is unreadable.
    pycurl.E_COULDNT_CONNECT: Fault.CONNECTION,
    pycurl.E_GOT_NOTHING: Fault.CONNECTION,
    pycurl.E_RECV_ERROR: Fault.CONNECTION,
    pycurl.E_SEND_ERROR: Fault.CONNECTION,
    pycurl.E_PARTIAL_FILE: Fault.CONNECTION,
    pycurl.E_ABORTED_BY_CALLBACK: Fault.CONNECTION,
    pycurl.E_FTP_WEIRD_SERVER_REPLY: Fault.UNREADABLE_ANSWER,  # today called CURLE_WEIRD_SERVER_REPLY
    pycurl.E_UNSUPPORTED_PROTOCOL: Fault.UNREADABLE_ANSWER,
    pycurl.E_BAD_CONTENT_ENCODING: Fault.UNREADABLE_ANSWER,
    pycurl.E_WRITE_ERROR: Fault.UNREADABLE_ANSWER,
    _E_TOO_LARGE: Fault.UNREADABLE_ANSWER,
}
_log = logging.getLogger(__name__)


class Line:
    """A curl handle with all that every call has in common. It lives and is used in one thread."""

    def __init__(
        self, *, private_endpoints: bool, body_bytes_max: int, tls: Tls, on_open: Callable[[int], None]
    ) -> None:
        self.curl = pycurl.Curl()
        self._on_open = on_open
        self._private_endpoints, self._body_bytes_max = private_endpoints, body_bytes_max
        self._url, self._pin, self._timeout_ms, self._connect_ms = "", "", 0, 0
        self._head: list[bytes] = []
        self._body: list[bytes] = []
        self._size = self._tries = 0
        self._repeated = self._opened = self._refused = False
        for option, value in (*_OPTIONS, *_tls_options(tls)):
            self.curl.setopt(option, value)
        self.curl.unsetopt(pycurl.CAPATH)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._head.append)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._take)
        self.curl.setopt(pycurl.PREREQFUNCTION, self._count)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        self.curl.setopt(pycurl.SOCKOPTFUNCTION, self._equip)

    def dial(self, call: Call, endpoint: Endpoint, *, left_s: float) -> None:
        """Make ready for a call. Raises ValueError for headers that cannot be sent."""
        curl = self.curl
        self._size = self._tries = 0
        self._repeated = self._opened = self._refused = False
        if self._url != endpoint.url:
            curl.setopt(pycurl.URL, endpoint.url)
            self._url = endpoint.url
        if self._pin != endpoint.pin and endpoint.pin:
            curl.setopt(pycurl.RESOLVE, [endpoint.pin])
            self._pin = endpoint.pin
        curl.setopt(pycurl.HTTPHEADER, _header_lines(call.headers))
        curl.setopt(pycurl.POSTFIELDS, call.body)
        self._limit(left_s)

    def redial(self, code: int, words: str, *, left_s: float) -> bool:
        """Whether the call failed before anybody took it and may go out once more; it is made ready then."""
        hung_up = code == pycurl.E_SSL_CONNECT_ERROR and _has_hung_up(words)
        never_arrived = (code == pycurl.E_COULDNT_CONNECT or hung_up) and not self._tries and not self._refused
        if self._repeated or not never_arrived or left_s <= 0:
            return False
        self._repeated = True
        self._limit(left_s)
        return True

    def answer(self, call: Call, *, latency_s: float) -> Answer:
        """Return what came of a call that ended well, as far as curl can tell, and forget it."""
        head, count = b"".join(self._head), len(self._head)
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._forget()
        if len(head) > _HEAD_BYTES_MAX or count > _HEADERS_MAX + 2:
            return Answer(call=call, fault=Fault.UNREADABLE_ANSWER, latency_s=latency_s)
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        return Answer(call=call, status=status, headers=_headers_of(head), body=body, latency_s=latency_s)

    def failure(self, call: Call, code: int, words: str, *, latency_s: float) -> Answer:
        """Return the fault that an error of curl stands for, and forget the call."""
        too_large = self._size > self._body_bytes_max
        self._forget()
        if self._refused and code == pycurl.E_COULDNT_CONNECT:
            fault = Fault.PRIVATE_ADDRESS
        elif too_large and code == pycurl.E_WRITE_ERROR:
            fault = Fault.ANSWER_TOO_LARGE
        elif code == pycurl.E_SSL_CONNECT_ERROR and _has_hung_up(words):
            # In the middle of the handshake: a restart or an overload, no word about certificates.
            fault = Fault.CONNECTION
        elif code == pycurl.E_RECV_ERROR and " alert " in words:
            # From TLS 1.3 on a platform that misses our certificate says so only after the handshake.
            fault = Fault.TLS
        else:
            fault = _FAULTS.get(code, Fault.CONNECTION)
            if code not in _FAULTS:
                # Its words are left out: they may repeat what the platform sent.
                _log.error("unforeseen error %d of curl in a call", code)
        return Answer(call=call, fault=fault, latency_s=latency_s)

    @property
    def opened(self) -> bool:
        """Whether this call tried to open a connection."""
        return self._opened

    def _limit(self, left_s: float) -> None:
        timeout_ms = max(math.ceil(left_s * 1000), 1)
        if timeout_ms != self._timeout_ms:
            self.curl.setopt(pycurl.TIMEOUT_MS, timeout_ms)
            self._timeout_ms = timeout_ms
        connect_ms = math.ceil(connection.CONNECT_TIMEOUT_S * 1000)
        if connect_ms != self._connect_ms:
            self.curl.setopt(pycurl.CONNECTTIMEOUT_MS, connect_ms)
            self._connect_ms = connect_ms

    def _forget(self) -> None:
        self._head.clear()
        self._body.clear()

    def _take(self, piece: bytes) -> int | None:
        self._size += len(piece)
        if self._size > self._body_bytes_max:
            return 0  # fewer than there were: curl ends the call
        self._body.append(piece)
        return None

    def _count(self, *_: object) -> int:
        """Called before each request: curl itself repeats a call up to five times where kept connections are dead."""
        self._tries += 1
        return int(pycurl.PREREQFUNC_OK if self._tries <= _TRIES_MAX else pycurl.PREREQFUNC_ABORT)

    def _open(self, _purpose: int, address: Any) -> Any:
        """Open a socket, after a look at the very address that is connected to: a name could say something else now."""
        self._opened = True
        family, kind, protocol, where = address
        if self._refused or not (self._private_endpoints or is_public(str(where[0]))):
            self._refused = True
            return pycurl.SOCKET_BAD
        return _Socket(family, kind, protocol)

    def _equip(self, number: int, _purpose: int) -> int:
        os.set_inheritable(number, False)  # noqa: FBT003 - it has no name
        self._on_open(number)
        return int(pycurl.SOCKOPT_OK)


class _Socket(socket.socket):
    """A socket of which curl takes a copy, so that nobody misses it when it goes."""

    def __del__(self) -> None:
        self.close()


# No redirect, no cookie and no HTTP before 1.0 is what curl does unless asked; proxies of the environment are not.
_OPTIONS: Final[tuple[tuple[int, Any], ...]] = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.POST, 1),
    (pycurl.PROXY, ""),
    (pycurl.NOPROXY, "*"),
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
    (pycurl.PATH_AS_IS, 1),
    (pycurl.ACCEPT_ENCODING, "gzip"),
)


def _tls_options(tls: Tls) -> list[tuple[int, Any]]:
    options: list[tuple[int, Any]] = [
        (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),  # and newer
        (pycurl.SSL_VERIFYPEER, 1),
        (pycurl.SSL_VERIFYHOST, 2),
        (pycurl.SSL_OPTIONS, pycurl.SSLOPT_NO_PARTIALCHAIN),
        (pycurl.CAINFO, str(tls.authorities)),
    ]
    if tls.client_certificate:
        options.append((pycurl.SSLCERT, str(tls.client_certificate)))
    return options


def _header_lines(headers: dict[str, str]) -> list[bytes]:
    """Spell headers for curl. Raises ValueError where one would end its line, or is in no alphabet that HTTP knows."""
    spelled = [f"{name}: {value}" if value else f"{name};" for name, value in headers.items()]
    spelled.append("Expect:")  # never ask first whether a large body may come
    block = "\n".join(spelled).encode("latin-1")
    lines = block.split(b"\n")
    if len(lines) != len(spelled) or b"\r" in block:
        raise ValueError("a header value has a line break")
    return lines


def _headers_of(head: bytes) -> dict[str, str]:
    """Read the last header block: what an interim answer said before it, and a trailer after the body, do not count."""
    text = head.decode("latin-1").replace("\r\n", "\n")
    if text.startswith("HTTP/1.1 1"):
        text = text[text.rfind("\nHTTP/") + 1 :]
    lines = text.partition("\n\n")[0].split("\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _has_hung_up(words: str) -> bool:
    return any(sign in words for sign in _HUNG_UP)
