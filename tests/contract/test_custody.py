"""Custody's scripts against a Python model, and the sweeper over them: no batch without a holder, none for ever."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.connect import text
from backends.custody import ANSWERED_S, BEGUN_S, QUEUED_S, Custody, Note, Phase
from schemas.batch import Basis, Batch, Job, Lane, seal_context
from schemas.case import Case
from schemas.ids import derive, new_id
from schemas.outcome import Hold
from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import State
from tests.fixtures_valkey import NOON, ONE_NAMESPACE, stored
from workers.recorder import Recorder
from workers.sweeper import STARTS_MAX, Sweeper

BATCHES = 4
LEASE_S = 20
WORKERS = ("w1/a", "w2/b")
NUMBER = "+8613912345678"


def make_batch(number: int, *, cases: tuple[str, ...] = ()) -> Batch:
    """One of a few batches."""
    return Batch(
        id=derive("batch", str(number)),
        run=derive("run"),
        platform="alpha",
        deadline=NOON + timedelta(days=5),
        jobs=tuple(
            Job(case=case, cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE)
            for case in cases or (derive(str(number)),)
        ),
        sealed="x",
    )


def body_of(batch: Batch) -> bytes:
    """Its JSON, as it is kept."""
    return batch.model_dump_json().encode()


class CustodyMachine(RuleBasedStateMachine):
    """Batches are entered, begun, answered, put back, redriven and ended while a clock goes on."""

    backends: Backends

    def __init__(self) -> None:
        super().__init__()
        redis, keys = self.backends.redis, self.backends.keys
        for key in list(redis.scan_iter(match=f"{keys.namespace}:*")):
            redis.delete(key)
        self.custody = Custody(redis, keys)
        self.now_s = 0
        self.notes: dict[str, Note] = {}
        self.look_s: dict[str, float] = {}
        self.redriven = 0

    @property
    def now(self) -> datetime:
        """The time of the model."""
        return NOON + timedelta(seconds=self.now_s)

    def ms(self, in_s: float = 0) -> int:
        """The same as the notes keep it, or some seconds later."""
        return int((self.now.timestamp() + in_s) * 1000)

    @rule(number=st.integers(0, BATCHES - 1))
    def enter(self, number: int) -> None:
        """A batch that is known is left as it is."""
        batch = make_batch(number)
        assert (batch.id not in self.notes) == self.custody.enter([(batch, body_of(batch))], now=self.now)
        if batch.id not in self.notes:
            self.notes[batch.id] = Note(phase=Phase.QUEUED, since_ms=self.ms())
            self.look_s[batch.id] = self.now_s + QUEUED_S

    @rule(number=st.integers(0, BATCHES - 1), worker=st.sampled_from(WORKERS))
    def begin(self, number: int, worker: str) -> None:
        """Only one worker holds a batch at a time, and a lease that has ended holds nothing."""
        batch = make_batch(number)
        found = self.custody.begin(batch, holder=worker, lease_s=LEASE_S, now=self.now)
        known = self.notes.get(batch.id)
        if known is None:
            assert found is not None
            assert 1 == found.starts
            return
        if known.phase is Phase.BEGUN and known.holder == worker:
            assert known == found
            return
        if known.phase is not Phase.QUEUED and known.ends_ms > self.ms():
            assert found is None
            return
        starts = known.starts + 1
        expected = Note(
            phase=Phase.BEGUN, since_ms=self.ms(), ends_ms=self.ms(LEASE_S), starts=starts, redrives=known.redrives,
            holder=worker,
        )  # fmt: skip
        assert expected == found
        self.notes[batch.id], self.look_s[batch.id] = expected, self.now_s + BEGUN_S

    @precondition(lambda self: self.notes)
    @rule(data=st.data(), stale=st.booleans(), verb=st.sampled_from(["answered", "put_back", "leave", "redrive"]))
    def mark(self, data: st.DataObject, stale: bool, verb: str) -> None:
        """Whoever knows an old note changes nothing."""
        ident = data.draw(st.sampled_from(sorted(self.notes)))
        note = self.notes[ident]
        known = Note(phase=note.phase, since_ms=note.since_ms, starts=note.starts + 1) if stale else note
        (entry,) = [entry for entry in self.custody.every() if entry.batch == ident]
        assert note == entry.note
        if stale:
            entry = type(entry)(batch=ident, note=known, look_at_ms=entry.look_at_ms)
        if verb == "answered":
            done, look_s = self.custody.answered(ident, known, now=self.now), ANSWERED_S
            after = replace(note, phase=Phase.ANSWERED, since_ms=self.ms(), ends_ms=self.ms(ANSWERED_S))
        elif verb == "put_back":
            done, look_s = self.custody.put_back(ident, known, now=self.now), QUEUED_S
            after = Note(phase=Phase.QUEUED, since_ms=self.ms(), starts=max(0, note.starts - 1), redrives=note.redrives)
        elif verb == "leave":
            done, look_s, after = self.custody.leave(entry, now=self.now, look_s=7), 7, note
        else:
            done, look_s = self.custody.redrive(entry, now=self.now, look_s=9), 9
            after = Note(phase=Phase.QUEUED, since_ms=self.ms(), starts=note.starts, redrives=note.redrives + 1)
            self.redriven += not stale
        assert (not stale) == done
        if not stale:
            self.notes[ident], self.look_s[ident] = after, self.now_s + look_s

    @precondition(lambda self: self.notes)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """Nothing of it is left."""
        ident = data.draw(st.sampled_from(sorted(self.notes)))
        self.custody.end(ident)
        del self.notes[ident], self.look_s[ident]

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        """Leases end by nothing else."""
        self.now_s += seconds

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        """And the overdue are those whose time has come."""
        entries = {entry.batch: entry for entry in self.custody.every()}
        assert self.notes == {ident: entry.note for ident, entry in entries.items()}
        overdue = {entry.batch for entry in self.custody.overdue(self.now, at_most=100)}
        assert {ident for ident, look_s in self.look_s.items() if look_s <= self.now_s} == overdue
        assert (len(self.notes), self.redriven) == self.custody.counts()
        redis: Any = self.backends.redis
        assert set(self.notes) == set(map(text, redis.hkeys(self.backends.keys.custody_batches)))


def test_custody_knows_one_holder_for_each_batch(backends: Backends) -> None:
    """Any number of workers and sweepers, slow or dead, in any order."""

    class Machine(CustodyMachine):
        """Bound to this test's backends."""

    Machine.backends = backends
    run_state_machine_as_test(Machine, settings=settings(ONE_NAMESPACE, max_examples=40, stateful_step_count=30))


