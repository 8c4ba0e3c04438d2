"""Several hosts on one machine: each reaches the services over wires of its own, which a test may cut.

Where root may make network namespaces, a host is one, with a virtual cable to the services and a host name of its own:
its loopback is not ours. Elsewhere a host is a name and a loopback address. The wires are the same in both forms.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

import orjson
import psutil

from backends.bootstrap import Backends
from tests.command import Renewal

_LAUNCHER: Final = Path(__file__).with_name("host_launcher.py")
# Read at the start of every Python process of a host that has only a name of its own.
_NAMED: Final = "import os, socket\nname = os.environ['TEST_HOST_NAME']\nsocket.gethostname = lambda: name\n"
_TRIES: Final = 20
_PORTS: Final = {"redis": 6379, "amqp": 5672}
_PASSED_S: Final = 20
_BYTES: Final = 65_536


class Wire:
    """A port of a host's address behind which a service of this machine is, until it is cut."""

    def __init__(self, address: str, url: str) -> None:
        parts = urlsplit(url)
        self._service = (parts.hostname or "127.0.0.1", parts.port or _PORTS[parts.scheme])
        self._listener = socket.create_server((address, 0))
        self.port = int(self._listener.getsockname()[1])
        self.carried = 0  # bytes, both ways
        self._cut, self._ended = threading.Event(), threading.Event()
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._service)
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                if self._cut.is_set():
                    break
                self.carried += len(data)
                sink.sendall(data)
        if self._cut.is_set():
            # Neither a byte nor a good-bye: the other side must find out by itself.
            self._ended.wait()
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Let nothing through any more, and tell nobody."""
        self._cut.set()

    def close(self) -> None:
        """End every connection."""
        self._ended.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Host(Renewal):
    """The command on a host of its own, which reaches the services, given by their URLs, over its `wires`."""

    def __init__(
        self, folder: Path, name: str, *, address: str, services: Mapping[str, str], prefix: Sequence[str] = (),
        **settings: str,
    ) -> None:  # fmt: skip
        super().__init__(folder, **settings)
        self.name, self.address, self.prefix = name, address, tuple(prefix)
        self._services = dict(services)
        self.wires = {service: Wire(address, url) for service, url in services.items()}
        if not prefix:
            path = folder.resolve() / "named"
            path.mkdir()
            (path / "sitecustomize.py").write_text(_NAMED, encoding="utf-8")
            self.settings |= {"PYTHONPATH": str(path), "TEST_HOST_NAME": name}

    def at(self, service: str) -> str:
        """Return the URL of a service as this host has it."""
        parts = urlsplit(self._services[service])
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{self.address}:{self.wires[service].port}").geturl()

    def vanish(self, backends: Backends, *, noticed_by: Sequence[str] = ()) -> None:
        """Be gone from one moment to the next: no packet leaves, no process lives, and 20 s pass for who looks on.

        Services that give up silent connections within that time have noticed.
        """
        for wire in self.wires.values():
            wire.cut()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        beats = {
            field: orjson.loads(body)
            for field, body in backends.redis.hgetall(backends.keys.heartbeats).items()
            if f":{self.name}-".encode() in field
        }
        for field, facts in beats.items():
            backends.redis.hset(
                backends.keys.heartbeats, field, orjson.dumps({**facts, "at_s": facts["at_s"] - _PASSED_S})
            )
        for service in noticed_by:
            self.wires[service].close()

    def close(self) -> None:
        """End what is left of it."""
        self.kill_leftovers()
        for wire in self.wires.values():
            wire.close()


@contextlib.contextmanager
def two_hosts(
    folder: Path, *, services: Mapping[str, str], settings: Mapping[str, str], namespaces: bool
) -> Iterator[tuple[Host, Host]]:
    """Have two hosts meanwhile; with `namespaces`, in network namespaces if this machine lets us."""
    with contextlib.ExitStack() as stack:
        made = []
        for index, name in enumerate(("host-left", "host-right")):
            place = stack.enter_context(_namespace()) if namespaces and _may_make_namespaces() else None
            if place is not None:
                address, prefix = place[1], [sys.executable, str(_LAUNCHER), place[0], name]
            else:
                address, prefix = _loopback(2 + index), []
            host = Host(folder / name, name, address=address, services=services, prefix=prefix, **settings)
            stack.callback(host.close)
            made.append(host)
        yield made[0], made[1]


def _loopback(last: int) -> str:
    """Return an address of our own loopback; where it has only one, that one."""
    address = f"127.0.0.{last}"
    with contextlib.suppress(OSError), socket.create_server((address, 0)):
        return address
    return "127.0.0.1"


def _may_make_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    with contextlib.suppress(OSError), _namespace() as place:
        return subprocess.run(
            [sys.executable, _LAUNCHER, place[0], "probe", "/bin/true"], stderr=subprocess.DEVNULL, check=False
        ).returncode == 0  # fmt: skip
    return False


@contextlib.contextmanager
def _namespace() -> Iterator[tuple[str, str]]:
    """Make a network namespace with a cable to us. Yields its name and our address at the cable. Raises OSError.

    198.18.0.0/15 is kept for tests of network devices (RFC 2544), so it is nobody's network.
    """
    random = Random()
    for _ in range(_TRIES):
        mark = random.randrange(2**15)
        name, ours = f"renewal{mark}", f"rnw{mark}"
        network = f"198.18.{mark // 64 % 256}.{mark % 64 * 4}"
        base, last = network.rpartition(".")[0], int(network.rpartition(".")[2])
        if not _ip("netns", "add", name):
            continue
        wired = (
            _ip("link", "add", ours, "type", "veth", "peer", "name", "cable", "netns", name)
            and _ip("address", "add", f"{base}.{last + 1}/30", "dev", ours)
            and _ip("link", "set", ours, "up")
            and _ip("-n", name, "address", "add", f"{base}.{last + 2}/30", "dev", "cable")
            and _ip("-n", name, "link", "set", "cable", "up")
            and _ip("-n", name, "link", "set", "lo", "up")
        )
        try:
            if wired:
                yield name, f"{base}.{last + 1}"
                return
        finally:
            # The cable goes with its end.
            _ip("netns", "delete", name)
    raise OSError("no network namespace could be made")


def _ip(*arguments: str) -> bool:
    done = subprocess.run(["ip", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0
