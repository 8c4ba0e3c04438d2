"""Hours of outage in seconds: attempts, gate, waiting set and recorder under one clock that is moved."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
import structlog

from backends.admission import Admission
from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.gates import Gates
from backends.runs import Counters
from backends.waiting import Why
from platforms.catalogue import Catalogue
from producers.rows import Row
from producers.submit import Submitter
from schemas.batch import Basis, Batch, Lane
from schemas.errors import BackendUnavailable
from schemas.ids import new_id
from schemas.record import JobRecord
from schemas.result import ResultEvent
from schemas.state import STATES, State
from tests.command import numbers, write_platform
from tests.fixtures_valkey import NOON
from workers.attempt import Attempt
from workers.recorder import Recorder
from workers.transport import Answer, Call

HOUR_S = 3600.0
LIMITS = {"calls_per_s": 10, "in_flight": 4, "items_per_call": 2, "timeout_s": 2}


class Weather:
    """The platform, seen from the transport: away between two instants, or refusing our credentials."""

    name = "test"

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.status_at: list[tuple[datetime, int]] = [(NOON, 200)]
        self.calls: list[tuple[datetime, int]] = []
        self.ahead_s = 0.0

    def look_ahead(self, seconds: float) -> None:
        """Remember by how much a call would have been held back: the clock stands still meanwhile."""
        self.ahead_s = seconds

    def send(
        self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0
    ) -> Iterator[Answer]:
        """Answer at once, as the weather is."""
        now = self._clock.now()
        status = [status for since, status in self.status_at if since <= now][-1]
        for call in calls:
            self.calls.append((now + timedelta(seconds=self.ahead_s), status))
            results = [{"id": key, "code": "NO_BINDING"} for key in call.keys]
            # Each protocol reads its own field.
            body = orjson.dumps({"results": results, "code": "NO_BINDING"}) if status == 200 else b"{}"
            yield Answer(
                call=call, status=status, headers={"content-type": "application/json"}, body=body, latency_s=0.05
            )

    def close(self) -> None:
        """Nothing is open."""


class Theatre:
    """Everything but the processes; time goes from one due batch to the next."""

    def __init__(self, backends: Backends, catalogue: Catalogue) -> None:
        clock = ManualClock(NOON)
        admission = Admission(backends.redis, backends.keys, clock_us=lambda: int(clock.now().timestamp() * 1_000_000))
        self.backends = replace(backends, clock=clock, admission=admission)
        self.clock, self.weather = clock, Weather(clock)
        self._attempt = Attempt(
            self.backends,
            catalogue,
            transport=self.weather,
            credentials=lambda _: (),
            rng=Random(1),
            pause=self.weather.look_ahead,
        )
        self.gates = Gates(backends.redis, backends.keys, clock_us=lambda: int(clock.now().timestamp() * 1_000_000))
        self._recorder = Recorder(self.backends, Event())
        self._connection = backends.broker.connect()
        self._results = backends.broker.results(self._connection.default_channel)
        self.run = new_id()

    def submit(self, catalogue: Catalogue, count: int) -> None:
        """Record some numbers; their batches wait instead of being queued."""
        self.backends.broker.declare()
        self.backends.runs.begin(self.run, file="numbers.csv", now=NOON)
        rows = [
            Row(line=line, number=f"+86{number}", cutoff_at="2026-12-02T00:00:00+08:00",
                basis=Basis.PLANNED_RELEASE, cycle="2026-12-02", reference="", platforms=())
            for line, number in enumerate(numbers(count), start=2)
        ]  # fmt: skip
        Submitter(self.backends, catalogue, operator="op").submit(rows, run=self.run, on_rejected=lambda _: None)
        for entry in list(self.backends.custody.every()):
            batch = Batch.parse(self.backends.custody.bodies([entry.batch])[entry.batch])
            self.backends.waiting.put(batch, due=NOON, why=Why.LIMIT)
            self.backends.custody.end(batch.id)

    def play(self, *, until_s: float) -> None:
        """Go from due batch to due batch until then, or until nothing waits."""
        end = NOON + timedelta(seconds=until_s)
        redis: Any = self.backends.redis
        while due := redis.zrange(self.backends.keys.waiting, 0, 0, withscores=True):
            at = datetime.fromtimestamp(due[0][1] / 1000, NOON.tzinfo)
            if at > end:
                break
            self.clock.set(max(self.clock.now(), at))
            leased = self.backends.waiting.lease(self.clock.now(), at_most=20)
            for batch in leased.batches:
                self._attempt.run(batch.model_dump(mode="json"))
            self.backends.waiting.finish(leased)
            self._record()
        self.clock.set(max(self.clock.now(), end))

    def _record(self) -> None:
        while message := self._results.get(no_ack=False):
            self._recorder._held.append(message)
        self._recorder._write()

    def records(self) -> list[JobRecord]:
        """Return every job."""
        cases = self.backends.store.cases(self.backends.runs.cases(self.run))
        return [case.record(platform) for case in cases for platform in case.platforms]

    def counters(self) -> Counters:
        """Return the counters of the run."""
        return self.backends.runs.counters(self.run)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of attempts need no line each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """One platform."""
    write_platform(tmp_path / "catalogue", "many", limits=LIMITS)
    return Catalogue.load(tmp_path / "catalogue")


def most_in_any(calls: Sequence[datetime], seconds: float) -> int:
    """Return the most calls that any such span of time holds."""
    return max(sum(start <= at < start + timedelta(seconds=seconds) for at in calls) for start in calls)


@pytest.mark.parametrize("hours", [1, 6])
def test_a_platform_that_is_away_for_hours_costs_no_job_and_meets_no_storm(
    backends: Backends, catalogue: Catalogue, hours: float
) -> None:
    """Breaker, probes and ramp: the night operator can sleep, and the platform comes back in peace."""
    theatre = Theatre(backends, catalogue)
    theatre.submit(catalogue, 200)
    back = NOON + timedelta(seconds=5, hours=hours)
    theatre.weather.status_at += [(NOON + timedelta(seconds=5), 503), (back, 200)]
    theatre.play(until_s=5 + hours * HOUR_S)
    away = [at for at, status in theatre.weather.calls if status == 503]
    before = [record for record in theatre.records() if not STATES[record.state].final]
    assert len(before) > 40
    assert State.DEAD not in {record.state for record in before}
    # Those that met the first failures have spent one attempt, nobody more: the rest was kept back or only probed.
    assert {0, 1} >= {record.attempts for record in before}
    assert sum(record.attempts for record in before) <= 2 * 10
    # Some probes each five minutes, and nothing else.
    assert len(away) <= 10 + 3 * 12 * (hours + 1)
    theatre.play(until_s=(hours + 12) * HOUR_S)
    assert {State.NO_BINDING} == {record.state for record in theatre.records()}
    assert max(record.attempts for record in theatre.records()) <= 2
    after = [at for at, status in theatre.weather.calls if at >= back]
    first_minute = [at for at in after if at < after[0] + timedelta(seconds=3)]
    assert len(first_minute) <= 3 + 3 * 10 * 0.25
    assert most_in_any(after, 1.0) <= 10 + 1


def test_refused_credentials_suspend_the_platform_and_kill_no_job(backends: Backends, catalogue: Catalogue) -> None:
    """A key that was revoked on Friday evening and mended on Monday: no dead letter, no attempt, one suspension."""
    theatre = Theatre(backends, catalogue)
    theatre.submit(catalogue, 60)
    days = 0.5
    theatre.weather.status_at += [(NOON + timedelta(seconds=1), 401), (NOON + timedelta(days=days), 200)]
    theatre.play(until_s=days * 24 * HOUR_S)
    held = [record for record in theatre.records() if not STATES[record.state].final]
    assert held
    assert {0} == {record.attempts for record in held}
    assert ("suspended", "unauthorized") == (
        theatre.gates.views(["many"])[0].state,
        theatre.gates.views(["many"])[0].reason,
    )
    refused = [at for at, status in theatre.weather.calls if status == 401]
    assert len(refused) <= 4 + 10 + days * 24 * 6
    theatre.play(until_s=(days * 24 + 12) * HOUR_S)
    assert {(State.NO_BINDING, 1)} == {(record.state, record.attempts) for record in theatre.records()}
    # Flowing, or still in its ramp where the last job came before the ramp was over.
    assert theatre.gates.views(["many"])[0].state in {"flowing", "ramping"}


def test_a_pause_holds_every_job_and_a_resume_lets_them_go(backends: Backends, catalogue: Catalogue) -> None:
    """What a person pauses is not called, not even once."""
    theatre = Theatre(backends, catalogue)
    theatre.gates.pause("many", until=None, reason="contract")
    theatre.submit(catalogue, 40)
    theatre.play(until_s=300)
    assert [] == theatre.weather.calls
    assert {(State.QUEUED, 0)} == {(record.state, record.attempts) for record in theatre.records()}
    theatre.gates.resume("many")
    theatre.play(until_s=2 * HOUR_S)
    assert {(State.NO_BINDING, 1)} == {(record.state, record.attempts) for record in theatre.records()}


def test_one_bad_item_of_many_is_found_in_a_logarithmic_number_of_calls(backends: Backends, tmp_path: Path) -> None:
    """And only that one needs a person."""
    items = 256
    write_platform(tmp_path / "catalogue", "many", limits={**LIMITS, "items_per_call": items, "calls_per_s": 1000})
    catalogue = Catalogue.load(tmp_path / "catalogue")
    theatre = Theatre(backends, catalogue)
    theatre.submit(catalogue, items)
    bad = next(iter(theatre.backends.runs.cases(theatre.run)))

    def send(calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0) -> Iterator[Answer]:
        for call in calls:
            theatre.weather.status_at = [(NOON, 422 if any(key.startswith(bad) for key in call.keys) else 200)]
            yield from Weather.send(theatre.weather, [call], in_flight=in_flight, deadline_s=deadline_s)

    theatre.weather.send = send  # type: ignore[method-assign]
    theatre.play(until_s=HOUR_S)
    states = [record.state for record in theatre.records()]
    assert (1, items - 1) == (states.count(State.DEAD), states.count(State.NO_BINDING))
    assert len(theatre.weather.calls) <= 2 * items.bit_length()
    assert {(State.DEAD, 1), (State.NO_BINDING, 1)} == {(r.state, r.attempts) for r in theatre.records()}


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0, 86400.0 * 3])
def test_a_clock_that_jumps_loses_nothing(backends: Backends, catalogue: Catalogue, jump_s: float) -> None:
    """A machine that comes back from a wrong time calls nobody twice and forgets nobody."""
    theatre = Theatre(backends, catalogue)
    theatre.submit(catalogue, 60)
    theatre.weather.status_at = [(NOON - timedelta(days=9), 200)]
    theatre.play(until_s=1)
    theatre.clock.set(theatre.clock.now() + timedelta(seconds=jump_s))
    theatre.play(until_s=9 * 86400)
    assert {(State.NO_BINDING, 1)} == {(record.state, record.attempts) for record in theatre.records()}
    assert 30 == len(theatre.weather.calls)


def test_a_result_whose_publishing_is_in_doubt_is_published_again_and_counts_once(
    backends: Backends, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker took the event and the connection broke before it could say so: the call is not made again."""
    theatre = Theatre(backends, catalogue)
    theatre.submit(catalogue, 10)
    publish, events = theatre.backends.broker.publish_event, list[str]()

    def publish_in_doubt(event: ResultEvent) -> None:
        publish(event)
        events.append(event.id)
        if events.count(event.id) == 1:
            raise BackendUnavailable("the connection broke")

    monkeypatch.setattr(theatre.backends.broker, "publish_event", publish_in_doubt)
    theatre.play(until_s=60)
    assert {2} == {events.count(event) for event in events}
    assert 5 == len(theatre.weather.calls) == theatre.counters().get("calls") == len(set(events))
    assert {(State.NO_BINDING, 1)} == {(record.state, record.attempts) for record in theatre.records()}


