"""What waits, as a person sees and changes it; a batch that a scheduler holds is left alone."""

from datetime import timedelta

import pytest

from backends.actions import What
from backends.bootstrap import Backends
from backends.waiting import LEASE_S, Why
from backends.waiting_view import WaitingFilter
from ops.retries import Retries
from schemas.errors import NotFound
from schemas.ids import new_id
from schemas.outcome import Fault, Hold
from schemas.state import State
from tests.fixtures_valkey import NOON
from tests.letters import accept, record, record_of, wait

EVERYTHING = WaitingFilter()
HOUR = timedelta(hours=1)


def ids(backends: Backends, wanted: WaitingFilter = EVERYTHING) -> list[str]:
    """Return the batches that fit, in their order."""
    return [waiting.batch for waiting in backends.waiting_view.select(wanted, now=NOON)]


def test_the_first_due_comes_first(backends: Backends) -> None:
    """What is about to happen is what a person looks for."""
    cases = accept(backends, ["alpha"], count=3)
    late, early, middle = (
        wait(backends, "alpha", [case], due=NOON + hours * HOUR).id
        for case, hours in zip(cases, (3, 1, 2), strict=True)
    )
    assert [early, middle, late] == ids(backends)


def test_every_option_narrows_the_choice(backends: Backends) -> None:
    """A change in mass obeys its filter, or it changes what nobody meant."""
    first, second = accept(backends, ["alpha", "beta"], count=2)
    run = new_id()
    one = wait(backends, "alpha", [first], due=NOON + HOUR, why=Why.RETRY, run=run).id
    two = wait(backends, "beta", [first, second], due=NOON + 2 * HOUR, why=Why.PAUSED).id
    three = wait(backends, "beta", [second], due=NOON + 3 * HOUR, why=Why.LIMIT, run=run).id
    for wanted, found in [
        (EVERYTHING, [one, two, three]),
        (WaitingFilter(platforms=frozenset({"beta"})), [two, three]),
        (WaitingFilter(whys=frozenset({Why.PAUSED, Why.RETRY})), [one, two]),
        (WaitingFilter(run=run), [one, three]),
        (WaitingFilter(cases=frozenset({first})), [one, two]),
        (WaitingFilter(cases=frozenset()), []),
        (WaitingFilter(batches=frozenset({three, new_id()})), [three]),
        (WaitingFilter(due_before=NOON + 2 * HOUR), [one]),
        (WaitingFilter(platforms=frozenset({"beta"}), run=run), [three]),
    ]:
        assert found == ids(backends, wanted)
        assert len(found) == backends.waiting_view.count(wanted, now=NOON)


def test_one_batch_is_shown_with_its_jobs_and_masked_numbers(backends: Backends) -> None:
    """Which numbers wait there, and what happened to them, without a number in the clear (rule 8)."""
    cases = accept(backends, ["alpha"], count=2)
    record(backends, "alpha", cases[:1], state=State.WAITING, reason=Fault.TIMEOUT)
    batch = wait(backends, "alpha", cases, due=NOON + HOUR)
    shown = Retries(backends).show(batch.id)
    assert (3600, 2, "retry", "2026-11-01T13:00:00Z") == (shown["in_s"], shown["jobs"], shown["why"], shown["due_at"])
    assert ["138****0000", "138****0001"] == [case["number"] for case in shown["cases"]]
    assert [(State.WAITING, Fault.TIMEOUT), (State.QUEUED, None)] == [
        (case["state"], case["reason"]) for case in shown["cases"]
    ]


def test_a_batch_that_does_not_wait_is_not_found(backends: Backends) -> None:
    """A mistyped id is a message and no traceback."""
    with pytest.raises(NotFound, match="no batch"):
        Retries(backends).show(new_id())


def test_what_is_run_now_is_due_now_for_the_next_scheduler(backends: Backends) -> None:
    """A person knows that the platform is back, and does not want to wait an hour for the retry."""
    cases = accept(backends, ["alpha"], count=2)
    chosen, other = (wait(backends, "alpha", [case], due=NOON + HOUR) for case in cases)
    wanted = WaitingFilter(batches=frozenset({chosen.id}))
    retries = Retries(backends)
    turned = retries.run_now(list(retries.select(wanted)), reason="they are back")
    assert (1, 1, ()) == (turned.batches, turned.jobs, turned.busy)
    assert [chosen.id] == [batch.id for batch in backends.waiting.lease(NOON, at_most=9).batches]
    at, redis = backends.keys.waiting_at("alpha"), backends.redis
    assert [NOON.timestamp() * 1000, (NOON + HOUR).timestamp() * 1000] == redis.zmscore(at, [chosen.id, other.id])


