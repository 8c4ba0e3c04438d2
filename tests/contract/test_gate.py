"""The gate of a platform, rule by rule, with its figures written out; `test_gate_model.py` holds them together."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from throttled import utils as throttled_clock
from throttled.rate_limiter import per_sec
from throttled.rate_limiter.gcra import GCRARateLimiter
from throttled.store import MemoryStore

from backends.admission import Admission, GateChange, GateState, NotNow, Permit, Report, Stop
from backends.bootstrap import Backends, open_backends
from backends.embedded import EmbeddedValkey
from backends.gates import Gates
from schemas.errors import BackendUnavailable
from schemas.ids import new_id
from tests.fixtures_valkey import NOON, ONE_NAMESPACE, settings_of, stored

GOOD, BAD = Report(calls=1), Report(calls=1, failed=1)
THROTTLED, DENIED = Report(calls=1, throttled=1), Report(calls=1, suspend="unauthorized")
State = GateState


class Bench:
    """One platform under a clock that the test moves."""

    def __init__(self, backends: Backends, *, per_s: float = 100.0, in_flight: int = 1000) -> None:
        self.platform, self.now_us = f"p{new_id()}", int(NOON.timestamp() * 1_000_000)
        self.per_s, self.in_flight, self.backends = per_s, in_flight, backends
        self.admission = Admission(backends.redis, backends.keys, clock_us=lambda: self.now_us)
        self.gates = Gates(backends.redis, backends.keys, clock_us=lambda: self.now_us)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.now_us += round(seconds * 1_000_000)

    def ask(self, calls: int = 1, *, window_s: tuple[float, float] | None = None) -> Permit | NotNow:
        """Ask; a window is given in seconds from now."""
        now = NOON + timedelta(microseconds=self.now_us - int(NOON.timestamp() * 1_000_000))
        window = window_s and (now + timedelta(seconds=window_s[0]), now + timedelta(seconds=window_s[1]))
        return self.admission.ask(
            self.platform,
            calls=calls,
            calls_per_s=self.per_s,
            in_flight=self.in_flight,
            hold_s=30,
            holder=new_id(),
            window=window,
        )

    def leave(self, calls: int = 1) -> Permit:
        """Ask, and be granted."""
        answer = self.ask(calls)
        assert isinstance(answer, Permit), answer
        return answer

    def refused(self, why: Stop) -> float:
        """Ask, and be refused for this reason. Returns when to come back."""
        answer = self.ask()
        assert isinstance(answer, NotNow), answer
        assert why is answer.why
        return answer.retry_in_s

    def call(self, report: Report) -> GateChange | None:
        """Ask, be granted, and settle at once."""
        return self.admission.settle(self.leave(report.calls), report)

    def state(self) -> GateState:
        """What a person is shown."""
        (view,) = self.gates.views([self.platform])
        return view.state

    def share(self) -> float:
        """The learned share of the rate."""
        (view,) = self.gates.views([self.platform])
        return view.share

    def break_it(self) -> None:
        """Five calls in a row fail."""
        for _ in range(5):
            self.call(BAD)
        assert State.BROKEN is self.state()

    def flow_again(self) -> None:
        """Bring a ramping platform back: three steps, each of some calls and some seconds."""
        for _ in range(9):
            self.move(5)
            self.call(GOOD)
        assert State.FLOWING is self.state()


@pytest.fixture
def bench(backends: Backends) -> Bench:
    """A platform that takes 100 calls a second."""
    return Bench(backends)


# -- the breaker -------------------------------------------------------------------------------------------------------


def test_five_failures_in_a_row_break_it_however_long_they_took(bench: Bench) -> None:
    """A platform that is called once an hour would otherwise be called into its outage for ever."""
    for _ in range(4):
        assert bench.call(BAD) is None
        bench.move(3600)
    change = bench.call(BAD)
    assert (
        GateChange(platform=bench.platform, before=State.FLOWING, after=State.BROKEN, reason="failures_in_a_row")
        == change
    )
    assert 5 == bench.refused(Stop.BREAKER)


def test_one_answer_ends_a_row_of_failures(bench: Bench) -> None:
    """A few failures with answers between them are an ordinary day."""
    for report in [BAD] * 4 + [GOOD] + [BAD] * 4:
        assert bench.call(report) is None
        bench.move(31)


def test_a_batch_that_failed_wholly_is_a_row(bench: Bench) -> None:
    """Calls side by side that all time out say what five after another say."""
    change = bench.call(Report(calls=5, failed=5))
    assert change
    assert State.BROKEN is change.after


@pytest.mark.parametrize(("failed", "after"), [(4, State.FLOWING), (5, State.BROKEN)])
def test_half_of_ten_calls_within_30_s_break_it(bench: Bench, failed: int, after: GateState) -> None:
    """A platform that fails every second call needs rest, one that fails less does not."""
    bench.call(Report(calls=5, failed=failed - 1))
    bench.move(20)
    bench.call(Report(calls=5, failed=1))
    assert after is bench.state()


def test_fewer_than_ten_calls_say_nothing_about_a_rate(bench: Bench) -> None:
    """Two failures of four calls are chance."""
    bench.call(Report(calls=9, failed=8))
    assert State.FLOWING is bench.state()


def test_what_failed_more_than_30_s_ago_is_forgotten(bench: Bench) -> None:
    """Yesterday's failures say nothing about now."""
    bench.call(Report(calls=6, failed=5))
    bench.move(31)
    bench.call(Report(calls=6, failed=1))
    assert State.FLOWING is bench.state()


