"""Two lanes at one platform: a person's batch gets through within seconds, the bulk lane goes on, no limit is broken.

Time is virtual: batches ask, wait, call and settle as workers and schedulers let them, on the real scripts.
"""

import heapq
from dataclasses import dataclass, field
from itertools import count, pairwise

import pytest

from backends.admission import RULES, Admission, NotNow, Permit, Report, Stop
from backends.bootstrap import Backends
from schemas.batch import Lane
from schemas.ids import new_id
from tests.fixtures_valkey import NOON

START_US = int(NOON.timestamp()) * 1_000_000
# From being due to asking again: a scheduler's tick, the queue, a worker.
TRANSIT_S = 0.15


@dataclass
class Traffic:
    """One platform, and everybody who wants to call it."""

    backends: Backends
    per_s: float
    in_flight: int
    latency_s: float = 0.2
    bulk_calls: int = 1
    platform: str = field(default_factory=lambda: f"p{new_id()}")
    now_us: int = START_US
    waits_s: list[float] = field(default_factory=list)  # of each interactive batch, until its first call
    starts: dict[Lane, list[float]] = field(default_factory=lambda: {lane: [] for lane in Lane})
    open_until: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = self.backends.keys
        self.admission = Admission(self.backends.redis, keys, clock_us=lambda: self.now_us)
        self._agenda: list[tuple[int, int, Lane, Permit | tuple[str, float]]] = []
        self._order = count()

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return (self.now_us - START_US) / 1_000_000

    def comes(self, lane: Lane, at_s: float) -> None:
        """Let a batch ask for the first time then; a bulk batch is followed by another one when it is done."""
        self._plan(at_s, lane, (new_id(), at_s))

    def _plan(self, at_s: float, lane: Lane, about: Permit | tuple[str, float]) -> None:
        """A batch asks then, or settles its permit."""
        heapq.heappush(self._agenda, (START_US + round(at_s * 1_000_000), next(self._order), lane, about))

    def run(self, until_s: float) -> None:
        """Let time pass."""
        while self._agenda and self._agenda[0][0] <= START_US + until_s * 1_000_000:
            self.now_us, _, lane, about = heapq.heappop(self._agenda)
            if isinstance(about, Permit):
                self.admission.settle(about, Report(calls=about.calls, latency_s=self.latency_s))
                if lane is Lane.BULK:
                    self.comes(lane, self.now_s + TRANSIT_S)
            else:
                self._ask(lane, *about)

    def _ask(self, lane: Lane, batch: str, came_s: float) -> None:
        keys, redis = self.backends.keys, self.backends.redis
        redis.zrem(keys.waiting_at(self.platform), batch)
        redis.zrem(keys.waiting_first_at(self.platform), batch)
        calls = self.bulk_calls if lane is Lane.BULK else 1
        answer = self.admission.ask(
            self.platform, calls=calls, calls_per_s=self.per_s, in_flight=self.in_flight, hold_s=60, holder=new_id(),
            lane=lane,
        )  # fmt: skip
        if isinstance(answer, NotNow):
            due_s = self.now_s + answer.retry_in_s
            due_ms = START_US / 1000 + due_s * 1000
            redis.zadd(keys.waiting_at(self.platform), {batch: due_ms})
            if lane is Lane.INTERACTIVE:
                redis.zadd(keys.waiting_first_at(self.platform), {batch: due_ms})
            self._plan(due_s + TRANSIT_S, lane, (batch, came_s))
            return
        first_s = self.now_s + answer.first_after_s
        # Calls of a batch that outlast the pace follow each other on the slots that it has.
        last_s = first_s + max(
            (answer.calls - 1) * answer.interval_s, (answer.calls - 1) // answer.in_flight * self.latency_s
        )
        self.starts[lane] += [first_s + n * answer.interval_s for n in range(answer.calls)]
        assert redis.zcard(keys.slots(self.platform)) <= self.in_flight
        if lane is Lane.INTERACTIVE:
            self.waits_s.append(first_s - came_s)
        self._plan(last_s + self.latency_s, lane, answer)

    def assert_pace_kept(self) -> None:
        """The lanes together never call faster than the platform allows."""
        starts = sorted(self.starts[Lane.BULK] + self.starts[Lane.INTERACTIVE])
        assert all(b - a >= 1 / self.per_s - 0.000_01 for a, b in pairwise(starts))

    def calls_per_s(self, lane: Lane, *, since_s: float, until_s: float) -> float:
        """Return how fast a lane called."""
        return sum(since_s <= at < until_s for at in self.starts[lane]) / (until_s - since_s)


@pytest.mark.parametrize(
    ("per_s", "in_flight", "latency_s", "bulk_calls"),
    [(2, 1, 0.3, 1), (1, 2, 0.8, 1), (10, 4, 0.2, 1), (5, 2, 0.1, 1), (50, 8, 0.3, 50), (100, 20, 0.1, 100)],
)
def test_a_person_gets_through_within_seconds_however_much_bulk_there_is(
    backends: Backends, per_s: float, in_flight: int, latency_s: float, bulk_calls: int
) -> None:
    """The bulk lane takes all that the platform bears, for a minute; a person asks every few seconds."""
    traffic = Traffic(backends, per_s, in_flight, latency_s=latency_s, bulk_calls=bulk_calls)
    for n in range(30):
        traffic.comes(Lane.BULK, n * 0.01)
    asked_s = [10 + 3.1 * n for n in range(14)]
    for at_s in asked_s:
        traffic.comes(Lane.INTERACTIVE, at_s)
    traffic.run(70)
    traffic.assert_pace_kept()
    assert len(asked_s) == len(traffic.waits_s)
    assert max(traffic.waits_s) <= 3 + 1 / per_s + latency_s, traffic.waits_s
    # The bulk lane has the rest of what it has without the other.
    alone = traffic.calls_per_s(Lane.BULK, since_s=2, until_s=10)
    beside = traffic.calls_per_s(Lane.BULK, since_s=10, until_s=53)
    assert beside >= 0.8 * alone - len(asked_s) / 43, (alone, beside)