def test_cancelled_jobs_are_final_and_nothing_waits_for_them(backends: Backends) -> None:
    """A person stops retries that make no sense any more, for good."""
    cases = accept(backends, ["alpha", "beta"], count=3)
    record(backends, "alpha", cases[:1], state=State.WAITING, reason=Fault.TIMEOUT)
    record(backends, "alpha", cases[2:], state=State.UNBOUND)
    wait(backends, "alpha", cases)
    wait(backends, "beta", cases)
    retries = Retries(backends)
    wanted = WaitingFilter(platforms=frozenset({"alpha"}))
    turned = retries.cancel(list(retries.select(wanted)), reason="the owner of 13912345678 asked")
    assert (1, 2, ()) == (turned.batches, turned.jobs, turned.busy)
    for case in cases[:2]:
        known = record_of(backends, case, "alpha")
        assert (State.CANCELLED, Hold.STOPPED, 1) == (known.state, known.reason, known.attempts)
        assert "the owner of 139****78 asked" == backends.store.details(case)["alpha"]["detail"]
    assert State.UNBOUND is record_of(backends, cases[2], "alpha").state
    assert ["beta"] == [waiting.platform for waiting in retries.select(EVERYTHING)]
    assert 0 == record_of(backends, cases[1], "alpha").first_sent_s, "a decision is not the first time it was sent"


def test_what_a_scheduler_holds_is_skipped_and_said(backends: Backends) -> None:
    """It is being sent at this moment: cancelled now, the answer would contradict the record."""
    cases = accept(backends, ["alpha"], count=2)
    leased, free = (wait(backends, "alpha", [case], due=NOON + n * HOUR) for n, case in enumerate(cases))
    assert 1 == len(backends.waiting.lease(NOON, at_most=9).batches)
    retries = Retries(backends)
    chosen = list(retries.select(EVERYTHING))
    assert {leased.id: True, free.id: False} == {waiting.batch: waiting.leased for waiting in chosen}
    assert (leased.id,) == retries.run_now(chosen, reason="now").busy
    turned = retries.cancel(chosen, reason="now")
    assert (1, (leased.id,)) == (turned.batches, turned.busy)
    assert [leased.id] == ids(backends)
    assert State.QUEUED is record_of(backends, cases[0], "alpha").state


def test_a_lease_that_has_ended_holds_nothing(backends: Backends) -> None:
    """A scheduler that died with a batch must not keep a person from it for ever."""
    wait(backends, "alpha", accept(backends, ["alpha"]))
    assert 1 == len(backends.waiting.lease(NOON, at_most=9).batches)
    later = NOON + timedelta(seconds=LEASE_S)
    chosen = list(backends.waiting_view.select(EVERYTHING, now=later))
    assert [False] == [waiting.leased for waiting in chosen]
    assert (1, ()) == backends.waiting_view.run_now(chosen, now=later)
    taken = backends.waiting_view.take([chosen[0].batch], now=later)
    assert 1 == backends.waiting.finish(taken.leased)


def test_what_is_taken_is_nobody_elses_until_the_lease_ends(backends: Backends) -> None:
    """A crash between taking and deciding leaves the batch where it was."""
    batch = wait(backends, "alpha", accept(backends, ["alpha"]))
    gone = new_id()
    taken = backends.waiting_view.take([batch.id, gone], now=NOON)
    assert ([batch], (), (gone,)) == (list(taken.leased.batches), taken.busy, taken.gone)
    assert () == backends.waiting.lease(NOON + HOUR - HOUR, at_most=9).batches
    assert (batch.id,) == backends.waiting_view.take([batch.id], now=NOON).busy
    assert [batch] == list(backends.waiting.lease(NOON + timedelta(seconds=LEASE_S), at_most=9).batches)
    assert 0 == backends.waiting.finish(taken.leased), "the lease has passed on"


def test_each_change_is_on_record_with_its_reason(backends: Backends) -> None:
    """Who stopped it, when and why, is asked weeks later."""
    wait(backends, "alpha", accept(backends, ["alpha"]), due=NOON + HOUR)
    retries = Retries(backends)
    retries.run_now(list(retries.select(EVERYTHING)), reason="they are back")
    retries.cancel(list(retries.select(EVERYTHING)), reason="no use")
    found = [(entry.action.what, entry.action.reason, entry.action.before) for entry in backends.actions.list()]
    size = {"batches": 1, "jobs": 1}
    assert [(What.RETRIES_RUN_NOW, "they are back", size), (What.RETRIES_CANCEL, "no use", size)] == found
