"""How far a run is: values that others fill, what follows from them, and the words people read for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Final, NamedTuple

from schemas.outcome import Fault
from schemas.result import LATENCY_BOUNDS_MS
from schemas.state import DISPATCHER_STATES, State, Verdict

RATE_WINDOW_S: Final = 10.0
_SECOND_MS: Final = 1000
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_TENTHS_BELOW_S: Final = 10
_SHARE_SHOWN_MIN_PCT: Final = 0.1
_SHARE_SHOWN_MAX_PCT: Final = 99.9

STATE_WORDS: Final[Mapping[State, str]] = {
    State.NO_BINDING: "no binding",
    State.UNBOUND: "unbound",
    State.BOUND_AFTER_CUTOFF: "new owner's own",
    State.REFUSED: "refused",
    State.NOT_SUPPORTED: "not supported",
    State.ACCEPTED: "accepted",
    State.PENDING_REVIEW: "for review",
    State.DEAD: "dead",
    State.WAITING: "waiting",
    State.QUEUED: "queued",
    State.EXPIRED: "expired",
    State.CANCELLED: "cancelled",
    State.DELIVERED_UNCONFIRMED: "delivered, unconfirmed",
}
FAULT_WORDS: Final[Mapping[str, str]] = {
    Fault.TIMEOUT: "timed out",
    Fault.CONNECTION: "connection lost",
    Fault.DNS: "name not found",
    Fault.TLS: "TLS failed",
    Fault.PRIVATE_ADDRESS: "private address",
    Fault.REDIRECT: "redirected",
    Fault.UNAUTHORIZED: "not authorised",
    Fault.ENDPOINT_GONE: "endpoint gone",
    Fault.TOO_MANY_REQUESTS: "too many requests",
    Fault.SERVER_ERROR: "server error",
    Fault.REJECTED_REQUEST: "request rejected",
    Fault.UNREADABLE_ANSWER: "unreadable answer",
    Fault.ANSWER_TOO_LARGE: "answer too large",
    Fault.UNANSWERED: "left out of the answer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformProgress:
    """How one platform does in this run; `latencies` counts calls by `schemas.result.LATENCY_BOUNDS_MS`."""

    key: str
    name_zh: str
    name_en: str
    category: str
    by_state: Mapping[State, int]
    calls: int
    attempts: int
    faults: Mapping[str, int]
    statuses: Mapping[str, int]
    latencies: tuple[int, ...]

    @property
    def jobs(self) -> int:
        """All jobs of the run at this platform."""
        return sum(self.by_state.values())

    @property
    def open(self) -> int:
        """Jobs that the dispatcher still holds."""
        return sum(self.by_state.get(state, 0) for state in DISPATCHER_STATES)

    @property
    def waiting(self) -> int:
        """Jobs that are not due yet."""
        return self.by_state.get(State.WAITING, 0)

    @property
    def dead(self) -> int:
        """Jobs that were given up and need a person."""
        return self.by_state.get(State.DEAD, 0)

    @property
    def faults_total(self) -> int:
        """Calls and items that brought no answer, of every kind."""
        return sum(self.faults.values())

    def latency_ms(self, quantile: float) -> float | None:
        """Return the latency that `quantile` of the calls stayed within, or None before the first call."""
        return latency_ms(self.latencies, quantile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One moment of a run, seconds after its start; counts are totals since then."""

    at_s: float
    settled: int
    calls: int
    waiting: int
    dead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment. `jobs_total` is final only once `intake_done` says so."""

    at_s: float
    cases_accepted: int
    cases_rejected: int
    cases_duplicate: int
    intake_done: bool
    jobs_total: int
    by_state: Mapping[State, int]
    verdicts: Mapping[Verdict, int]
    attempts: int
    calls: int
    platforms: tuple[PlatformProgress, ...]
    workers_alive: int
    events: tuple[str, ...]
    intake_waits: str = ""  # why the file is not read on at this moment

    @property
    def settled(self) -> int:
        """Jobs that the dispatcher has let go of: answered, dead, or in somebody else's hands."""
        return sum(count for state, count in self.by_state.items() if state not in DISPATCHER_STATES)

    @property
    def open(self) -> int:
        """Jobs that the dispatcher still has to settle."""
        return max(0, self.jobs_total - self.settled)

    @property
    def waiting(self) -> int:
        """Jobs that are not due yet."""
        return self.by_state.get(State.WAITING, 0)

    @property
    def dead(self) -> int:
        """Jobs that were given up and need a person."""
        return self.by_state.get(State.DEAD, 0)

    def sample(self) -> Sample:
        """Return the moment as a point of the run's curve."""
        return Sample(at_s=self.at_s, settled=self.settled, calls=self.calls, waiting=self.waiting, dead=self.dead)

    def rate(self, samples: Sequence[Sample]) -> float:
        """Return jobs settled a second over the last `RATE_WINDOW_S`; 0 while there is nothing to compare with."""
        earlier = [sample for sample in samples if sample.at_s < self.at_s]
        if not earlier:
            return 0.0
        since_s = self.at_s - RATE_WINDOW_S
        base = next((sample for sample in reversed(earlier) if sample.at_s <= since_s), earlier[0])
        return max(0.0, (self.settled - base.settled) / (self.at_s - base.at_s))

    def eta_s(self, samples: Sequence[Sample]) -> float | None:
        """Return the seconds left at the present rate, or None where nobody can know."""
        if not self.intake_done:
            return None
        if self.open == 0:
            return 0.0
        rate = self.rate(samples)
        return self.open / rate if rate > 0 else None


