"""`admit.lua`: never more than the contract allows; a refused call spends nothing; no permit without Redis."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.admission import HORIZON_S, RULES, NotNow, Permit, Report
from backends.bootstrap import Backends, open_backends
from backends.embedded import EmbeddedValkey
from backends.keys import ADMISSION_TTL_S
from schemas.batch import Lane
from schemas.errors import BackendUnavailable
from schemas.ids import new_id
from tests.fixtures_valkey import ONE_NAMESPACE, settings_of, stored

MARGIN_S = 5.0
# A stored time is a whole microsecond.
ROUNDING_S = 0.000_002


def ask(
    backends: Backends,
    platform: str,
    *,
    calls: int,
    per_s: float,
    in_flight: int = 1000,
    hold_s: float = 30,
    lane: Lane = Lane.BULK,
) -> Permit | NotNow:
    """Ask with everything else at its usual."""
    return backends.admission.ask(
        platform, calls=calls, calls_per_s=per_s, in_flight=in_flight, hold_s=hold_s, holder=new_id(), lane=lane
    )


def granted(answer: Permit | NotNow) -> Permit:
    """Return the permit that a test counts on."""
    assert isinstance(answer, Permit)
    return answer


def server_s(backends: Backends) -> float:
    """The clock that the script reads."""
    seconds, micros = backends.redis.time()
    return float(seconds) + float(micros) / 1_000_000


def next_s(backends: Backends, platform: str) -> float:
    """When the next call may come, as the limiter keeps it."""
    return float(backends.redis.get(backends.keys.rate(platform)) or 0) / 1_000_000


@ONE_NAMESPACE
@given(per_s=st.sampled_from([0.5, 3.0, 20.0, 400.0]), wanted=st.lists(st.integers(1, 50), min_size=1, max_size=12))
def test_no_window_holds_more_calls_than_the_contract_allows(
    backends: Backends, per_s: float, wanted: list[int]
) -> None:
    """The model: GCRA without burst. In any window of w seconds at most rate * w + 1 granted calls start."""
    platform, interval_s = f"p{new_id()}", 1 / per_s
    starts: list[float] = []
    for calls in wanted:
        before_s, free_s = server_s(backends), next_s(backends, platform)
        answer = ask(backends, platform, calls=calls, per_s=per_s)
        after_s = server_s(backends)
        if isinstance(answer, NotNow):
            assert HORIZON_S < free_s - before_s + ROUNDING_S
            assert free_s == next_s(backends, platform)
            assert free_s - after_s - HORIZON_S / 2 <= answer.retry_in_s
            continue
        first_s = next_s(backends, platform) - answer.calls * interval_s
        assert before_s - ROUNDING_S <= first_s <= max(after_s, free_s) + ROUNDING_S
        assert answer.first_after_s == pytest.approx(max(0, first_s - before_s), abs=after_s - before_s + ROUNDING_S)
        room = int((2 * HORIZON_S - answer.first_after_s) * per_s + 0.001) + 1
        assert min(calls, room) == answer.calls
        assert interval_s == answer.interval_s
        starts += [first_s + index * interval_s for index in range(answer.calls)]
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            window_s = starts[last] - starts[first]
            assert last - first + 1 <= per_s * (window_s + len(wanted) * ROUNDING_S) + 1


@ONE_NAMESPACE
@given(limit=st.integers(1, 8), steps=st.lists(st.tuples(st.integers(1, 6), st.sampled_from(Lane)), max_size=20))
def test_slots_never_exceed_the_limit(backends: Backends, limit: int, steps: list[tuple[int, Lane]]) -> None:
    """The model is a sum: what is leased and neither given back nor over is at most the limit, less one for bulk."""
    platform = f"p{new_id()}"
    held: list[Permit] = []
    awaited = False  # an interactive one that was refused
    for step, lane in steps:
        if step == 6 and held:
            backends.admission.settle(held.pop(0), Report())
        elif step == 5 and held:
            end_lease(backends, held.pop())
        else:
            answer = ask(backends, platform, calls=step, per_s=10_000, in_flight=limit, lane=lane)
            kept = lane is Lane.BULK and limit >= RULES.first_slot_from
            free = limit - sum(permit.in_flight for permit in held) - kept
            if isinstance(answer, Permit):
                assert min(step, free) == answer.in_flight
                held.append(answer)
                awaited = awaited and lane is Lane.BULK
            else:
                assert free <= 0 or (awaited and lane is Lane.BULK)
                assert 0 < answer.retry_in_s
                awaited = awaited or lane is Lane.INTERACTIVE
        live = backends.redis.zcount(backends.keys.slots(platform), server_s(backends) * 1000, "+inf")
        assert sum(permit.in_flight for permit in held) == live <= limit


def end_lease(backends: Backends, permit: Permit) -> None:
    """Let the time of a permit's slots be over, as if its holder had died long ago."""
    slots = backends.keys.slots(permit.platform)
    past_ms = server_s(backends) * 1000 - 1
    backends.redis.zadd(slots, {f"{permit.holder}:{n + 1}": past_ms for n in range(permit.in_flight)}, xx=True)