# -- the sweeper -----------------------------------------------------------------------------------------------------


def accepted(backends: Backends) -> tuple[str, Batch]:
    """Accept one case at one platform. Returns its run and the batch that is owed."""
    run, case = new_id(), new_id()
    backends.runs.begin(run, file="numbers.csv", now=NOON)
    backends.store.accept(
        run,
        [
            Case(
                id=case, number=NUMBER, token=backends.vault.token(NUMBER), line=2,
                cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE, cycle="2026-11-01", reference="",
                platforms=("alpha",),
            )
        ],
        now=NOON,
    )  # fmt: skip
    batch = make_batch(0, cases=(case,)).model_copy(
        update={"run": run, "sealed": backends.vault.seal_numbers([NUMBER], context=seal_context((case,)))}
    )
    return run, batch


def tick(backends: Backends, seconds: float) -> datetime:
    """Let time pass. Returns what the clock says then."""
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(backends.clock.now() + timedelta(seconds=seconds))
    return backends.clock.now()


def depth(backends: Backends) -> int:
    """How many messages wait in the bulk lane."""
    return backends.broker.depths()[backends.broker.queues[Lane.BULK].name]


def record_what_is_published(backends: Backends) -> None:
    """Apply every result event that waits in the results queue."""
    import threading

    stop = threading.Event()
    recorder = Recorder(backends, stop)
    with backends.broker.connect() as connection:
        queue = backends.broker.results(connection.default_channel)
        while message := queue.get(no_ack=False):
            recorder._held.append(message)
            recorder._write()


def test_an_emptied_queue_is_filled_again(backends: Backends) -> None:
    """The broker is not the only record (rule 1)."""
    backends.broker.declare()
    _, batch = accepted(backends)
    backends.dispatch.send([batch])
    assert 1 == depth(backends)
    backends.redis.delete(backends.keys.queue(Lane.BULK))
    sweeper = Sweeper(backends)
    assert 0 == sweeper.sweep()
    tick(backends, QUEUED_S + 1)
    assert 1 == sweeper.sweep()
    assert 1 == depth(backends)
    assert (1, 1) == backends.custody.counts()


