"""A snapshot: everything that is counted, at one moment. Taken here; judged elsewhere, by pure functions."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Final

from backends.bootstrap import Backends
from backends.custody import Phase
from backends.dead import DeadGroup
from backends.figures import Piles, Server, WaitingFigures
from backends.gates import GateView
from backends.heartbeat import Heartbeat
from backends.runs import Counters
from backends.subscribers import Told
from backends.withdrawals import BY_HAND
from ops.health import PlatformHealth, between, health_of
from ops.overdue import Deadlines, deadlines
from platforms.calendar import WorkingDays
from platforms.catalogue import Catalogue
from producers.sweep_definition import Definitions
from producers.sweep_rule import due_since
from schemas.errors import BackendUnavailable, ConfigurationError
from schemas.ids import split_job_id
from schemas.outcome import Reason
from schemas.state import DISPATCHER_STATES
from workers.subscriptions import Subscriptions

LATELY: Final = timedelta(hours=1)
RESULTS: Final = "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Batches in custody. `sent_again` counts those that have been sent more than once."""

    by_phase: Mapping[Phase, int]
    oldest_s: Mapping[Phase, float]
    sent_again: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFigures:
    """One sweep: why its night cannot go on, and for how long nobody has done what is due.

    `completed_ms` is when the last night ended that sent all it had planned; 0 if none did.
    """

    problem: str = ""
    overdue_s: float = 0.0
    completed_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberFigures:
    """One system that is told what happens; `behind_s` is how old the first notice is that it has not got."""

    told: Told = field(default_factory=Told)
    behind_s: float = 0.0
    problem: str = ""  # of the file that names it


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The system at one moment. `taken_s` is for differences only; `redriven` counts since ever.

    `queues` is empty while the broker cannot be reached, and `broker_problem` says why.
    """

    at: datetime
    taken_s: float
    counters: Mapping[str, Counters]
    gates: Mapping[str, GateView]
    queues: Mapping[str, int]
    waiting: WaitingFigures
    held: Held
    redriven: int
    piles: Piles
    dead: tuple[DeadGroup, ...]
    dead_lately: Mapping[tuple[str, Reason | None], int]
    processes: tuple[Heartbeat, ...]
    server: Server
    broker_problem: str = ""
    jobs_today: Mapping[str, int] = field(default_factory=dict)
    sweeps: Mapping[str, SweepFigures] = field(default_factory=dict)
    by_hand: Mapping[str, int] = field(default_factory=dict)  # withdrawals that need a person, by platform
    deadlines: Mapping[str, Deadlines] = field(default_factory=dict)  # only where something is late or at risk
    callbacks_refused: Mapping[str, int] = field(default_factory=dict)  # within the last hour, by platform
    subscribers: Mapping[str, SubscriberFigures] = field(default_factory=dict)
    totals: Counters = field(default_factory=lambda: Counters(values={}))

    def alive(self, role: str) -> list[Heartbeat]:
        """Return the living processes of a role."""
        return [beat for beat in self.processes if beat.role == role and beat.alive]

    @property
    def dead_total(self) -> int:
        """All dead letters."""
        return sum(group.count for group in self.dead)

    @property
    def calls(self) -> int:
        """All calls ever."""
        return sum(counters.get("calls") for counters in self.counters.values())

    @property
    def settled(self) -> int:
        """All jobs that the dispatcher has let go of."""
        return sum(
            count
            for counters in self.counters.values()
            for state, count in counters.by_state().items()
            if state not in DISPATCHER_STATES
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast the system is between two snapshots."""

    jobs_per_s: float
    calls_per_s: float


def take(backends: Backends, catalogue: Catalogue, *, taken_s: float) -> Snapshot:
    """Count everything once; a broker that is away hides only its queues. Raises BackendUnavailable, RedisError."""
    now = backends.clock.now()
    keys = [platform.key for platform in catalogue]
    groups = tuple(backends.dead.groups())
    queues, broker_problem = _queues(backends)
    return Snapshot(
        at=now,
        taken_s=taken_s,
        counters=backends.runs.platform_counters(keys),
        gates={view.platform: view for view in backends.gates.views(keys)},
        queues=queues,
        waiting=backends.figures.waiting(keys, now=now),
        held=_held(backends, now=now),
        redriven=backends.custody.counts()[1],
        piles=backends.figures.piles(),
        dead=groups,
        dead_lately=backends.figures.dead_since(groups, since=now - LATELY),
        processes=tuple(backends.heartbeats.every()),
        server=backends.figures.server(),
        broker_problem=broker_problem,
        jobs_today=backends.figures.jobs_today(keys, now=now),
        sweeps=_sweeps(backends, now=now),
        deadlines=deadlines(backends, catalogue, _calendar(), dead=groups),
        callbacks_refused=backends.callbacks.refused_since(now - LATELY),
        subscribers=_subscribers(backends, now=now),
        totals=backends.figures.totals(),
        by_hand=Counter(split_job_id(each.job)[1] for each in backends.withdrawals.every() if each.stage in BY_HAND),
    )