def test_a_refused_call_spends_nothing(backends: Backends) -> None:
    """Neither a token nor a slot: the whole store stays as it was, byte for byte (rule 5)."""
    slow, full = f"p{new_id()}", f"p{new_id()}"
    granted(ask(backends, slow, calls=1, per_s=0.1))
    granted(ask(backends, full, calls=1, per_s=10_000, in_flight=1))
    before = stored(backends)
    for _ in range(3):
        assert isinstance(ask(backends, slow, calls=5, per_s=0.1), NotNow)
        assert isinstance(ask(backends, full, calls=5, per_s=10_000, in_flight=1), NotNow)
    assert before == stored(backends)


def test_a_platform_that_was_idle_earns_no_credit(backends: Backends) -> None:
    """The first second after a pause is not faster: an idle hour at 3 a second does not make 10,800 calls at once."""
    platform, before_s = f"p{new_id()}", server_s(backends)
    backends.redis.set(backends.keys.rate(platform), int((before_s - 500) * 1_000_000), ex=100)
    permit = granted(ask(backends, platform, calls=50, per_s=3))
    assert (7, 0) == (permit.calls, permit.first_after_s)
    assert before_s + 7 / 3 <= next_s(backends, platform) + ROUNDING_S


def test_a_wait_ends_when_the_next_call_may_come(backends: Backends) -> None:
    """Who comes back then is within the horizon, so not refused again, and not later than needed."""
    platform = f"p{new_id()}"
    granted(ask(backends, platform, calls=1, per_s=0.25))
    refused = ask(backends, platform, calls=1, per_s=0.25)
    assert isinstance(refused, NotNow)
    left_s = next_s(backends, platform) - server_s(backends)
    assert left_s - HORIZON_S < refused.retry_in_s <= left_s


def test_who_waits_already_comes_first(backends: Backends) -> None:
    """A longer queue of waiting batches sends the next one further back."""
    platform = f"p{new_id()}"
    granted(ask(backends, platform, calls=1, per_s=0.5))
    alone = ask(backends, platform, calls=1, per_s=0.5)
    backends.redis.zadd(backends.keys.waiting_at(platform), {"one": 1, "two": 2})
    behind = ask(backends, platform, calls=1, per_s=0.5)
    assert isinstance(alone, NotNow)
    assert isinstance(behind, NotNow)
    assert 4 == pytest.approx(behind.retry_in_s - alone.retry_in_s, abs=0.5)


def test_who_comes_back_too_early_keeps_its_place(backends: Backends) -> None:
    """Batches that are due long after it do not come before it."""
    platform = f"p{new_id()}"
    granted(ask(backends, platform, calls=2, per_s=1))
    later_ms = (server_s(backends) + 60) * 1000
    backends.redis.zadd(backends.keys.waiting_at(platform), {f"later-{n}": later_ms + n for n in range(20)})
    early = ask(backends, platform, calls=2, per_s=1)
    assert isinstance(early, NotNow)
    assert 2 > early.retry_in_s


def test_a_slot_is_leased_until_its_calls_must_be_over(backends: Backends) -> None:
    """Not shorter, or more calls would be open than allowed; not for ever, or a dead worker would block a platform."""
    platform, before_s = f"p{new_id()}", server_s(backends)
    granted(ask(backends, platform, calls=3, per_s=100, in_flight=3, hold_s=30))
    after_s = server_s(backends)
    key, lease_s = backends.keys.slots(platform), 30 + MARGIN_S
    first_ms, last_ms = (before_s + lease_s) * 1000 - 0.01, (after_s + lease_s) * 1000 + 0.01
    assert 3 == backends.redis.zcard(key) == backends.redis.zcount(key, first_ms, last_ms)


