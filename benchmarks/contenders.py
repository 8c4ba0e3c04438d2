"""Who is measured beside us on single calls: the job systems that a user would pick, and bare clients as the limit."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

_PYTHON: Final = (sys.executable, "-m")
_CELERY: Final = (
    *_PYTHON, "celery", "-A", "benchmarks.peers.celery_app", "worker", "-l", "WARNING",
    "--without-gossip", "--without-mingle", "--without-heartbeat",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to make the same calls; `commands` are its processes, started together.

    Those that `queues` are given their jobs before they start, and write a final status of each into Redis.
    """

    name: str
    about: str
    commands: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...]
    module: str = ""

    @property
    def queues(self) -> bool:
        """Whether it is a job system, not a bare client."""
        return bool(self.module)

    def missing(self) -> list[str]:
        """Return the packages that it needs and that cannot be imported."""
        return [name for name in self.needs if find_spec(name) is None]


CELERY_GEVENT: Final = "celery_gevent"
TASKIQ: Final = "taskiq_aiohttp"
CONTENDERS: Final = (
    Contender(
        name=CELERY_GEVENT,
        about="Celery, one task a call, 2 processes of 200 greenlets, requests, self.retry",
        module="benchmarks.peers.celery_app",
        commands=tuple((*_CELERY, "-P", "gevent", "-c", "200", "-n", f"gevent{index}") for index in range(2)),
        needs=("celery", "gevent", "requests"),
    ),
    Contender(
        name="celery_threads",
        about="Celery, one task a call, 1 process of 100 threads, requests, self.retry",
        module="benchmarks.peers.celery_app",
        commands=((*_CELERY, "-P", "threads", "-c", "100"),),
        needs=("celery", "requests"),
    ),
    Contender(
        name="dramatiq_threads",
        about="dramatiq, 2 processes of 64 threads, requests, Retry",
        module="benchmarks.peers.dramatiq_app",
        commands=((*_PYTHON, "dramatiq", "benchmarks.peers.dramatiq_app", "-p", "2", "-t", "64"),),
        needs=("dramatiq", "requests"),
    ),
    Contender(
        name=TASKIQ,
        about="taskiq on Redis streams, 2 processes of 200 tasks, aiohttp, smart retry with a schedule in Redis",
        module="benchmarks.peers.taskiq_app",
        commands=(
            (
                *_PYTHON, "taskiq", "worker", "benchmarks.peers.taskiq_app:broker", "-w", "2",
                "--max-async-tasks", "200", "--max-prefetch", "200", "--log-level", "ERROR",
            ),
            (
                *_PYTHON, "taskiq", "scheduler", "benchmarks.peers.taskiq_app:scheduler",
                "--update-interval", "1", "--log-level", "ERROR",
            ),
        ),
        needs=("taskiq", "taskiq_redis", "aiohttp"),
    ),
    Contender(
        name="bare_aiohttp",
        about="no queue, no status: aiohttp on uvloop, 2 processes of 200 connections",
        commands=tuple((*_PYTHON, "benchmarks.peers.bare_aiohttp") for _ in range(2)),
        needs=("aiohttp",),
    ),
    Contender(
        name="bare_pycurl",
        about="no queue, no status: pycurl multi, 2 processes of 200 connections",
        commands=tuple((*_PYTHON, "benchmarks.peers.bare_pycurl") for _ in range(2)),
        needs=("pycurl",),
    ),
)  # fmt: skip