def test_it_stays_broken_twice_as_long_after_each_trip(bench: Bench) -> None:
    """A long outage costs few calls, and five minutes are the most that its end goes unnoticed."""
    bench.break_it()
    for wait_s in (5, 10, 20, 40, 80, 160, 300, 300):
        assert wait_s == bench.refused(Stop.BREAKER)
        bench.move(wait_s - 0.001)
        bench.refused(Stop.BREAKER)
        bench.move(0.001)
        change = bench.call(BAD)
        assert change
        assert (State.PROBING, State.BROKEN, "probe_failed") == (change.before, change.after, change.reason)


@pytest.mark.parametrize(("flowed_s", "wait_s"), [(59, 10), (60, 5)])
def test_a_minute_of_ordinary_flow_forgets_the_trips(bench: Bench, flowed_s: int, wait_s: int) -> None:
    """Last week's outage must not lengthen today's."""
    bench.break_it()
    bench.move(5)
    for _ in range(3):
        bench.call(GOOD)
    bench.flow_again()
    bench.move(flowed_s)
    bench.break_it()
    assert wait_s == bench.refused(Stop.BREAKER)


def test_a_broken_platform_is_tried_by_three_calls_at_once(bench: Bench) -> None:
    """However many wait: a platform that has just come back is not flooded."""
    bench.break_it()
    bench.move(5)
    probes = [bench.leave(30) for _ in range(3)]
    assert [(1, 1, True)] * 3 == [(probe.calls, probe.in_flight, probe.probe) for probe in probes]
    first, *others = [probe.change for probe in probes]
    assert first
    assert (State.BROKEN, State.PROBING, "failures_in_a_row") == (first.before, first.after, first.reason)
    assert [None, None] == others
    assert 1 == bench.refused(Stop.BREAKER)
    assert State.PROBING is bench.state()


def test_three_answers_let_it_ramp(bench: Bench) -> None:
    """Two may be luck."""
    bench.break_it()
    bench.move(5)
    assert [None, None] == [bench.call(GOOD) for _ in range(2)]
    change = bench.call(GOOD)
    assert change
    assert (State.PROBING, State.RAMPING, "resumed") == (change.before, change.after, change.reason)


def test_a_probe_whose_holder_died_comes_back(bench: Bench) -> None:
    """Three dead workers would otherwise close a platform for good."""
    bench.break_it()
    bench.move(5)
    for _ in range(3):
        bench.leave()
    bench.move(34.999)
    bench.refused(Stop.BREAKER)
    bench.move(0.001)
    bench.leave()


