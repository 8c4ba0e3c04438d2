"""The server of the HTTP API and the console: where it listens, what bounds it, and how it ends."""

import socket
import threading
from types import FrameType
from typing import TYPE_CHECKING, Final

import uvicorn
from typing_extensions import override

from backends.settings import Settings
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi import FastAPI

_KEEP_ALIVE_S: Final = 15
_BACKLOG: Final = 512
_CONCURRENCY_MAX: Final = 500
_GRACE_S: Final = 10


class Server(uvicorn.Server):
    """Sets `ending` as soon as it is told to stop, so that what would go on without end ends then."""

    def __init__(self, config: uvicorn.Config, ending: threading.Event) -> None:
        super().__init__(config)
        self._ending = ending

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending.set()
        super().handle_exit(sig, frame)


def server_config(app: "FastAPI") -> uvicorn.Config:
    """Return how the HTTP API is served: with bounds on heads, connections and the time that its end takes."""
    return uvicorn.Config(
        app,
        # It bounds how long a head may be; the faster one does not.
        http="h11",
        limit_concurrency=_CONCURRENCY_MAX,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
        log_config=None,
        access_log=False,
        server_header=False,
    )


def console_socket(settings: Settings) -> socket.socket:
    """Listen where RENEWAL_CONSOLE says. Raises ConfigurationError if somebody else does."""
    host, _, port = settings.console.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=_family(host), backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"RENEWAL_CONSOLE: cannot listen on {settings.console} ({error})") from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
