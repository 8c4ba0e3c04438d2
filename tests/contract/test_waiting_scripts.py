"""The waiting set's scripts against a Python model: nothing is lost, and nobody holds what another holds."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from backends.bootstrap import Backends
from backends.connect import text
from backends.waiting import LEASE_S, Leased, WaitingSet, Why
from backends.waiting_view import WaitingFilter
from schemas.batch import Basis, Batch, Job, Lane
from schemas.ids import derive
from tests.fixtures_valkey import NOON, ONE_NAMESPACE, stored

BATCHES = 9
PLATFORMS = ("alpha", "beta")


def is_first(number: int) -> bool:
    """Tell whether a batch is interactive: every third."""
    return number % 3 == 0


def make_batch(number: int, *, attempt: int = 1) -> Batch:
    """One of a few batches, at one of two platforms, on one of two lanes."""
    return Batch(
        id=derive("batch", str(number)),
        run=derive("run"),
        platform=PLATFORMS[number % 2],
        lane=Lane.INTERACTIVE if is_first(number) else Lane.BULK,
        attempt=attempt,
        deadline=NOON + timedelta(days=5),
        jobs=(Job(case=derive(str(number)), cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE),),
        sealed="x",
    )


FIRST_IDS = {make_batch(number).id for number in range(BATCHES) if is_first(number)}


@dataclass(slots=True)
class Held:
    """What a scheduler has leased and until when."""

    leased: Leased
    until_s: int


class WaitingMachine(RuleBasedStateMachine):
    """Batches are put, leased, finished and forgotten while a clock goes on; the model is one dictionary."""

    backends: Backends

    def __init__(self) -> None:
        super().__init__()
        redis, keys = self.backends.redis, self.backends.keys
        for key in list(redis.scan_iter(match=f"{keys.namespace}:*")):
            redis.delete(key)
        self.waiting = WaitingSet(redis, keys)
        self.now_s = 0
        self.due: dict[str, int] = {}  # batch → when it is due, or when its lease ends
        self.fence: dict[str, int] = {}  # batch → its newest lease
        self.attempt: dict[str, int] = {}
        self.leases: list[Held] = []
        self.put_ever = self.finished_ever = 0

    @property
    def now(self) -> datetime:
        """The clock."""
        return NOON + timedelta(seconds=self.now_s)

    @rule(number=st.integers(0, BATCHES - 1), delay_s=st.integers(0, 60), attempt=st.integers(1, 3))
    def put(self, number: int, delay_s: int, attempt: int) -> None:
        """Put one; the same batch again changes nothing, whatever it says."""
        batch = make_batch(number, attempt=attempt)
        new = batch.id not in self.due
        assert new == self.waiting.put(batch, due=self.now + timedelta(seconds=delay_s), why=Why.RETRY)
        if new:
            self.due[batch.id], self.attempt[batch.id] = self.now_s + delay_s, attempt
            self.put_ever += 1

    @rule(at_most=st.integers(1, BATCHES) | st.just(20), only=st.booleans())
    def lease(self, at_most: int, only: bool) -> None:
        """Lease what is due: interactive ones first, the longest due first, under a number that no lease had before."""
        leased = self.waiting.lease(self.now, at_most=at_most, interactive_only=only)
        ids = [batch.id for batch in leased.batches]
        due = sorted(self.due.values())
        first = sorted(at_s for ident, at_s in self.due.items() if ident in FIRST_IDS and at_s <= self.now_s)
        first = first[: at_most if only else -(-9 * at_most // 10)]
        assert first == [self.due[ident] for ident in ids[: len(first)]]
        assert FIRST_IDS.issuperset(ids[: len(first)])
        rest = [self.due[ident] for ident in ids[len(first) :]]
        assert sorted(rest) == rest
        ready = [at_s for at_s in due if at_s <= self.now_s]
        if only:
            assert not rest
        else:
            assert min(at_most, len(ready)) == len(ids)
            left = [self.due[ident] for ident in self.due if ident not in ids]
            assert not rest or max(rest) <= min(left, default=max(rest))
        assert [make_batch_of(ident, self.attempt[ident]) for ident in ids] == list(leased.batches)
        elsewhere = {b.id for held in self.leases if held.until_s > self.now_s for b in self.owned(held.leased)}
        assert elsewhere.isdisjoint(ids)
        if ids:
            assert leased.fence > max((held.leased.fence for held in self.leases), default=0)
            for ident in ids:
                self.due[ident], self.fence[ident] = self.now_s + LEASE_S, leased.fence
            self.leases.append(Held(leased=leased, until_s=self.now_s + LEASE_S))

    def owned(self, leased: Leased) -> list[Batch]:
        """What a lease still owns: not what was finished, and not what was leased again."""
        return [batch for batch in leased.batches if self.fence.get(batch.id) == leased.fence]

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Finish a lease, old or new, once or again: only what it still owns goes."""
        held = data.draw(st.sampled_from(self.leases))
        mine = self.owned(held.leased)
        assert len(mine) == self.waiting.finish(held.leased)
        for batch in mine:
            del self.due[batch.id], self.fence[batch.id]
        self.finished_ever += len(mine)

    @rule(number=st.integers(0, BATCHES - 1))
    def hurry(self, number: int) -> None:
        """A person lets one be due now; one that a scheduler holds stays as it is."""
        ident, view = make_batch(number).id, self.backends.waiting_view
        found = list(view.select(WaitingFilter(batches=frozenset({ident})), now=self.now))
        held = ident in self.fence and self.due[ident] > self.now_s
        waits = ident in self.due
        assert (int(waits and not held), (ident,) if held else ()) == view.run_now(found, now=self.now)
        if waits and not held:
            self.due[ident] = self.now_s

    @rule(seconds=st.integers(1, LEASE_S + 10))
    def time_passes(self, seconds: int) -> None:
        """Leases end and batches become due by nothing else."""
        self.now_s += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was put waits or was finished, and every index says the same."""
        redis: Any = self.backends.redis
        keys = self.backends.keys
        assert self.put_ever == self.waiting.count() + self.finished_ever
        scores = {text(ident): (at - NOON.timestamp() * 1000) / 1000 for ident, at in zrange(redis, keys.waiting)}
        assert self.due == scores
        assert set(self.due) == set(map(text, redis.hkeys(keys.waiting_batches)))
        assert self.fence == {text(ident): int(fence) for ident, fence in redis.hgetall(keys.waiting_leases).items()}
        firsts = {ident: at_s for ident, at_s in scores.items() if ident in FIRST_IDS}
        assert set(firsts) == {text(ident) for ident, _ in zrange(redis, keys.waiting_first)}
        assert dict(zrange(redis, keys.waiting)).items() >= dict(zrange(redis, keys.waiting_first)).items()
        for number, platform in enumerate(PLATFORMS):
            mine = {make_batch(n).id for n in range(number, BATCHES, 2)} & set(self.due)
            assert mine == {text(ident) for ident, _ in zrange(redis, keys.waiting_at(platform))}
            assert mine & set(firsts) == {text(ident) for ident, _ in zrange(redis, keys.waiting_first_at(platform))}


def zrange(redis: Any, key: str) -> list[tuple[bytes, float]]:
    """Return the members of a sorted set with their scores."""
    return list(redis.zrange(key, 0, -1, withscores=True))


def make_batch_of(ident: str, attempt: int) -> Batch:
    """Return the batch with this id."""
    (number,) = [n for n in range(BATCHES) if make_batch(n).id == ident]
    return make_batch(number, attempt=attempt)


def test_nothing_put_is_lost_and_nothing_leased_is_given_twice(backends: Backends) -> None:
    """Any number of schedulers, slow or dead, and any order of what they do (rule 1)."""

    class Machine(WaitingMachine):
        """Bound to this test's backends."""

    Machine.backends = backends
    run_state_machine_as_test(Machine, settings=settings(ONE_NAMESPACE, max_examples=40, stateful_step_count=25))


