"""The console beside the rest: an address that answers as long as the supervisor lives, and how to come in."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from backends.bootstrap import Backends
from backends.settings import CONSOLE_OFF, Settings
from ops.console_key import local_key
from ops.supervisor import Supervisor
from schemas.errors import ConfigurationError

_BACKLOG: Final = 512


@contextlib.contextmanager
def front_door(
    supervisor: Supervisor, backends: Backends, *, key_folder: Path | None, anywhere: bool, say: Callable[[str], None]
) -> Iterator[None]:
    """Listen on RENEWAL_CONSOLE and serve there, unless it is off.

    With `anywhere` it is a guest of something else: the console starts when first somebody asks, and a port that is
    taken is no reason to fail, for any other will do. A key for this machine is kept in `key_folder`, where one is
    given. Raises ConfigurationError.
    """
    if backends.settings.console == CONSOLE_OFF:
        yield
        return
    with contextlib.closing(_listen(backends, anywhere=anywhere)) as sock:
        if anywhere:
            supervisor.start_when_asked("console", sock)
        else:
            # At once: it also reads on what was handed in over HTTP before it ended.
            supervisor.start("console", "--descriptor", str(sock.fileno()), descriptors=(sock.fileno(),))
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


def console_socket(settings: Settings) -> socket.socket:
    """Listen where RENEWAL_CONSOLE says. Raises ConfigurationError if somebody else does, or if nobody is to."""
    if settings.console == CONSOLE_OFF:
        raise ConfigurationError("RENEWAL_CONSOLE: is off; give an address and a port, such as 127.0.0.1:8088")
    host, _, port = settings.console.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=_family(host), backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"RENEWAL_CONSOLE: cannot listen on {settings.console} ({error})") from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