def test_a_probe_that_was_not_used_says_nothing(bench: Bench) -> None:
    """A worker that finds nothing left to send gives the probe back: it is neither a success nor a failure."""
    bench.break_it()
    bench.move(5)
    for _ in range(4):
        assert bench.admission.settle(bench.leave(), Report()) is None
    assert State.PROBING is bench.state()
    assert 3 == len([bench.leave() for _ in range(3)])


def test_a_probe_that_answers_makes_room_for_one_more(bench: Bench) -> None:
    """The others are still out: one answer does not let three more through."""
    bench.break_it()
    bench.move(5)
    probes = [bench.leave() for _ in range(3)]
    bench.admission.settle(probes[1], GOOD)
    bench.leave()
    bench.refused(Stop.BREAKER)


def test_a_refused_probe_is_not_spent(bench: Bench) -> None:
    """All in-flight slots are held by calls that hang: whoever is refused takes no probe with him."""
    held = bench.leave(4)
    bench.break_it()
    bench.move(5)
    bench.in_flight = 4
    before = stored(bench.backends)
    for _ in range(5):
        bench.refused(Stop.IN_FLIGHT)
    assert before == stored(bench.backends)
    bench.admission.settle(held, Report())
    for _ in range(3):
        bench.leave()


# -- the ramp ----------------------------------------------------------------------------------------------------------


def test_a_platform_that_came_back_gets_5_then_25_then_100_percent(bench: Bench) -> None:
    """All that has waited does not fall on it in the first second."""
    bench.break_it()
    bench.move(5)
    for _ in range(3):
        bench.call(GOOD)
    changes = []
    for share in (0.05, 0.25, 1.0):
        bench.move(2)
        for _ in range(3):
            permit = bench.leave()
            assert 1 / (100 * share) == pytest.approx(permit.interval_s)
            assert permit.probe
            bench.admission.settle(permit, GOOD)
        bench.move(1)
        changes.append(bench.call(GOOD))
    assert [None, None] == changes[:2]
    assert changes[2]
    assert (State.RAMPING, State.FLOWING, "") == (changes[2].before, changes[2].after, changes[2].reason)
    assert not bench.leave().probe


def test_time_alone_is_no_step(bench: Bench) -> None:
    """Nobody has called meanwhile, so nothing is known."""
    bench.gates.suspend(bench.platform, reason="tls")
    bench.gates.resume(bench.platform)
    bench.move(600)
    for _ in range(2):
        bench.call(GOOD)
    assert 0.2 == pytest.approx(bench.leave().interval_s)


def test_half_of_three_calls_end_a_ramp(bench: Bench) -> None:
    """It was not well after all; the next rest is longer."""
    bench.break_it()
    bench.move(5)
    for _ in range(3):
        bench.call(GOOD)
    assert [None, None] == [bench.call(report) for report in (GOOD, BAD)]
    bench.move(2)
    change = bench.call(BAD)
    assert change
    assert (State.RAMPING, State.BROKEN, "ramp_failed") == (change.before, change.after, change.reason)
    assert 10 == bench.refused(Stop.BREAKER)


def test_a_ramp_begins_without_the_old_failures(bench: Bench) -> None:
    """The five that broke it are paid for: the next one alone must not break it again."""
    bench.break_it()
    bench.gates.resume(bench.platform)
    assert bench.call(BAD) is None


def test_a_slow_platform_ramps_at_one_call_in_ten_seconds(backends: Backends) -> None:
    """5 % of a call a minute would take an hour for three calls; and it is never faster than its contract."""
    for per_s, interval_s in [(1 / 60, 60), (0.5, 10)]:
        bench = Bench(backends, per_s=per_s)
        bench.gates.suspend(bench.platform, reason="tls")
        bench.gates.resume(bench.platform)
        assert interval_s == pytest.approx(bench.leave().interval_s)


