"""The server of the HTTP API and the console: what bounds it, and how it ends."""

import threading
from types import FrameType
from typing import TYPE_CHECKING, Final

import uvicorn
from typing_extensions import override

if TYPE_CHECKING:
    from fastapi import FastAPI

_KEEP_ALIVE_S: Final = 15
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
