"""The whole system as processes of its own, each of which a test can kill, freeze and start again.

Status store and broker are one Valkey on a port that it keeps through its own death. The platforms are a simulator that
is told when to misbehave. Nothing here knows how the system repairs itself: it hurts, waits and compares.
"""

import contextlib
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from re import search
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import orjson
import psutil
import requests
import yaml
from redis import Redis
from redis.exceptions import RedisError

from backends.bootstrap import Backends, open_backends
from backends.embedded import _OPTIONS, find_server
from backends.settings import CONSOLE_OFF, Settings
from backends.vault import new_key_file, write_key_file
from platforms.catalogue import Catalogue
from schemas.ids import new_id
from tests.command import Done, Renewal, Started, free_port, wait_until, write_platform
from tests.rig_jobs import SETTLE_S, Jobs, world_stats

T = TypeVar("T")
ROLES: Final = ("worker", "recorder", "scheduler")
_START_S: Final = 40.0


def small_catalogue(folder: Path, *, haste: int = 1) -> Path:
    """Write three platforms of each protocol; their limits make 200 numbers last about ten seconds without `haste`."""
    for index in range(3):
        # The slots of a killed worker are free again after a time-out for each of its calls that follow each other.
        limits = {"timeout_s": 1, "calls_per_s": (4 + index) * haste, "in_flight": 2 * haste}
        bulk = {**limits, "items_per_call": 5}
        single = {**limits, "calls_per_s": (20 + 5 * index) * haste, "in_flight": 4 * haste}
        write_platform(folder, f"many{index}", limits=bulk)
        write_platform(folder, f"one{index}", protocol="json", limits=single)
    return folder