# -- suspension --------------------------------------------------------------------------------------------------------


def test_a_wrong_connection_suspends_at_once(bench: Bench) -> None:
    """401 for one is 401 for all: a thousand jobs need not learn it one by one."""
    change = bench.call(DENIED)
    assert (
        GateChange(platform=bench.platform, before=State.FLOWING, after=State.SUSPENDED, reason="unauthorized")
        == change
    )
    assert 30 == bench.refused(Stop.SUSPENDED)


@pytest.mark.parametrize("report", [DENIED, BAD], ids=["still denied", "away"])
def test_probes_of_a_suspension_come_ever_more_seldom(bench: Bench, report: Report) -> None:
    """One call after 30 s, and at the longest one in ten minutes, until somebody has put the key right."""
    bench.call(DENIED)
    for wait_s in (30, 60, 120, 240, 480, 600, 600):
        assert wait_s == bench.refused(Stop.SUSPENDED)
        bench.move(wait_s)
        probe = bench.leave(30)
        assert (1, True) == (probe.calls, probe.probe)
        assert 1 == bench.refused(Stop.SUSPENDED)
        assert bench.admission.settle(probe, report) is None


def test_one_answer_ends_a_suspension_with_the_ramp(bench: Bench) -> None:
    """The key is right again, and nobody has to press a button."""
    bench.call(DENIED)
    bench.move(30)
    change = bench.call(GOOD)
    assert change
    assert (State.SUSPENDED, State.RAMPING, "resumed") == (change.before, change.after, change.reason)


def test_a_throttled_probe_proves_nothing(bench: Bench) -> None:
    """A front gate that answers 429 does not know whether our key is right."""
    bench.call(DENIED)
    bench.move(30)
    assert bench.call(THROTTLED) is None
    assert 30 == bench.refused(Stop.SUSPENDED)


def test_an_unused_probe_of_a_suspension_may_be_used_by_another(bench: Bench) -> None:
    """Else a batch that was settled elsewhere would lengthen the suspension."""
    bench.call(DENIED)
    bench.move(30)
    bench.admission.settle(bench.leave(), Report())
    bench.leave()


def test_a_second_complaint_only_moves_the_next_probe(bench: Bench) -> None:
    """Eight calls were out when the key went bad; eight complaints are one suspension."""
    late = bench.leave()
    bench.call(DENIED)
    bench.move(20)
    assert bench.admission.settle(late, DENIED) is None
    assert 30 == bench.refused(Stop.SUSPENDED)


# -- late answers ------------------------------------------------------------------------------------------------------


def suspended(bench: Bench) -> None:
    """The platform answers 401."""
    bench.call(DENIED)


def broken(bench: Bench) -> None:
    """Calls fail."""
    bench.break_it()


def paused(bench: Bench) -> None:
    """A person says stop."""
    bench.gates.pause(bench.platform, until=None, reason="a change there")


@pytest.mark.parametrize("stop", [suspended, broken, paused])
def test_a_late_success_undoes_nothing(bench: Bench, stop: Callable[[Bench], None]) -> None:
    """It was sent before; what it tells is old."""
    late = [bench.leave() for _ in range(5)]
    stop(bench)
    before = bench.gates.views([bench.platform])[0].state
    for permit in late:
        assert bench.admission.settle(permit, GOOD) is None
    assert before is bench.state()


@pytest.mark.parametrize("report", [BAD, DENIED])
def test_a_late_failure_stops_nothing_that_was_resumed(bench: Bench, report: Report) -> None:
    """The key was put right meanwhile; the old complaint is about the old key."""
    late = [bench.leave() for _ in range(6)]
    suspended(bench)
    bench.gates.resume(bench.platform)
    for permit in late:
        assert bench.admission.settle(permit, report) is None
    assert State.RAMPING is bench.state()


def test_a_report_counts_once(bench: Bench) -> None:
    """A worker that settles again after a lost answer must not break a platform."""
    permit = bench.leave(3)
    for _ in range(3):
        assert bench.admission.settle(permit, Report(calls=3, failed=3)) is None
    assert State.FLOWING is bench.state()


