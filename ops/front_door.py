"""The console beside the rest: an address that answers as long as the supervisor lives, and how to come in."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from backends.bootstrap import Backends
from ops.console_key import local_key
from ops.processes import console_socket
from ops.supervisor import Supervisor
from schemas.errors import ConfigurationError


@contextlib.contextmanager
def front_door(
    supervisor: Supervisor, backends: Backends, *, key_folder: Path | None, anywhere: bool, say: Callable[[str], None]
) -> Iterator[None]:
    """Listen on RENEWAL_CONSOLE; the console itself starts when first somebody asks.

    With `anywhere`, a port that is taken is no reason to fail: any other will do. A key for this machine is kept in
    `key_folder`, where one is given. Raises ConfigurationError.
    """
    with contextlib.closing(_listen(backends, anywhere=anywhere)) as sock:
        supervisor.start_when_asked("console", sock)
        say(f"console on {_address(sock)}; {_way_in(backends, key_folder)}")
        yield


def _listen(backends: Backends, *, anywhere: bool) -> socket.socket:
    try:
        return console_socket(backends.settings)
    except ConfigurationError:
        if not anywhere:
            raise
        host = backends.settings.console.rpartition(":")[0]
        return console_socket(backends.settings.model_copy(update={"console": f"{host}:0"}))


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _way_in(backends: Backends, key_folder: Path | None) -> str:
    if key_folder is None:
        return "log in with a key made by `renewal keys api create`"
    return f"log in with the key in {local_key(backends, key_folder)}"
