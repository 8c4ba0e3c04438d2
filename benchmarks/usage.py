"""What processes use: processor time of whole families, and the most memory that each role was seen to hold."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import psutil

_EACH_S: Final = 1.0
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


def memory_mb(pid: int) -> tuple[float, float]:
    """Return RSS and PSS of a process and its living children; zero when it is gone."""
    rss = pss = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                info = member.memory_full_info()
                rss, pss = rss + info.rss, pss + info.pss
    return rss / 1e6, pss / 1e6


class Usage:
    """Looks once a second at named processes while the context lasts; `roots` says which there are now."""

    def __init__(self, roots: Roots) -> None:
        self._roots, self._ended = roots, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.rss_mb: dict[str, float] = {}
        self.pss_mb: dict[str, float] = {}
        self.total_rss_mb = 0.0

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
        total = 0.0
        for name, pid in self._roots().items():
            rss, pss = memory_mb(pid)
            total += rss
            self.rss_mb[name] = max(rss, self.rss_mb.get(name, 0.0))
            self.pss_mb[name] = max(pss, self.pss_mb.get(name, 0.0))
        self.total_rss_mb = max(total, self.total_rss_mb)

    def peaks(self) -> dict[str, float]:
        """Return the most RSS in MB that a process of each role was seen to hold: `worker-2` is a worker."""
        found: dict[str, float] = {}
        for name, rss in self.rss_mb.items():
            role = name.partition("-")[0]
            found[role] = max(rss, found.get(role, 0.0))
        return found

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time of each so far."""
        return {name: cpu_s(pid) for name, pid in self._roots().items()}