# -- people ------------------------------------------------------------------------------------------------------------


def test_a_pause_beats_everything(bench: Bench) -> None:
    """Who pauses a platform must be able to rely on it: no call, no probe."""
    suspended(bench)
    bench.move(1000)
    paused(bench)
    assert 30 == bench.refused(Stop.PAUSED)
    assert State.PAUSED is bench.state()


def test_a_pause_ends_when_it_was_told_to(bench: Bench) -> None:
    """Nobody has to get up at four in the morning; and what was underneath is there again."""
    before, after = bench.gates.pause(bench.platform, until=NOON + timedelta(hours=1), reason="a change there")
    assert (State.FLOWING, State.PAUSED) == (before.state, after.state)
    assert (NOON, NOON + timedelta(hours=1), "a change there") == (after.since, after.until, after.reason)
    assert 3600 == bench.refused(Stop.PAUSED)
    bench.move(3600)
    assert not bench.leave().probe
    assert State.FLOWING is bench.state()


def test_who_was_only_paused_goes_on_at_once(bench: Bench) -> None:
    """Nothing was wrong with it."""
    paused(bench)
    before, after = bench.gates.resume(bench.platform)
    assert (State.PAUSED, State.FLOWING) == (before.state, after.state)
    assert 0.01 == bench.leave().interval_s


@pytest.mark.parametrize("stop", [suspended, broken])
def test_who_was_stopped_for_a_reason_goes_on_with_the_ramp(bench: Bench, stop: Callable[[Bench], None]) -> None:
    """The person may be wrong."""
    stop(bench)
    paused(bench)
    before, after = bench.gates.resume(bench.platform)
    assert (State.PAUSED, State.RAMPING) == (before.state, after.state)
    assert 0.2 == pytest.approx(bench.leave().interval_s)


def test_a_person_can_have_the_next_probe_now(bench: Bench) -> None:
    """Who has put the key right does not wait ten minutes to see it."""
    suspended(bench)
    bench.move(1)
    bench.gates.probe(bench.platform)
    bench.leave()
    assert 1 == bench.refused(Stop.SUSPENDED)


def test_a_probe_of_a_flowing_platform_changes_nothing(bench: Bench) -> None:
    """There is nothing to find out."""
    before, after = bench.gates.probe(bench.platform)
    assert before == after


def test_a_suspension_by_hand_is_like_any_other(bench: Bench) -> None:
    """Probes resume it by themselves; who wants it stopped pauses it."""
    bench.gates.suspend(bench.platform, reason="tls")
    bench.move(30)
    change = bench.call(GOOD)
    assert change
    assert State.RAMPING is change.after


def test_a_persons_limits_only_lower(bench: Bench) -> None:
    """The catalogue is the contract: nobody raises it from a command line."""
    bench.in_flight = 8
    _, view = bench.gates.limit(bench.platform, calls_per_s=10, in_flight=2)
    assert (10, 2) == (view.limit_calls_per_s, view.limit_in_flight)
    permit = bench.leave(8)
    assert (8, 2, 0.1) == (permit.calls, permit.in_flight, permit.interval_s)
    bench.admission.settle(permit, Report())
    bench.gates.limit(bench.platform, calls_per_s=1000, in_flight=1000)
    permit = bench.leave(9)
    # One slot is kept for the interactive lane.
    assert (7, 0.01) == (permit.in_flight, permit.interval_s)
    _, view = bench.gates.limit(bench.platform, calls_per_s=None, in_flight=None)
    assert (None, None) == (view.limit_calls_per_s, view.limit_in_flight)


@pytest.mark.parametrize(("calls_per_s", "in_flight"), [(0.0, None), (-1.0, None), (None, 0)])
def test_a_limit_of_nothing_is_refused(bench: Bench, calls_per_s: float | None, in_flight: int | None) -> None:
    """It would stop a platform without anybody seeing a pause."""
    with pytest.raises(ValueError, match="pause it"):
        bench.gates.limit(bench.platform, calls_per_s=calls_per_s, in_flight=in_flight)


