"""Gates: a person's view of the platforms' gates, and a person's hand on them.

Every change returns what was there before, so that the one who turns can see what was turned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis

from backends.admission import GateState, gate_script, micros, now_arg
from backends.connect import patiently, text
from backends.keys import Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """One gate at one moment.

    `until` is when a pause ends, or when the next probe may go. `trips` counts breaks in a row. `share` is the part of
    the rate that the platform has taught us it bears.
    """

    platform: str
    state: GateState
    reason: str
    since: datetime | None
    until: datetime | None
    trips: int
    share: float
    limit_calls_per_s: float | None
    limit_in_flight: int | None
    in_flight_now: int


class Gates:
    """Show and turn gates. Each change is one atomic script; BackendUnavailable when Redis stays away."""

    def __init__(self, client: Redis, keys: Keys, *, clock_us: Callable[[], int] | None = None) -> None:
        self._keys, self._clock_us = keys, clock_us
        self._turn_gate = gate_script(client, "gate_turn")
        self._show = gate_script(client, "gate_views")

    def pause(self, platform: str, *, until: datetime | None, reason: str) -> tuple[GateView, GateView]:
        """Let no call through, not even a probe, until then or until resumed. Returns the views before and after."""
        return self._turn(platform, "pause", micros(until) if until else 0, reason)

    def resume(self, platform: str) -> tuple[GateView, GateView]:
        """End pause, suspension and breaker; goes on with the ramp, unless it was only paused."""
        return self._turn(platform, "resume")

    def suspend(self, platform: str, *, reason: str) -> tuple[GateView, GateView]:
        """Suspend as if the platform had asked for it: probes resume it by themselves."""
        return self._turn(platform, "suspend", "", reason)

    def probe(self, platform: str) -> tuple[GateView, GateView]:
        """Let the next probe of a suspended or broken platform be due now."""
        return self._turn(platform, "probe")

    def limit(self, platform: str, *, calls_per_s: float | None, in_flight: int | None) -> tuple[GateView, GateView]:
        """Set limits below those of the catalogue; None takes a limit away. Higher ones have no effect."""
        if (calls_per_s is not None and calls_per_s <= 0) or (in_flight is not None and in_flight < 1):
            raise ValueError("a limit is more than nothing; to stop a platform, pause it")
        rate = "" if calls_per_s is None else repr(float(calls_per_s))
        return self._turn(platform, "limit", rate, "" if in_flight is None else in_flight)

    def views(self, platforms: Sequence[str]) -> list[GateView]:
        """Return the gates in the order asked for, as they are at one moment."""
        keys = [key for platform in platforms for key in (self._keys.gate(platform), self._keys.slots(platform))]
        found = patiently(lambda: self._show(keys=keys, args=[now_arg(self._clock_us)]))
        return [_view(platform, row) for platform, row in zip(platforms, found, strict=True)]

    def _turn(
        self, platform: str, verb: str, first: float | str = "", *second: float | str
    ) -> tuple[GateView, GateView]:
        keys = [self._keys.gate(platform), self._keys.slots(platform)]
        args = [now_arg(self._clock_us), verb, first, *(second or ("",))]
        before, after = patiently(lambda: self._turn_gate(keys=keys, args=args))
        return _view(platform, before), _view(platform, after)


def _view(platform: str, row: Sequence[Any]) -> GateView:
    state, reason, since, until, trips, share, calls_per_s, in_flight, now = row
    return GateView(
        platform=platform,
        state=GateState(text(state)),
        reason=text(reason),
        since=_instant(since),
        until=_instant(until),
        trips=trips,
        share=float(share),
        limit_calls_per_s=float(calls_per_s) if calls_per_s else None,
        limit_in_flight=int(in_flight) if in_flight else None,
        in_flight_now=now,
    )


def _instant(us: bytes) -> datetime | None:
    return datetime.fromtimestamp(int(us) / 1_000_000, UTC) if us else None