class RejectedRow(NamedTuple):
    """A row of the input that was refused, and what was expected."""

    line: int
    field: str
    problem: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Jobs that need a person for the same reason at the same platform, and one of their cases."""

    state: State
    platform: str
    reason: str
    count: int
    case: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What stood out among the results: refusals by reason and what needs a person, most frequent first."""

    refusals: Mapping[str, int]
    stuck: tuple[Stuck, ...]


def slowest_platforms(platforms: Sequence[PlatformProgress], *, limit: int) -> list[PlatformProgress]:
    """Return the platforms that answered slowest, by p95; those that were never called are not among them."""
    called = [platform for platform in platforms if sum(platform.latencies)]
    return nlargest(limit, called, key=lambda platform: platform.latency_ms(0.95) or 0.0)


def latency_ms(latencies: Sequence[int], quantile: float) -> float | None:
    """Return a quantile of a latency histogram, linear inside its bucket.

    The open last bucket has no upper end: a quantile inside it is reported as its lower bound, so as "at least".
    """
    total = sum(latencies)
    if total == 0:
        return None
    target = quantile * total
    below, lower_ms = 0, 0
    for count, upper_ms in zip(latencies, LATENCY_BOUNDS_MS, strict=False):
        if count and below + count >= target:
            return lower_ms + (upper_ms - lower_ms) * (target - below) / count
        below, lower_ms = below + count, upper_ms
    return float(lower_ms)


def latency_text(value_ms: float | None) -> str:
    """Say a latency as people read it."""
    if value_ms is None:
        return "–"
    if value_ms >= LATENCY_BOUNDS_MS[-1]:
        return f"≥ {LATENCY_BOUNDS_MS[-1] // _SECOND_MS} s"
    return f"{value_ms / _SECOND_MS:.1f} s" if round(value_ms) >= _SECOND_MS else f"{value_ms:.0f} ms"


def duration_text(seconds: float) -> str:
    """Say a duration as people do: `4.2 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{seconds:.1f} s" if 0 < seconds < _TENTHS_BELOW_S else f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02d} s"
    return f"{whole // _HOUR_S:,} h {whole % _HOUR_S // _MINUTE_S:02d} min"


def percent_text(part: int, whole: int) -> str:
    """Say a share so that 100 % means all of it and 0 % means none."""
    if whole <= 0 or part <= 0:
        return "0 %"
    if part >= whole:
        return "100 %"
    percent = 100 * part / whole
    return f"{min(percent, _SHARE_SHOWN_MAX_PCT):.1f} %" if percent >= _SHARE_SHOWN_MIN_PCT else "< 0.1 %"
