"""The first page: how the whole stands now, and what needs somebody."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from ops.alerts import Alert, AlertCode
from ops.api.door import Door, TheDoor
from ops.console.live import live
from ops.console.scoreboard import board, states
from ops.console.visitor import Reader
from ops.snapshot import Snapshot
from schemas.state import State

router = APIRouter()
_WORST_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertGroup:
    """Alerts of one kind."""

    code: AlertCode
    alerts: tuple[Alert, ...]

    @property
    def page(self) -> str:
        """Where what they are about is shown."""
        return "sweeps" if self.code is AlertCode.SWEEP_STUCK else "platforms"


@router.get("/")
def overview(visitor: Reader, door: TheDoor) -> Response:
    """Show the whole at one moment; the page goes on from there."""
    return visitor.page("overview.html.j2", **_seen(visitor, door))


@router.get("/live/overview")
def overview_live(visitor: Reader, door: TheDoor) -> Response:
    """Send the same, again and again."""
    return live(visitor, lambda: visitor.piece("overview_now.html.j2", **_seen(visitor, door)))


def grouped(alerts: Sequence[Alert]) -> list[AlertGroup]:
    """Put alerts of one kind together, the most severe first."""
    return [AlertGroup(code=code, alerts=tuple(alike)) for code, alike in groupby(alerts, key=lambda alert: alert.code)]


def _seen(visitor: Reader, door: Door) -> dict[str, Any]:
    lookout = visitor.lookout
    now, alerts = lookout.now(), lookout.alerts()
    lines = board(door.catalogue, lookout.healths())
    return {
        "now": now,
        "alerts": alerts,
        "groups": grouped(alerts),
        "rates": lookout.rates(),
        "history": lookout.history(),
        "states": states(lines),
        "worst": [line for line in lines[:_WORST_SHOWN] if any(line.health.trouble)],
        "jobs": _jobs(now),
        "workers": _workers(now),
        "in_flight": sum(gate.in_flight_now for gate in now.gates.values()),
        "busy": sum(gate.in_flight_now > 0 for gate in now.gates.values()),
    }


def _jobs(now: Snapshot) -> dict[State, int]:
    """Add up the jobs of all platforms by state."""
    counts: Counter[State] = Counter()
    for counters in now.counters.values():
        counts.update(counters.by_state())
    return dict(counts)


def _workers(now: Snapshot) -> dict[str, int]:
    known = [beat for beat in now.processes if beat.role == "worker"]
    return {
        "alive": sum(beat.alive for beat in known),
        "known": len(known),
        "processes": sum(beat.alive for beat in now.processes),
    }