def test_a_queue_that_still_has_the_message_is_left_alone(backends: Backends) -> None:
    """However long it takes until it is its turn."""
    backends.broker.declare()
    _, batch = accepted(backends)
    backends.dispatch.send([batch])
    for _ in range(5):
        tick(backends, 3601)
        assert 0 == Sweeper(backends).sweep()
    assert 1 == depth(backends)


def test_a_dead_worker_s_batch_goes_to_the_next_and_to_no_second_one(backends: Backends) -> None:
    """Two sweepers look at once: the batch is sent again once."""
    backends.broker.declare()
    _, batch = accepted(backends)
    backends.custody.enter([(batch, body_of(batch))], now=NOON)
    assert backends.custody.begin(batch, holder="w1", lease_s=LEASE_S, now=NOON)
    assert backends.custody.begin(batch, holder="w2", lease_s=LEASE_S, now=NOON) is None
    tick(backends, LEASE_S + 1)
    assert [1, 0] == [Sweeper(backends).sweep(), Sweeper(backends).sweep()]
    assert 1 == depth(backends)


def test_what_no_worker_finishes_becomes_a_dead_letter_with_its_reason(backends: Backends) -> None:
    """A batch that kills its workers must not kill them for ever."""
    backends.broker.declare()
    run, batch = accepted(backends)
    backends.custody.enter([(batch, body_of(batch))], now=NOON)
    for start in range(STARTS_MAX):
        assert backends.custody.begin(batch, holder=f"w{start}", lease_s=LEASE_S, now=backends.clock.now())
        tick(backends, 3601)
        assert 1 == Sweeper(backends).sweep()
    record_what_is_published(backends)
    case = backends.store.case(batch.jobs[0].case)
    assert (State.DEAD, Hold.POISON) == (case.record("alpha").state, case.record("alpha").reason)
    assert f"begun {STARTS_MAX} times" in backends.store.details(case.id)["alpha"]["detail"]
    assert 0 == backends.custody.counts()[0]
    assert run == case.run


def test_a_body_that_is_no_batch_is_kept_and_not_looked_at_for_ever(backends: Backends) -> None:
    """What cannot be sent again must not stop the sweeper from looking after the others."""
    backends.broker.declare()
    batch = make_batch(1)
    backends.custody.enter([(batch, orjson.dumps({"id": batch.id, "lane": "bulk"}))], now=NOON)
    tick(backends, QUEUED_S + 1)
    assert 1 == Sweeper(backends).sweep()
    assert 0 == backends.custody.counts()[0]
    redis: Any = backends.redis
    (kept,) = redis.lrange(backends.keys.poison, 0, -1)
    assert batch.id in orjson.loads(kept)["body"]


def test_a_recorded_result_ends_the_custody(backends: Backends) -> None:
    """In one step with the record, so that a job is never in nobody's hands."""
    run, batch = accepted(backends)
    before = stored(backends)
    backends.custody.enter([(batch, body_of(batch))], now=NOON)
    data = AttemptData(
        batch=batch.id, run=run, platform="alpha", attempt=1, started_at=NOON, ended_at=NOON, worker="w", calls=1,
        latencies=(1,) + (0,) * len(LATENCY_BOUNDS_MS),
        jobs=(JobResult(case=batch.jobs[0].case, state=State.NO_BINDING),),
    )  # fmt: skip
    backends.store.apply(ResultEvent(id=new_id(), time=NOON, subject="alpha", data=data))
    left = set(stored(backends)) - set(before)
    assert [] == [key for key in left if "custody" in key]


@pytest.mark.parametrize("phase", Phase)
def test_a_message_of_a_batch_that_nobody_has_in_custody_may_be_begun(backends: Backends, phase: Phase) -> None:
    """Its jobs' records say what is left to do: a store that lost a second must not lose the batch."""
    note = backends.custody.begin(make_batch(2), holder="w", lease_s=1, now=NOON)
    assert note is not None
    assert 1 == note.starts