class ValkeyServer:
    """One Valkey as the embedded one is set up, on one port for good."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.port, self._folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again on what it has written down, and wait until it answers."""
        config = self._folder / "server.conf"
        options = {**_OPTIONS, "port": self.port, "dir": f'"{self._folder}"'}
        lines = [f"{name} {value if value != '' else chr(34) * 2}\n" for name, value in options.items()]
        config.write_text("".join(lines))
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_server(), config], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, what="the Valkey", seconds=_START_S)

    def _answers(self) -> bool:
        client = Redis(port=self.port, socket_timeout=2)
        with contextlib.closing(client), contextlib.suppress(RedisError, OSError):
            return bool(client.ping())
        return False

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it answer nobody."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, if it lives."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class World:
    """A running simulator, looked at from outside."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def order(self, platform: str, kind: str | None, **words: object) -> None:
        """Let a platform (`*`: all) misbehave from now on; None lets it follow its scenario again."""
        behaviour = None if kind is None else {"kind": kind, **words}
        answer = self._session.post(
            f"{self.url}/_control", json={"platform": platform, "behaviour": behaviour}, timeout=20
        )
        assert 200 == answer.status_code, answer.text

    def stats(self) -> dict[str, Any]:
        """Return what the simulator counted."""
        return world_stats(self.url)

    def calls(self, platform: str | None = None) -> int:
        """Return how many calls have come to one platform, or to all."""
        stats = self.stats()
        return int(stats["requests"] if platform is None else stats["platforms"].get(platform, {}).get("requests", 0))

    def answers(self) -> dict[str, int]:
        """Return how often each job was answered."""
        lines = self._session.get(f"{self.url}/_ledger", timeout=60).content.splitlines()
        return {row["id"]: row["answers"] for row in map(orjson.loads, lines)}


class Rig:
    """Everything that is up. As a context manager it ends what it started, and nothing else."""

    def __init__(
        self,
        folder: Path,
        *,
        catalogue: Callable[[Path], Path] = small_catalogue,
        faults: str = "none",
        callbacks: str = "",
        seed: int = 7,
        **settings: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.random = folder.resolve(), Random(seed)
        self.valkey = ValkeyServer(self.folder / "valkey")
        self._stack = contextlib.ExitStack()
        self._faults, self._seed, self._write_catalogue = faults, seed, catalogue
        self._callbacks = ("--callbacks", callbacks) if callbacks else ()
        self._keys = self.folder / "number-keys"
        self._namespace = f"t{new_id()}"
        self._given, self._sandbox = settings, self.folder / "sandbox"
        self.renewal = Renewal(
            self.folder / "clean",
            RENEWAL_PRIVATE_ENDPOINTS="allow",
            RENEWAL_NAMESPACE=self._namespace,
            RENEWAL_REDIS_URL=self.valkey.url,
            RENEWAL_NUMBER_KEYS_FILE=str(self._keys),
            RENEWAL_CATALOGUE=str(self._sandbox),
            # Most tests look at no page, and a process costs the machine a second.
            **{"RENEWAL_CONSOLE": CONSOLE_OFF, **settings},
        )
        self.injected: Counter[str] = Counter()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._end_processes()
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # By force first: nothing that still waits for a platform holds up the next test.
        self._end_processes()
        self._stack.close()

    def _open(self) -> None:
        write_key_file(self._keys, new_key_file())
        self._stack.callback(self.valkey.close)
        self.valkey.start()
        simulator = self.start(
            "simulate", "--catalogue", self._write_catalogue(self.folder / "catalogue"), "--port", "0",
            "--faults", self._faults, "--seed", str(self._seed), "--write-catalogue", self._sandbox, *self._callbacks,
        )  # fmt: skip
        self.world = World(said(simulator, r"simulating \d+ platforms on (http://\S+) "))
        self._stack.callback(self.world.close)
        self.catalogue = Catalogue.load(self._sandbox)
        self.backends = self._backends()
        self._stack.callback(self.backends.close)
        self.jobs = Jobs(self.backends, self.catalogue, world_url=self.world.url)

    def _backends(self) -> Backends:
        settings = Settings(
            redis_url=self.valkey.url,
            broker_url=self._given.get("RENEWAL_BROKER_URL"),
            number_keys_file=self._keys,
            namespace=self._namespace,
            data_dir=self.renewal.data,
        )
        return open_backends(settings)

    def _end_processes(self) -> None:
        # A frozen process hears no other signal.
        for process in self.renewal.processes():
            with contextlib.suppress(psutil.Error):
                process.resume()
        self.renewal.kill_leftovers()

    # -- processes -------------------------------------------------------------------------------------------------

    def start(self, *arguments: str | Path, **settings: str) -> Started:
        """Start one command; it ends with the rig. `settings` are its alone."""
        return self._stack.enter_context(self.renewal.started(*arguments, **settings))

    def up(self, *, workers: int = 2) -> Started:
        """Start everything under its supervisor."""
        started = self.start("up", "--workers", str(workers))
        said(started, r"(up; logs in)")
        self.await_role("worker", count=workers)
        return started

    def start_single(self, role: str, **settings: str) -> Started:
        """Start one process without a supervisor, and wait until it is at work or has ended."""
        before = self._beats(role)
        started = self.start(role, **settings)
        wait_until(
            lambda: started.process.poll() is not None or self._beats(role) - before,
            what=f"a sign of life of the {role}",
            seconds=_START_S,
        )
        return started

    @contextlib.contextmanager
    def single(self, role: str) -> Iterator[Started]:
        """Have one process of a role meanwhile, without a supervisor; at the end it is killed."""
        started = self.start_single(role)
        try:
            yield started
        finally:
            started.process.kill()
            started.process.wait()

    def _beats(self, role: str) -> set[str]:
        return {beat.name for beat in self.backends.heartbeats.alive(role)}

    def pids(self, role: str) -> list[int]:
        """Return the living processes of a role."""
        found = []
        for process in self.renewal.processes():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and role in process.cmdline():
                    found.append(process.pid)
        return sorted(found)

    def await_role(self, role: str, *, count: int = 1, instead_of: Sequence[int | None] = ()) -> list[int]:
        """Wait until a role has `count` processes, none of them one of `instead_of`."""

        def seen() -> list[int]:
            pids = [pid for pid in self.pids(role) if pid not in instead_of]
            return pids if len(pids) >= count else []

        return wait_until(seen, what=f"{count} processes of the {role}", seconds=_START_S)

    def send(self, role: str, number: signal.Signals) -> int | None:
        """Send a signal to one process of a role, chosen by the seed. Returns which, None if none lives."""
        pids = self.pids(role)
        if not pids:
            return None
        pid = self.random.choice(pids)
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).send_signal(number)
            self.injected[f"{number.name} {role}"] += 1
        return pid

    def kill(self, role: str) -> int | None:
        """End one process of a role by SIGKILL; its supervisor, if it has one, starts it again."""
        return self.send(role, signal.SIGKILL)

    def replace(self, role: str) -> None:
        """End every process of a role by SIGTERM, each as soon as the one before has its successor."""
        for pid in self.pids(role):
            count = len(self.pids(role))
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).terminate()
            self.await_role(role, count=count, instead_of=[pid])

    def restart_valkey(self) -> None:
        """Kill the server and start it again on what it has written down."""
        self.valkey.kill()
        self.injected["SIGKILL valkey"] += 1
        self.valkey.start()

    @contextlib.contextmanager
    def frozen_valkey(self) -> Iterator[None]:
        """Let the server answer nobody meanwhile."""
        self.valkey.freeze()
        self.injected["SIGSTOP valkey"] += 1
        try:
            yield
        finally:
            self.valkey.thaw()

    # -- work ------------------------------------------------------------------------------------------------------

    def submit(self, file: Path, *options: str) -> str:
        """Submit a file and return its run; it must be accepted."""
        done = self.renewal.run("submit", file, *options)
        assert 0 == done.code, done.told
        return run_of(done)

    def await_calls(self, count: int, platform: str | None = None, *, seconds: float = SETTLE_S) -> None:
        """Wait until platforms have been called this often: the load is under way."""
        wait_until(lambda: self.world.calls(platform) >= count, what=f"{count} calls", seconds=seconds)

    def change_limits(self, platform: str, **limits: float) -> None:
        """Give a platform other limits; who runs already goes on with the old ones."""
        path = self.catalogue.folder / f"{platform}.yaml"
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
        entry["limits"] = {**entry.get("limits", {}), **limits}
        path.write_text(yaml.safe_dump(entry, allow_unicode=True, sort_keys=False), encoding="utf-8")


def said(process: Started, pattern: str) -> str:
    """Return what a process says on standard error, once it does."""

    def look() -> str | None:
        found = search(pattern, process.err)
        assert found or process.process.poll() is None, process.err
        return found[1] if found else None

    return wait_until(look, what=pattern, seconds=_START_S)


def run_of(submitted: Done) -> str:
    """Return the run that a submission names."""
    found = search(r"run ([a-z2-7]{26}):", submitted.err)
    assert found is not None, submitted.told
    return found[1]


def limits_of(entries: Mapping[str, Mapping[str, object]]) -> Callable[[Path], Path]:
    """Return what writes a catalogue of these platforms, each given by the fields that are not the usual ones."""

    def write(folder: Path) -> Path:
        for key, fields in entries.items():
            write_platform(folder, key, **fields)
        return folder

    return write
