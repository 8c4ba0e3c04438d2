"""What processes use: processor time of whole families, and the most memory that each role was seen to hold."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import psutil

_EACH_S: Final = 0.25
Roots = Callable[[], Mapping[str, int]]


def cpu_s(pid: int) -> float:
    """Return the processor time of a process, of its children that live, and of those that it has outlived."""
    total = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = member.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def rss_mb(pid: int) -> float:
    """Return what a process and its living children hold; zero when it is gone."""
    return _sum_mb(pid, lambda member: member.memory_info().rss)


def pss_mb(pid: int) -> float:
    """Return the same with what they share counted once; RSS where the system does not tell it."""

    def held(member: psutil.Process) -> int:
        info = member.memory_full_info()
        return int(getattr(info, "pss", info.rss))

    return _sum_mb(pid, held)


def _sum_mb(pid: int, held: Callable[[psutil.Process], int]) -> float:
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += held(member)
    return total / 1e6


class Usage:
    """Looks at named processes four times a second while the context lasts; `roots` says which there are now."""

    def __init__(self, roots: Roots) -> None:
        self._roots, self._ended = roots, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._most_mb: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EACH_S):
            self.look()

    def look(self) -> None:
        """Note what each process holds now."""
        for name, pid in self._roots().items():
            self._most_mb[name] = max(rss_mb(pid), self._most_mb.get(name, 0.0))

    def held_mb(self, *, but: str) -> tuple[float, float]:
        """Return RSS and PSS of all of them together now, without the one named `but`."""
        pids = [pid for name, pid in self._roots().items() if name != but]
        return sum(map(rss_mb, pids)), sum(map(pss_mb, pids))

    def peaks(self) -> dict[str, float]:
        """Return the most RSS in MB that a process of each role was seen to hold: `worker-2` is a worker."""
        found: dict[str, float] = {}
        for name, rss in self._most_mb.items():
            role = name.partition("-")[0]
            found[role] = max(rss, found.get(role, 0.0))
        return found

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time of each so far."""
        return {name: cpu_s(pid) for name, pid in self._roots().items()}