@pytest.mark.parametrize(("per_s", "in_flight"), [(1, 2), (5, 4), (20, 8)])
def test_a_flood_of_persons_leaves_the_bulk_lane_a_call_now_and_then(
    backends: Backends, per_s: float, in_flight: int
) -> None:
    """Twice what the platform bears is asked for interactively: the bulk lane still has its turn about every 10 s."""
    traffic = Traffic(backends, per_s, in_flight, latency_s=0.1)
    for n in range(int(90 * per_s)):
        traffic.comes(Lane.INTERACTIVE, n / (2 * per_s))
    for n in range(8):
        traffic.comes(Lane.BULK, 1 + n * 0.01)
    traffic.run(45)
    traffic.assert_pace_kept()
    bulk = [at for at in traffic.starts[Lane.BULK] if at >= 3]
    # It looks again within ten seconds of its own line, and then goes first.
    assert all(b - a <= 25 for a, b in pairwise([3.0, *bulk, 45.0])), bulk
    assert traffic.calls_per_s(Lane.BULK, since_s=3, until_s=45) <= 0.5 * per_s
    assert traffic.calls_per_s(Lane.INTERACTIVE, since_s=3, until_s=45) >= 0.5 * per_s


@dataclass(frozen=True)
class Desk:
    """Asks at one moment."""

    traffic: Traffic

    def ask(self, lane: Lane, *, calls: int = 1) -> Permit | NotNow:
        """Ask now."""
        traffic = self.traffic
        return traffic.admission.ask(
            traffic.platform, calls=calls, calls_per_s=traffic.per_s, in_flight=traffic.in_flight, hold_s=10,
            holder=new_id(), lane=lane,
        )  # fmt: skip


def test_a_person_lines_up_behind_persons_only(backends: Backends) -> None:
    """A thousand bulk batches that wait for the platform do not count, one interactive batch does."""
    traffic = Traffic(backends, per_s=0.1, in_flight=100)
    desk, keys = Desk(traffic), backends.keys
    assert isinstance(desk.ask(Lane.BULK), Permit)
    alone = desk.ask(Lane.INTERACTIVE)
    due_ms = START_US // 1000 + 1
    backends.redis.zadd(keys.waiting_at(traffic.platform), {f"b{n}": due_ms + n for n in range(1000)})
    assert alone == desk.ask(Lane.INTERACTIVE)
    backends.redis.zadd(keys.waiting_at(traffic.platform), {"person": due_ms})
    backends.redis.zadd(keys.waiting_first_at(traffic.platform), {"person": due_ms})
    behind = desk.ask(Lane.INTERACTIVE)
    assert isinstance(alone, NotNow)
    assert isinstance(behind, NotNow)
    assert 10 == pytest.approx(behind.retry_in_s - alone.retry_in_s, abs=0.01)


def test_the_bulk_lane_leaves_one_of_four_slots(backends: Backends) -> None:
    """A bulk batch of many single calls would otherwise hold every slot until its last call."""
    traffic = Traffic(backends, per_s=100, in_flight=4)
    desk = Desk(traffic)
    bulk = desk.ask(Lane.BULK, calls=50)
    assert isinstance(bulk, Permit)
    assert 3 == bulk.in_flight
    assert isinstance(desk.ask(Lane.BULK), NotNow)
    person = desk.ask(Lane.INTERACTIVE)
    assert isinstance(person, Permit)
    assert 1 == person.in_flight
    assert NotNow(retry_in_s=0.51, why=Stop.IN_FLIGHT) == desk.ask(Lane.INTERACTIVE)


def test_where_there_are_fewer_slots_the_next_free_one_is_the_persons(backends: Backends) -> None:
    """The bulk lane lets it pass, also between its being due and its asking; then it goes on."""
    traffic = Traffic(backends, per_s=100, in_flight=1)
    desk = Desk(traffic)
    bulk = desk.ask(Lane.BULK)
    assert isinstance(bulk, Permit)
    assert isinstance(desk.ask(Lane.INTERACTIVE), NotNow)
    traffic.now_us += 1_000_000
    traffic.admission.settle(bulk, Report(calls=1))
    assert isinstance(desk.ask(Lane.BULK), NotNow)
    person = desk.ask(Lane.INTERACTIVE)
    assert isinstance(person, Permit)
    traffic.admission.settle(person, Report(calls=1))
    assert isinstance(desk.ask(Lane.BULK), Permit)


def test_a_person_who_never_comes_back_holds_nobody_up_for_long(backends: Backends) -> None:
    """It may have been cancelled: a few seconds after its time the bulk lane goes on."""
    traffic = Traffic(backends, per_s=100, in_flight=1)
    desk = Desk(traffic)
    bulk = desk.ask(Lane.BULK)
    assert isinstance(bulk, Permit)
    lost = desk.ask(Lane.INTERACTIVE)
    assert isinstance(lost, NotNow)
    traffic.admission.settle(bulk, Report(calls=1))
    traffic.now_us += round(lost.retry_in_s * 1_000_000) + RULES.grace_us - 1
    assert isinstance(desk.ask(Lane.BULK), NotNow)
    traffic.now_us += 2
    assert isinstance(desk.ask(Lane.BULK), Permit)
