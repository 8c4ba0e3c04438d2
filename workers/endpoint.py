"""Where a platform is: its endpoint, and the addresses behind the name in it.

Look-ups run in threads of their own: a name server that hangs holds up nobody but who asks for that name.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from urllib3.exceptions import LocationValueError
from urllib3.util import parse_url

_PORTS: Final = {"http": 80, "https": 443}
# Addresses are asked for again after this; the old ones serve until there is an answer, or until nobody answers there.
_FRESH_S: Final = 60.0
_ASK_AGAIN_S: Final = 5.0
_ENDPOINTS_MAX: Final = 1024


def look_up(host: str, port: int, *, tell: Callable[[list[Any]], None]) -> None:
    """Tell what `getaddrinfo` finds, or an empty list, from a thread: nothing else ends a look-up that hangs."""

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        tell(found)

    threading.Thread(target=ask, name="transport-dns", daemon=True).start()


@dataclass(slots=True, eq=False)
class Endpoint:
    """A URL, and in `pin` the addresses of its host in the words of CURLOPT_RESOLVE.

    `pin` is None as long as none is known, and empty where the host is an address already.
    """

    url: str
    host: str
    port: int
    pin: str | None = None
    fresh_until: float = 0.0
    looking: bool = False

    @classmethod
    def of(cls, url: str) -> "Endpoint":
        """Read a URL. Raises LocationValueError for one that leads nowhere."""
        parts = parse_url(url)
        if parts.host is None or parts.scheme not in _PORTS:
            raise LocationValueError("no host, or no scheme that we speak")
        # A host in Chinese is spelled for the name system; every other URL stays as it is in the catalogue.
        spelled = url if url.isascii() else parts.url
        endpoint = cls(url=spelled, host=parts.host, port=parts.port or _PORTS[parts.scheme])
        try:
            ipaddress.ip_address(parts.host.strip("[]"))
        except ValueError:
            return endpoint
        endpoint.pin, endpoint.fresh_until = "", float("inf")
        return endpoint

    def learn(self, found: list[Any]) -> None:
        """Take over the answer of a look-up. None is no reason to give up addresses that may still serve."""
        self.looking = False
        # An address with a zone is one of our own network cards.
        addresses = dict.fromkeys(str(address[0]) for *_, address in found if "%" not in str(address[0]))
        if addresses:
            self.pin = f"{self.host}:{self.port}:{','.join(f'[{a}]' if ':' in a else a for a in addresses)}"
        self.fresh_until = time.monotonic() + (_FRESH_S if addresses else _ASK_AGAIN_S)

    def doubt(self) -> None:
        """Nobody could be connected to there: ask before the next call."""
        if self.pin:
            self.pin = None


class Endpoints:
    """The endpoints in use. All but `tell` happens in one thread; `tell` brings a look-up's answer from another one."""

    def __init__(self, tell: Callable[[Endpoint, list[Any]], None]) -> None:
        self._tell = tell
        self._known: dict[str, Endpoint] = {}

    def at(self, url: str, *, now: float) -> Endpoint:
        """Return an endpoint; where its addresses are unknown or old, somebody is asking. Raises LocationValueError."""
        endpoint = self._known.get(url)
        if endpoint is None:
            endpoint = Endpoint.of(url)
            if len(self._known) >= _ENDPOINTS_MAX:
                self._known.clear()
            self._known[url] = endpoint
        if (endpoint.pin is None or endpoint.fresh_until <= now) and not endpoint.looking:
            endpoint.looking = True
            look_up(endpoint.host, endpoint.port, tell=lambda found: self._tell(endpoint, found))
        return endpoint