def test_views_come_in_the_order_asked_for(bench: Bench) -> None:
    """240 platforms are one question; one that was never called is shown as flowing."""
    suspended(bench)
    names = ["never-called", bench.platform, "never-called-either"]
    views = bench.gates.views(names)
    assert names == [view.platform for view in views]
    assert [State.FLOWING, State.SUSPENDED, State.FLOWING] == [view.state for view in views]
    assert (None, None, 0, 1.0) == (views[0].since, views[0].until, views[0].trips, views[0].share)
    assert (NOON, NOON + timedelta(seconds=30)) == (views[1].since, views[1].until)


def test_a_view_counts_the_calls_that_are_out(bench: Bench) -> None:
    """A slot whose lease is over is nobody's."""
    held = bench.leave(3)
    assert 3 == bench.gates.views([bench.platform])[0].in_flight_now
    bench.move(36)
    assert 0 == bench.gates.views([bench.platform])[0].in_flight_now
    bench.admission.settle(held, Report())


# -- the window --------------------------------------------------------------------------------------------------------


def test_nobody_is_called_in_its_maintenance_window(bench: Bench) -> None:
    """From its start up to its end, the end not included."""
    for window_s, closed in [((1, 2), False), ((0, 90), True), ((-90, 90), True), ((-90, 0), False)]:
        answer = bench.ask(window_s=window_s)
        assert closed == isinstance(answer, NotNow)
        if isinstance(answer, NotNow):
            assert (Stop.WINDOW, 90) == (answer.why, answer.retry_in_s)


def test_those_who_wait_for_an_end_come_one_after_another(bench: Bench) -> None:
    """A thousand batches that come back in the same millisecond would only be refused again."""
    waiting_at = bench.backends.keys.waiting_at(bench.platform)
    due_ms = bench.now_us / 1000
    bench.backends.redis.zadd(waiting_at, {f"b{n}": due_ms + n for n in range(1000)})
    answer = bench.ask(5, window_s=(-1, 60))
    assert isinstance(answer, NotNow)
    assert 60 + 1000 * 5 / 100 == pytest.approx(answer.retry_in_s)
    suspended(bench)
    answer = bench.ask(5)
    assert isinstance(answer, NotNow)
    assert 30 + 1000 * 5 / 100 == pytest.approx(answer.retry_in_s)


# -- the learned rate --------------------------------------------------------------------------------------------------


def test_a_throttled_call_halves_the_rate_once_a_second(bench: Bench) -> None:
    """Eight calls that were out together complain together: that is one complaint."""
    for permit in [bench.leave() for _ in range(8)]:
        bench.admission.settle(permit, THROTTLED)
    assert 0.5 == bench.share()
    bench.move(1)
    bench.call(THROTTLED)
    assert 0.25 == bench.share()
    assert 0.04 == bench.leave().interval_s


def test_the_rate_never_falls_below_a_twentieth(bench: Bench) -> None:
    """Without calls nobody would notice that the platform bears them again."""
    for _ in range(9):
        bench.call(THROTTLED)
        bench.move(5)
    assert 0.05 == bench.share()


def test_slow_answers_lower_the_rate_a_little(bench: Bench) -> None:
    """A platform that slows down is about to fail; it is the mean that counts, and only above what is slow."""
    bench.call(Report(calls=1, latency_s=5.0, slow_s=5.0))
    assert 1 == bench.share()
    bench.call(Report(calls=1, latency_s=5.1, slow_s=5.0))
    assert 0.8 == bench.share()


def test_one_complaint_among_many_answers_is_a_wink(bench: Bench) -> None:
    """A platform that says 429 now and then, whatever the rate, must not be throttled to nothing."""
    bench.call(Report(calls=20, throttled=1))
    assert 0.975 == pytest.approx(bench.share())


