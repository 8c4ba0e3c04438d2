"""The address to which a platform under trial calls back: it writes down what comes, and refuses the first once."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

from typing_extensions import override

from backends.signature import SignatureProblem, verify
from ops.conformance.played import NOT_NOW, TAKEN, Heard
from schemas.errors import BackendUnavailable

BODY_BYTES_MAX: Final = 1024 * 1024
_HEARD_MAX: Final = 1000
_SILENT_S: Final = 10.0
_FORGED, _FULL, _TOO_LARGE = 401, 429, 413


class Ear(AbstractContextManager["Ear"]):
    """Listens while it is open. Safe to use from many threads. Raises BackendUnavailable where the address is taken.

    The first callback that is well signed is answered 503, so that its sender shows whether he comes again.
    """

    def __init__(self, host: str, port: int, *, keys: Sequence[str], clock: Callable[[], datetime]) -> None:
        self._keys, self._clock = tuple(keys), clock
        self._changed = threading.Condition()
        self._heard: list[Heard] = []
        ear = self

        class _Handler(_Request):
            @override
            def hear(self, headers: dict[str, str], body: bytes) -> int:
                return ear.hear(self.path, headers, body)

        try:
            self._server = ThreadingHTTPServer((host, port), _Handler)
        except OSError as error:
            raise BackendUnavailable(f"--listen {host}:{port}: {error.strerror}") from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="ear", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    @property
    def heard(self) -> tuple[Heard, ...]:
        """Everything that has come, in its order."""
        with self._changed:
            return tuple(self._heard)

    @override
    def __enter__(self) -> Self:
        self._thread.start()
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hear(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Write down one request; returns the status that it is answered with."""
        now = self._clock()
        with self._changed:
            status = self._status(headers, body, now=now)
            if len(self._heard) < _HEARD_MAX:
                self._heard.append(Heard(path=path, headers=headers, body=body, at=now, status=status))
            self._changed.notify_all()
            return status

    def wait(self, enough: Callable[[tuple[Heard, ...]], bool], *, seconds: float) -> None:
        """Return when what was heard is enough, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: enough(tuple(self._heard)), timeout=seconds)

    def _status(self, headers: dict[str, str], body: bytes, *, now: datetime) -> int:
        if len(self._heard) >= _HEARD_MAX:
            return _FULL
        try:
            verify(self._keys, headers, body, now=now)
        except SignatureProblem:
            return _FORGED
        turned_away = any(heard.status == NOT_NOW for heard in self._heard)
        return TAKEN if turned_away else NOT_NOW


class _Request(BaseHTTPRequestHandler):
    """One request, read in bounded time and memory."""

    protocol_version = "HTTP/1.1"
    timeout = _SILENT_S

    def hear(self, headers: dict[str, str], body: bytes) -> int:
        """Return the status for a request that was read."""
        raise NotImplementedError

    def do_POST(self) -> None:
        """Read, hand on, answer."""
        size = self.headers.get("content-length", "")
        if not size.isdecimal() or int(size) > BODY_BYTES_MAX:
            self.close_connection = True
            status = _TOO_LARGE
        else:
            body = self.rfile.read(int(size))
            status = self.hear({name.lower(): value for name, value in self.headers.items()}, body)
        self.send_response(status)
        if status == NOT_NOW:
            self.send_header("retry-after", "1")
        self.send_header("content-length", "0")
        self.end_headers()

    @override
    def log_message(self, *_: object) -> None:
        """Stay quiet: what was heard is the record."""