def test_a_lease_ends_by_itself(backends: Backends) -> None:
    """A slot whose holder died is free again after its time."""
    platform = f"p{new_id()}"
    dead = granted(ask(backends, platform, calls=1, per_s=1000, in_flight=1))
    assert isinstance(ask(backends, platform, calls=1, per_s=1000, in_flight=1), NotNow)
    end_lease(backends, dead)
    granted(ask(backends, platform, calls=1, per_s=1000, in_flight=1))


def test_a_slot_that_is_given_back_is_free_at_once(backends: Backends) -> None:
    """And only those of the permit; given back twice, it frees nothing that is another's."""
    platform = f"p{new_id()}"
    first = granted(ask(backends, platform, calls=2, per_s=1000, in_flight=3))
    granted(ask(backends, platform, calls=1, per_s=1000, in_flight=3))
    for _ in range(2):
        backends.admission.settle(first, Report())
    second = granted(ask(backends, platform, calls=5, per_s=1000, in_flight=3))
    assert (5, 2) == (second.calls, second.in_flight)


def test_a_lower_limit_holds_at_once(backends: Backends) -> None:
    """A catalogue that was changed while calls are open grants none until they are fewer."""
    platform = f"p{new_id()}"
    granted(ask(backends, platform, calls=5, per_s=1000, in_flight=5))
    assert isinstance(ask(backends, platform, calls=1, per_s=1000, in_flight=2), NotNow)


@pytest.mark.parametrize("per_s", [0.0005, 0.01, 10.0])
def test_the_limiter_remembers_until_the_next_call_may_come(backends: Backends, per_s: float) -> None:
    """A platform that takes one call in half an hour would otherwise be called every ten minutes."""
    platform = f"p{new_id()}"
    granted(ask(backends, platform, calls=1, per_s=per_s))
    ttl_s = backends.redis.pttl(backends.keys.rate(platform)) / 1000
    assert max(ADMISSION_TTL_S, 1 / per_s) == pytest.approx(ttl_s, abs=2)
    assert next_s(backends, platform) <= server_s(backends) + ttl_s + 0.01


def test_workers_that_race_share_one_limit(backends: Backends, valkey: EmbeddedValkey) -> None:
    """Each has its own connection; together they get what the contract allows and no slot more."""
    workers, platform = 4, f"p{new_id()}"
    answers: list[list[Permit | NotNow]] = [[] for _ in range(workers)]
    together = Barrier(workers)

    def race(mine: list[Permit | NotNow]) -> None:
        with closing(open_backends(backends.settings)) as own:
            together.wait(30)
            mine += [ask(own, platform, calls=3, per_s=100, in_flight=20) for _ in range(10)]

    before_s = server_s(backends)
    racing = [Thread(target=race, args=(mine,)) for mine in answers]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join(60)
    took_s = server_s(backends) - before_s
    assert [10] * workers == [len(mine) for mine in answers]
    permits = [answer for mine in answers for answer in mine if isinstance(answer, Permit)]
    assert 19 == sum(permit.in_flight for permit in permits) == backends.redis.zcard(backends.keys.slots(platform))
    assert 19 <= sum(permit.calls for permit in permits) <= 100 * (took_s + 2 * HORIZON_S) + 1
    assert sum(permit.calls for permit in permits) / 100 == pytest.approx(
        next_s(backends, platform) - before_s, abs=took_s + 0.01
    )


def test_there_is_no_permit_without_redis(tmp_path: Path) -> None:
    """Limits fail closed (rule 7), and giving back what ends by itself anyway is no error."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        opened = open_backends(settings_of(server, tmp_path))
        permit = granted(ask(opened, "p", calls=1, per_s=10))
    with closing(opened):
        with pytest.raises(BackendUnavailable, match="no permit"):
            ask(opened, "p", calls=1, per_s=10)
        opened.admission.settle(replace(permit, in_flight=1), Report())