def test_the_rate_comes_back_by_a_twentieth_each_second(bench: Bench) -> None:
    """Slowly, and only while calls go well; never above the contract."""
    bench.call(THROTTLED)
    bench.move(0.9)
    bench.call(GOOD)
    assert 0.5 == bench.share()
    bench.move(0.1)
    for _ in range(5):
        bench.call(GOOD)
    assert 0.55 == bench.share()
    bench.move(600)
    bench.call(GOOD)
    assert 0.6 == pytest.approx(bench.share())
    for _ in range(20):
        bench.move(5)
        bench.call(GOOD)
    assert 1 == bench.share()


def test_failures_do_not_raise_the_rate(bench: Bench) -> None:
    """Calls that time out are no sign that the platform bears more."""
    bench.call(THROTTLED)
    bench.move(6)
    bench.call(Report(calls=2, failed=2))
    assert 0.5 == bench.share()


def test_throttling_is_no_failure(bench: Bench) -> None:
    """A platform that says `slower` is well: it is slowed down, not switched off."""
    for _ in range(30):
        assert bench.call(THROTTLED) is None
        bench.move(11)
    assert State.FLOWING is bench.state()


@pytest.mark.parametrize(("asked_s", "held_s"), [(7.5, 7.5), (100_000.0, 300)])
def test_a_retry_after_holds_the_whole_platform_back(bench: Bench, asked_s: float, held_s: float) -> None:
    """It speaks for the platform, not for the one job; but not for longer than five minutes."""
    bench.call(replace(THROTTLED, retry_after_s=asked_s))
    assert held_s - 0.5 == bench.refused(Stop.RATE)
    assert 600_000 >= bench.backends.redis.pttl(bench.backends.keys.rate(bench.platform)) > 590_000
    bench.move(held_s - 1)
    assert 1 == bench.leave().first_after_s


# -- one answer for all ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [suspended, broken, paused])
def test_a_refusal_by_the_gate_spends_nothing(bench: Bench, stop: Callable[[Bench], None]) -> None:
    """Neither a token nor a slot nor a probe: the whole store stays as it was (rule 5)."""
    stop(bench)
    before = stored(bench.backends)
    for _ in range(3):
        assert isinstance(bench.ask(5), NotNow)
    assert before == stored(bench.backends)


def test_there_is_no_gate_without_redis(tmp_path: Path) -> None:
    """Limits fail closed (rule 7); what cannot be told is not an error of the call."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        opened = open_backends(settings_of(server, tmp_path))
        bench = Bench(opened)
        permit = bench.leave()
    with closing(opened):
        with pytest.raises(BackendUnavailable, match="no permit"):
            bench.ask()
        assert bench.admission.settle(permit, DENIED) is None


@ONE_NAMESPACE
@given(
    per_s=st.sampled_from([1, 2, 4, 16, 64]),
    steps=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 9)), min_size=1, max_size=15),
)
def test_another_limiter_agrees_with_every_grant(backends: Backends, per_s: int, steps: list[tuple[int, int]]) -> None:
    """throttled-py's GCRA lets pass what we grant, at the time we grant it for, and nothing a moment earlier."""
    bench, unit_us = Bench(backends, per_s=per_s), 15_625  # a 64th of a second, so that no fraction is rounded
    judge_now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttled_clock, "now_mono_f", lambda: judge_now[0])
        judge = GCRARateLimiter(per_sec(per_s, burst=1), MemoryStore())
        for units, calls in steps:
            bench.move(units * unit_us / 1_000_000)
            answer = bench.ask(calls)
            now_s = bench.now_us / 1_000_000
            if isinstance(answer, NotNow):
                judge_now[0] = now_s + 1.0
                assert judge.limit("p").limited
                continue
            for n in range(answer.calls):
                start_s = now_s + answer.first_after_s + n * answer.interval_s
                if start_s > now_s:
                    judge_now[0] = start_s - unit_us / 1_000_000 / 4
                    assert judge.limit("p").limited
                judge_now[0] = start_s
                assert not judge.limit("p").limited
