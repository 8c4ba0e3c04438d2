"""Snapshots for tests: a quiet system, and what a test changes about it."""

from pathlib import Path
from typing import Any

from backends.admission import GateState
from backends.custody import Phase
from backends.figures import Piles, Server, WaitingFigures
from backends.gates import GateView
from backends.heartbeat import Heartbeat
from backends.runs import Counters
from ops.snapshot import Held, Snapshot
from platforms.catalogue import Catalogue
from tests.command import write_platform
from tests.fixtures_valkey import NOON

PLATFORMS = ("alpha", "beta")


def catalogue_of(folder: Path, **fields: object) -> Catalogue:
    """Return a catalogue of the platforms, each with these fields."""
    for key in PLATFORMS:
        write_platform(folder, key, **fields)
    return Catalogue.load(folder)


def gate(platform: str = "alpha", **fields: Any) -> GateView:
    """Return a gate through which calls flow, but for the fields given."""
    usual: dict[str, Any] = {
        "platform": platform, "state": GateState.FLOWING, "reason": "", "since": None, "until": None, "trips": 0,
        "share": 1.0, "limit_calls_per_s": None, "limit_in_flight": None, "in_flight_now": 0,
    }  # fmt: skip
    return GateView(**usual | fields)


def living(role: str, *, silent_s: float = 1.0, gone: bool = False, **facts: Any) -> Heartbeat:
    """Return the sign of life of one process."""
    return Heartbeat(role=role, name=f"host-{role}", facts={"since_s": 0, **facts}, silent_s=silent_s, gone=gone)


def quiet(**fields: Any) -> Snapshot:
    """Return a system in which all is well, but for the fields given."""
    usual: dict[str, Any] = {
        "at": NOON,
        "taken_s": 100.0,
        "counters": {key: Counters(values={}) for key in PLATFORMS},
        "gates": {key: gate(key) for key in PLATFORMS},
        "queues": {"interactive": 0, "bulk": 3, "results": 0},
        "waiting": waiting(),
        "held": Held(by_phase={Phase.BEGUN: 1}, oldest_s={Phase.BEGUN: 0.5}, sent_again=0),
        "redriven": 7,
        "piles": Piles(),
        "dead": (),
        "dead_lately": {},
        "processes": tuple(map(living, ("worker", "recorder", "scheduler"))),
        "server": Server(maxmemory_policy="noeviction", appendonly=True, used_memory=1),
    }
    return Snapshot(**usual | fields)


def waiting(**fields: Any) -> WaitingFigures:
    """Return a waiting set in which nothing is late, but for the fields given."""
    usual: dict[str, Any] = {
        "due": 0, "later": 2, "oldest_due_s": 0.0, "by_platform": dict.fromkeys(PLATFORMS, 1),
    }  # fmt: skip
    return WaitingFigures(**usual | fields)