def test_batches_whose_publishing_is_in_doubt_are_sent_again_and_called_once(
    backends: Backends, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The producer cannot know what the broker has: it sends all of it again, and each job is still asked once."""
    theatre = Theatre(backends, catalogue)
    publish, calls = theatre.backends.broker.publish_batches, 0

    def publish_in_doubt(batches: Iterable[Batch]) -> int:
        nonlocal calls
        calls += 1
        count = publish(batches)
        if calls == 1:
            raise BackendUnavailable("the connection broke")
        return count

    monkeypatch.setattr(theatre.backends.broker, "publish_batches", publish_in_doubt)
    with pytest.raises(BackendUnavailable):
        theatre.submit(catalogue, 10)
    theatre.submit(catalogue, 10)
    queue = theatre.backends.keys.queue(Lane.BULK)
    assert 2 * 5 == theatre.backends.broker.depths()[queue]
    theatre.play(until_s=60)
    assert 5 == len(theatre.weather.calls)
    assert {(State.NO_BINDING, 1)} == {(record.state, record.attempts) for record in theatre.records()}


@pytest.mark.parametrize(("protocol", "per_day", "days"), [("bulk-json", 21, 3), ("json", 15, 4)])
def test_a_days_quota_and_hours_hold_the_bulk_lane_for_days_and_cost_no_attempt(
    backends: Backends, tmp_path: Path, protocol: str, per_day: int, days: int
) -> None:
    """Submitted in the evening: it begins at nine, each day has what it may, a bulk call whole, at the usual pace."""
    limits = {**LIMITS, "jobs_per_day": per_day} | ({"items_per_call": 1} if protocol == "json" else {})
    hours = [{"start": "09:00", "end": "18:00"}]
    write_platform(tmp_path / "catalogue", "many", protocol=protocol, limits=limits, bulk_hours=hours)
    catalogue = Catalogue.load(tmp_path / "catalogue")
    theatre = Theatre(backends, catalogue)
    theatre.submit(catalogue, 60)
    theatre.play(until_s=HOUR_S)
    assert [] == theatre.weather.calls
    assert {"hours": backends.waiting.count()} == backends.figures.whys()
    theatre.play(until_s=20 * HOUR_S)
    assert {"quota": backends.waiting.count()} == backends.figures.whys()
    each = 2 if protocol == "bulk-json" else 1
    assert {"many": per_day // each * each} == backends.figures.jobs_today(["many"], now=theatre.clock.now())
    assert {(State.QUEUED, 0), (State.NO_BINDING, 1)} == {(r.state, r.attempts) for r in theatre.records()}
    theatre.play(until_s=6 * 24 * HOUR_S)
    assert {(State.NO_BINDING, 1)} == {(record.state, record.attempts) for record in theatre.records()}
    there = [at.astimezone(ZoneInfo("Asia/Shanghai")) for at, _ in theatre.weather.calls]
    assert {9} == {at.hour for at in there}
    by_day = Counter(at.date() for at in there)
    assert days == len(by_day)
    assert [per_day // each] * (days - 1) == [by_day[day] for day in sorted(by_day)][:-1]
    # One call a batch; the weather knows nothing of the pace within a batch.
    assert protocol == "json" or most_in_any([at for at, _ in theatre.weather.calls], 1.0) <= 10 + 1


def test_a_batch_that_was_made_before_the_quota_is_divided_and_not_stuck(backends: Backends, tmp_path: Path) -> None:
    """A catalogue that gets a quota below the size of its batches must not hold them for ever."""
    folder = tmp_path / "catalogue"
    write_platform(folder, "many", limits={**LIMITS, "items_per_call": 30})
    old = Catalogue.load(folder)
    write_platform(folder, "many", limits={**LIMITS, "items_per_call": 30, "jobs_per_day": 12})
    theatre = Theatre(backends, Catalogue.load(folder))
    theatre.submit(old, 30)
    theatre.play(until_s=4 * 24 * HOUR_S)
    assert {(State.NO_BINDING, 1)} == {(record.state, record.attempts) for record in theatre.records()}
    days = Counter(at.astimezone(ZoneInfo("Asia/Shanghai")).date() for at, _ in theatre.weather.calls)
    assert [1, 1, 1] == list(days.values())