def test_the_same_batch_put_again_changes_nothing(backends: Backends) -> None:
    """A redelivered message asks for the same wait: not one byte changes."""
    assert backends.waiting.put(make_batch(1), due=NOON, why=Why.RETRY)
    before = stored(backends)
    assert not backends.waiting.put(make_batch(1), due=NOON + timedelta(hours=1), why=Why.LIMIT)
    assert before == stored(backends)


def test_a_batch_comes_back_as_it_was_put(backends: Backends) -> None:
    """The waiting set changes nothing of what it keeps, and forgets it wholly when it is finished."""
    before = stored(backends)
    batch = make_batch(1, attempt=7)
    backends.waiting.put(batch, due=NOON, why=Why.LIMIT)
    leased = backends.waiting.lease(NOON, at_most=5)
    assert (batch,) == leased.batches
    assert 1 == backends.waiting.finish(leased)
    assert {backends.keys.fence} == set(stored(backends)) - set(before)


@pytest.mark.parametrize("seconds_early", [0.001, 1, 3600])
def test_a_batch_is_not_leased_before_it_is_due(backends: Backends, seconds_early: float) -> None:
    """A platform that said `come back in an hour` is not called in 59 minutes."""
    backends.waiting.put(make_batch(1), due=NOON, why=Why.RETRY)
    assert () == backends.waiting.lease(NOON - timedelta(seconds=seconds_early), at_most=1).batches
    assert 1 == len(backends.waiting.lease(NOON, at_most=1).batches)


def test_an_old_lease_finishes_nothing(backends: Backends) -> None:
    """Who was too slow finds that the batch has passed to another (fencing)."""
    backends.waiting.put(make_batch(2), due=NOON, why=Why.RETRY)
    slow = backends.waiting.lease(NOON, at_most=1)
    assert () == backends.waiting.lease(NOON + timedelta(seconds=LEASE_S - 1), at_most=1).batches
    quick = backends.waiting.lease(NOON + timedelta(seconds=LEASE_S), at_most=1)
    assert slow.fence < quick.fence
    assert 0 == backends.waiting.finish(slow)
    assert 1 == backends.waiting.count()
    assert 1 == backends.waiting.finish(quick)
    assert 0 == backends.waiting.count()


def test_schedulers_that_race_share_what_is_due(backends: Backends) -> None:
    """Each batch goes to exactly one of them."""
    schedulers, batches = 4, 200
    for number in range(batches):
        backends.waiting.put(make_batch(number), due=NOON, why=Why.RETRY)
    found: list[list[str]] = [[] for _ in range(schedulers)]
    together = Barrier(schedulers)

    def race(mine: list[str]) -> None:
        together.wait(30)
        while (leased := backends.waiting.lease(NOON, at_most=7)).batches:
            mine += [batch.id for batch in leased.batches]
            backends.waiting.finish(leased)

    racing = [Thread(target=race, args=(mine,)) for mine in found]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join(60)
    assert sorted(make_batch(number).id for number in range(batches)) == sorted(
        ident for mine in found for ident in mine
    )
    assert 0 == backends.waiting.count()
