"""Health: how a platform does, from its counters, its gate and what piles up for it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from backends.admission import RULES, GateState
from backends.gates import GateView
from backends.runs import Counters
from ops.progress import latency_ms
from platforms.maintenance import next_window
from platforms.model import Platform
from schemas.result import LATENCY_BOUNDS_MS
from schemas.state import State

# The worst first, as a person has to look at them.
_TROUBLE: Final = {
    GateState.SUSPENDED: 5,
    GateState.BROKEN: 4,
    GateState.PROBING: 3,
    GateState.PAUSED: 2,
    GateState.RAMPING: 1,
    GateState.FLOWING: 0,
}
_WELL_PCT: Final = 95.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformHealth:
    """One platform at one moment.

    `success_pct` is the share of its calls that were answered with a 2xx, `p95_ms` their latency; both None before the
    first call. `calls_per_s` is None while there is nothing to compare with. `rate_limit_per_s` is what flowing allows;
    a ramp takes a part of it. `waiting` counts batches of the waiting set, `retrying` jobs that wait for another
    attempt. `jobs_today` are those of the bulk lane that the day's quota counts, `jobs_per_day` is None without one;
    `bulk_opens_at` is when the bulk lane may be sent again, None while it may.
    """

    key: str
    name: str
    gate: GateView
    calls: int
    success_pct: float | None
    p95_ms: float | None
    calls_per_s: float | None
    rate_limit_per_s: float
    in_flight_limit: int
    waiting: int
    retrying: int
    dead: int
    maintenance_until: datetime | None = None
    jobs_today: int = 0
    jobs_per_day: int | None = None
    bulk_opens_at: datetime | None = None

    @property
    def state(self) -> str:
        """Where its gate stands; its own maintenance is a state too."""
        if self.maintenance_until is not None and self.gate.state is GateState.FLOWING:
            return "maintenance"
        return self.gate.state.value

    @property
    def trouble(self) -> tuple[int, int, float, int, int]:
        """How badly a person has to look here; the greatest first."""
        failing = self.success_pct is not None and self.success_pct < _WELL_PCT
        return (
            _TROUBLE[self.gate.state],
            self.gate.trips,
            100 - (self.success_pct or 0) if failing else 0.0,
            self.dead,
            self.waiting,
        )

    def row(self) -> dict[str, Any]:
        """Return it as a list shows it."""
        return {
            "key": self.key,
            "name": self.name,
            "state": self.state,
            "success_pct": None if self.success_pct is None else round(self.success_pct, 1),
            "p95_ms": None if self.p95_ms is None else round(self.p95_ms),
            "calls": self.calls,
            "calls_per_s_now": None if self.calls_per_s is None else round(self.calls_per_s, 1),
            "rate_limit": round(self.rate_limit_per_s, 2),
            "in_flight_now": self.gate.in_flight_now,
            "in_flight_limit": self.in_flight_limit,
            "waiting": self.waiting,
            "retrying": self.retrying,
            "dead": self.dead,
            "jobs_today": self.jobs_today,
            "jobs_per_day": self.jobs_per_day,
            "bulk_opens_at": None if self.bulk_opens_at is None else self.bulk_opens_at.isoformat(),
            "gate_reason": self.gate.reason or None,
        }

    def narrow_row(self) -> dict[str, Any]:
        """Return it as a terminal of 80 columns can show it."""
        row = self.row()
        speed = "–" if self.calls_per_s is None else row["calls_per_s_now"]
        return row | {
            "2xx_%": row["success_pct"],
            "calls/s": f"{speed}/{self.rate_limit_per_s:g}",
            "in_flight": f"{self.gate.in_flight_now}/{self.in_flight_limit}",
            "today": None if self.jobs_per_day is None else f"{self.jobs_today}/{self.jobs_per_day}",
            "reason": row["gate_reason"],
        }


NARROW_FIELDS: Final = ("key", "state", "2xx_%", "p95_ms", "calls/s", "in_flight", "waiting", "dead", "today", "reason")
HEALTH_FIELDS: Final = (
    "key", "name", "state", "success_pct", "p95_ms", "calls", "calls_per_s_now", "rate_limit", "in_flight_now",
    "in_flight_limit", "waiting", "retrying", "dead", "jobs_today", "jobs_per_day",
    "bulk_opens_at", "gate_reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What was counted between two moments, so many seconds apart."""

    counters: Counters
    seconds: float


def between(earlier: Counters, later: Counters, *, seconds: float) -> Span:
    """Return what was counted since then. A store that was emptied meanwhile counts from nothing."""
    grown = {name: max(0, n - earlier.get(name)) for name, n in later.values.items()}
    return Span(counters=Counters(values=grown), seconds=seconds)


def health_of(
    platform: Platform,
    counters: Counters,
    gate: GateView,
    *,
    waiting: int = 0,
    dead: int = 0,
    span: Span | None = None,
    lately: bool = False,
    now: datetime | None = None,
    jobs_today: int = 0,
) -> PlatformHealth:
    """Return a platform's health: over all its calls or, with `lately`, over those of the span."""
    judged = span.counters if span and lately else counters
    return PlatformHealth(
        key=platform.key,
        name=f"{platform.name.en} {platform.name.zh}",
        gate=gate,
        calls=judged.get("calls"),
        success_pct=success_pct(judged.family("status")),
        p95_ms=latency_ms(_latencies(judged), 0.95),
        calls_per_s=span.counters.get("calls") / span.seconds if span and span.seconds > 0 else None,
        rate_limit_per_s=_rate_limit(_lower(platform.limits.calls_per_s, gate.limit_calls_per_s), gate.share),
        in_flight_limit=int(_lower(platform.limits.in_flight, gate.limit_in_flight)),
        waiting=waiting,
        retrying=max(0, counters.by_state().get(State.WAITING, 0)),
        dead=dead,
        maintenance_until=_closed_until(platform, now),
        jobs_today=jobs_today,
        jobs_per_day=platform.limits.jobs_per_day,
        bulk_opens_at=_opens_at(platform, now),
    )


def success_pct(statuses: Mapping[str, int]) -> float | None:
    """Return the share of calls answered with a 2xx; None without any call. A status may also be a fault's name."""
    total = sum(statuses.values())
    if not total:
        return None
    return 100 * sum(n for status, n in statuses.items() if status.startswith("2")) / total


def by_trouble(platforms: Sequence[PlatformHealth]) -> list[PlatformHealth]:
    """Return platforms, those in trouble first."""
    return sorted(platforms, key=lambda health: health.trouble, reverse=True)


def _latencies(counters: Counters) -> list[int]:
    return [counters.get(f"latency:{bucket}") for bucket in range(len(LATENCY_BOUNDS_MS) + 1)]


def _rate_limit(ceiling: float, share: float) -> float:
    return max(ceiling * share, min(ceiling, RULES.floor_per_s))


def _lower(limit: float, operators: float | None) -> float:
    return limit if operators is None else min(limit, operators)


def _closed_until(platform: Platform, now: datetime | None) -> datetime | None:
    window = next_window(platform.maintenance, now) if now is not None else None
    return window[1] if window and now is not None and window[0] <= now else None


def _opens_at(platform: Platform, now: datetime | None) -> datetime | None:
    hours = next_window(platform.bulk_hours, now) if now is not None else None
    return hours[0] if hours and now is not None and now < hours[0] else None