@cache
def _calendar() -> WorkingDays:
    return WorkingDays.load()


def _sweeps(backends: Backends, *, now: datetime) -> dict[str, SweepFigures]:
    if backends.settings.sweeps is None:
        return {}
    try:
        definitions = Definitions.load(backends.settings.sweeps)
    except ConfigurationError as error:
        return {"": SweepFigures(problem=str(error))}
    found = {}
    for definition in definitions:
        standing = backends.sweeps.standing(definition.name)
        since = due_since(definition, standing, now=now)
        overdue_s = (now - since).total_seconds() if since else 0.0
        found[definition.name] = SweepFigures(
            problem=standing.problem, overdue_s=overdue_s, completed_ms=standing.completed_ms
        )
    return found


def _subscribers(backends: Backends, *, now: datetime) -> dict[str, SubscriberFigures]:
    try:
        names = Subscriptions.load(backends.settings.subscribers).names
    except ConfigurationError as error:
        return {"": SubscriberFigures(problem=str(error))}
    return {name: subscriber_figures(backends, name, now=now) for name in names}


def subscriber_figures(backends: Backends, name: str, *, now: datetime) -> SubscriberFigures:
    """Return how one subscriber does."""
    told = backends.subscribers.told(name)
    waits = backends.outbox.after(told.place, at_most=1)
    behind_s = (now - waits[0].at).total_seconds() if waits else 0.0
    return SubscriberFigures(told=told, behind_s=max(0.0, behind_s))


def _queues(backends: Backends) -> tuple[dict[str, int], str]:
    try:
        depths = backends.broker.depths()
    except BackendUnavailable as error:
        return {}, str(error)
    queues = {lane.value: depths[queue.name] for lane, queue in backends.broker.queues.items()}
    return queues | {RESULTS: depths[backends.broker.results.name]}, ""


def take_two(
    backends: Backends, catalogue: Catalogue, *, apart_s: float, clock: Callable[[], float],
    wait: Callable[[float], object],
) -> tuple[Snapshot, Snapshot]:  # fmt: skip
    """Take two snapshots: what happens now is their difference, and nobody had to write it down before."""
    earlier = take(backends, catalogue, taken_s=clock())
    wait(apart_s)
    return earlier, take(backends, catalogue, taken_s=clock())


def _held(backends: Backends, *, now: datetime) -> Held:
    phases: Counter[Phase] = Counter()
    oldest_s: dict[Phase, float] = {}
    sent_again = 0
    for entry in backends.custody.every():
        phase = entry.note.phase
        phases[phase] += 1
        age_s = max(0.0, now.timestamp() - entry.note.since_ms / 1000)
        oldest_s[phase] = max(oldest_s.get(phase, 0.0), age_s)
        sent_again += entry.note.redrives > 0
    return Held(by_phase=phases, oldest_s=oldest_s, sent_again=sent_again)


def healths(
    catalogue: Catalogue, now: Snapshot, *, earlier: Snapshot | None = None, lately: bool = False
) -> list[PlatformHealth]:
    """Return the health of every platform, over all its calls or only those since `earlier`."""
    dead: Counter[str] = Counter()
    for group in now.dead:
        dead[group.platform] += group.count
    found = []
    for platform in catalogue:
        counters, span = now.counters[platform.key], None
        if earlier is not None and now.taken_s > earlier.taken_s:
            span = between(earlier.counters[platform.key], counters, seconds=now.taken_s - earlier.taken_s)
        found.append(
            health_of(
                platform,
                counters,
                now.gates[platform.key],
                waiting=now.waiting.by_platform[platform.key],
                dead=dead[platform.key],
                span=span,
                lately=lately,
                now=now.at,
                jobs_today=now.jobs_today.get(platform.key, 0),
            )
        )
    return found


def rates(now: Snapshot, earlier: Snapshot) -> Rates:
    """Return how fast the system was between two moments; never negative, though a replay takes jobs back."""
    seconds = now.taken_s - earlier.taken_s
    if seconds <= 0:
        return Rates(jobs_per_s=0.0, calls_per_s=0.0)
    return Rates(
        jobs_per_s=max(0.0, (now.settled - earlier.settled) / seconds),
        calls_per_s=max(0.0, (now.calls - earlier.calls) / seconds),
    )
