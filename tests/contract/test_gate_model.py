"""The whole gate against its model: the same steps at the same times bring the same answers, whatever their order."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypedDict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backends.admission import RULES, Admission, BulkTerms, GateState, NotNow, Permit, Report
from backends.bootstrap import Backends
from backends.connect import text
from backends.gates import Gates
from schemas.batch import Lane
from schemas.ids import new_id
from tests.fixtures_valkey import NOON, ONE_NAMESPACE
from tests.gate_model import GateModel, Pause, Terms, instant

START_US = int(NOON.timestamp()) * 1_000_000
GOOD, BAD = Report(calls=1), Report(calls=1, failed=1)
FAULTS = ["unauthorized", "endpoint_gone"]


@st.composite
def reports(draw: st.DrawFn, calls: int) -> Report:
    """Any report on some of the calls of a permit; all good and all bad are the usual ones."""
    made = draw(st.sampled_from([calls, calls, calls, 0, 1]))
    kind = draw(st.sampled_from(["good", "good", "good", "bad", "bad", "mixed", "throttled", "slow", "suspend"]))
    failed = {"bad": made, "mixed": draw(st.integers(0, made))}.get(kind, 0)
    throttled = draw(st.integers(0, made - failed)) if kind in {"throttled", "mixed"} else 0
    return Report(
        calls=made,
        failed=failed,
        throttled=throttled,
        latency_s=3.0 if kind == "slow" else 0.1,
        slow_s=draw(st.sampled_from([0.0, 2.5])),
        suspend=draw(st.sampled_from(FAULTS)) if kind == "suspend" else None,
        retry_after_s=draw(st.sampled_from([None, 2.0, 1000.0])) if throttled else None,
    )


class Limits(TypedDict):
    """The catalogue's limits of the platform."""

    calls_per_s: float
    in_flight: int


class GateMachine(RuleBasedStateMachine):
    """Drives script and model alike."""

    backends: Backends

    @initialize(
        per_s=st.sampled_from([0.05, 0.7, 3.0, 40.0]),
        in_flight=st.integers(1, 6),
        jobs_per_day=st.sampled_from([None, None, 5, 60]),
    )
    def begin(self, per_s: float, in_flight: int, jobs_per_day: int | None) -> None:
        """Take a platform of its own, which has never been called."""
        self.per_s, self.in_flight, self.jobs_per_day = per_s, in_flight, jobs_per_day
        self.each: dict[str, int] = {}  # holder of a permit → jobs of each call
        self.left: Counter[int] = Counter()  # day → jobs that left for its quota, or may still
        self.model = GateModel(platform=f"p{new_id()}", now=START_US)
        keys = self.backends.keys
        self.admission = Admission(self.backends.redis, keys, clock_us=lambda: self.model.now)
        self.gates = Gates(self.backends.redis, keys, clock_us=lambda: self.model.now)
        self.out: list[Permit] = []
        self.starts: list[float] = []

    def span(self, seconds: tuple[int, int] | None) -> tuple[Any, Any]:
        """Return a time from now to now as script and model are told it."""
        if seconds is None:
            return None, None
        now = NOON + timedelta(microseconds=self.model.now - START_US)
        ends_us = (self.model.now + seconds[0] * 1_000_000, self.model.now + seconds[1] * 1_000_000)
        return (now + timedelta(seconds=seconds[0]), now + timedelta(seconds=seconds[1])), ends_us

    def kept(self, *, gate: bool = True) -> list[object]:
        """Return every key of the platform, when it ends and its bytes: the whole store grows with the examples."""
        keys, platform = self.backends.keys, self.model.platform
        waiting = (keys.waiting_at(platform), keys.waiting_first_at(platform))
        pipe = self.backends.redis.pipeline(transaction=False)
        always = (keys.slots(platform), keys.rate(platform), keys.quota(platform))
        for key in (*always, *waiting, *([keys.gate(platform)] if gate else [])):
            pipe.pexpiretime(key)
            pipe.dump(key)
        return list(pipe.execute())

    @rule(
        reports=st.lists(st.sampled_from([GOOD, GOOD, BAD]), min_size=1, max_size=14) | st.just([GOOD] * 9),
        gap_s=st.sampled_from([0.3, 1.7, 5.5]),
        lane=st.sampled_from(Lane),
    )
    def a_while_passes(self, reports: list[Report], gap_s: float, lane: Lane) -> None:
        """Call after call is settled at once: how a platform falls ill and gets well."""
        for report in reports:
            known = len(self.out)
            self.ask(calls=1, hold_s=12.5, window_s=None, lane=lane)
            for permit in self.out[known:]:
                self.out.remove(permit)
                assert self.admission.settle(permit, report) == self.model.settle(permit, report)
            self.time_passes(gap_s)

    @rule(
        calls=st.sampled_from([1, 1, 4, 30]),
        hold_s=st.sampled_from([1.0, 12.5]),
        window_s=st.sampled_from([None, None, None, (-5, 7), (10, 20)]),
        lane=st.sampled_from(Lane),
        each=st.sampled_from([1, 1, 3]),
        hours_s=st.sampled_from([None, None, (-50, 70), (20, 50), (-50, -1)]),
    )
    def ask(
        self, calls: int, hold_s: float, window_s: tuple[int, int] | None, lane: Lane, *, each: int = 1,
        hours_s: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        """Ask leave: the same answer; a refusal leaves the gate, the tokens and the slots as they were.

        The gate may hold a note that one is to come back whose lane goes first.
        """
        limits = Limits(calls_per_s=self.per_s, in_flight=self.in_flight)
        window, window_us = self.span(window_s)
        hours, hours_us = self.span(hours_s)
        terms = BulkTerms(jobs_per_day=self.jobs_per_day, hours=hours)
        told = Terms(jobs_per_day=self.jobs_per_day, hours=hours_us)
        holder, platform = new_id(), self.model.platform
        self.model._forget_leases()
        slots = self.backends.keys.slots(platform)
        self.backends.redis.zremrangebyscore(slots, "-inf", self.model.now / 1000)
        noted = lane is Lane.INTERACTIVE or self.model.bulk_has_its_turn()
        before = self.kept(gate=not noted)
        answer = self.admission.ask(
            platform, calls=calls, hold_s=hold_s, holder=holder, window=window, lane=lane, jobs=calls * each,
            terms=terms, **limits,
        )  # fmt: skip
        assert answer == self.model.ask(
            calls=calls, hold_s=hold_s, holder=holder, window=window_us, lane=lane, jobs=calls * each, terms=told,
            **limits,
        )  # fmt: skip
        if isinstance(answer, NotNow):
            assert before == self.kept(gate=not noted)
            return
        assert len(self.model.slots) <= min(self.in_flight, self.model.limit_in_flight or self.in_flight)
        self.out.append(answer)
        self.each[holder] = each
        self.left[answer.quota_day] += answer.calls * each
        first_us = self.model.now + answer.first_after_s * 1_000_000
        self.starts += [first_us + n * answer.interval_s * 1_000_000 for n in range(answer.calls)]

    @precondition(lambda self: self.out)
    @rule(data=st.data(), newest=st.booleans(), twice=st.booleans())
    def settle(self, data: st.DataObject, newest: bool, twice: bool) -> None:
        """Settle a permit, in time, late or twice: the same change of state, and only the first report counts."""
        permit = self.out.pop() if newest else self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        report = data.draw(reports(permit.calls))
        unsent = data.draw(st.integers(0, permit.calls - report.calls)) * self.each[permit.holder]
        report = replace(report, unsent=unsent)
        self.left[permit.quota_day] -= unsent
        assert self.admission.settle(permit, report) == self.model.settle(permit, report)
        if twice:
            before = self.kept()
            assert self.admission.settle(permit, report) is None
            assert before == self.kept()

    @rule(seconds=st.sampled_from([0.0137, 0.3, 1.0, 5.0, 5.5, 11.0, 31.0, 61.0, 700.0, 14_400.0]))
    def time_passes(self, seconds: float) -> None:
        """Leases end, probes become due, buckets grow old: all by the clock alone."""
        self.model.now += round(seconds * 1_000_000)

    @rule(
        waiting=st.lists(st.integers(-1000, 90_000), max_size=4) | st.lists(st.integers(0, 20_000), min_size=30),
        firsts=st.lists(st.integers(-1000, 9000), max_size=3),
    )
    def others_wait(self, waiting: list[int], firsts: list[int]) -> None:
        """Other batches wait for the platform, of both lanes."""
        keys, model = self.backends.keys, self.model
        model.firsts_ms = [model.now // 1000 + ms for ms in firsts]
        model.waiting_ms = [model.now // 1000 + ms for ms in waiting] + model.firsts_ms
        for key, due in (
            (keys.waiting_first_at(model.platform), model.firsts_ms),
            (keys.waiting_at(model.platform), model.waiting_ms),
        ):
            self.backends.redis.delete(key)
            if due:
                self.backends.redis.zadd(key, {f"b{n}": at_ms for n, at_ms in enumerate(due)})

    @rule(seconds=st.sampled_from([None, 3, 40]))
    def pause(self, seconds: int | None) -> None:
        """Pause, for a time or without an end."""
        until_us = None if seconds is None else self.model.now + seconds * 1_000_000

        def act() -> None:
            self.model.pause = Pause(since=self.model.now, until=until_us, reason="a change there")

        turned = self.gates.pause(self.model.platform, until=instant(until_us), reason="a change there")
        assert turned == self.model.turn(act)

    @rule()
    def resume(self) -> None:
        """Resume, whatever stopped it."""
        assert self.gates.resume(self.model.platform) == self.model.turn(self.model.resume)

    @rule(fault=st.sampled_from(FAULTS))
    def suspend(self, fault: str) -> None:
        """Suspend by hand."""
        turned = self.gates.suspend(self.model.platform, reason=fault)
        assert turned == self.model.turn(lambda: self.model.suspend(fault))

    @rule()
    def probe(self) -> None:
        """Ask for a probe now."""
        assert self.gates.probe(self.model.platform) == self.model.turn(self.model.probe)

    @rule(calls_per_s=st.sampled_from([None, 0.3, 1000.0]), in_flight=st.sampled_from([None, 1, 100]))
    def limit(self, calls_per_s: float | None, in_flight: int | None) -> None:
        """Set or take away a person's limits; a higher one than the catalogue's must have no effect."""

        def act() -> None:
            self.model.limit_calls_per_s, self.model.limit_in_flight = calls_per_s, in_flight

        turned = self.gates.limit(self.model.platform, calls_per_s=calls_per_s, in_flight=in_flight)
        assert turned == self.model.turn(act)

    @invariant()
    def both_show_the_same(self) -> None:
        """What a person sees is the state itself."""
        assert [self.model.view()] == self.gates.views([self.model.platform])

    @invariant()
    def both_count_the_same(self) -> None:
        """A bucket that is kept too long, or lost too soon, would show only in some later answer."""
        found = {text(name): text(value) for name, value in self.fields().items()}
        counted: dict[int, tuple[int, int]] = {}
        for bucket, calls, failed in self.model.standing.window:
            before = counted.get(bucket, (0, 0))
            counted[bucket] = (before[0] + calls, before[1] + failed)
        flat = [str(figure) for bucket, counts in counted.items() for figure in (bucket, *counts)]
        assert flat == found.get("window", "").split()
        standing = self.model.standing
        assert (standing.step_calls, standing.step_failed, standing.wins, self.model.streak) == tuple(
            int(found.get(name, 0)) for name in ("step_calls", "step_failed", "wins", "streak")
        )

    def fields(self) -> dict[bytes, bytes]:
        """Return the gate as it is kept."""
        redis: Any = self.backends.redis
        return dict(redis.hgetall(self.backends.keys.gate(self.model.platform)))

    @invariant()
    def no_more_probes_are_out_than_allowed(self) -> None:
        """A sick platform is asked by three at most, a wrong connection by one."""
        most = 1 if self.model.state is GateState.SUSPENDED else RULES.probes
        assert len(self.model._probes_out()) <= most

    @invariant()
    def no_day_has_more_jobs_than_its_quota(self) -> None:
        """Whatever was given back, and however late."""
        assert self.jobs_per_day is None or all(n <= self.jobs_per_day for day, n in self.left.items() if day)

    @invariant()
    def both_count_the_same_jobs_of_the_day(self) -> None:
        """Too many, and a platform is not asked though it might be; too few, and a contract is broken."""
        day, used = self.backends.redis.hmget(self.backends.keys.quota(self.model.platform), ["day", "used"])
        assert self.model.granted_today() == (int(used or 0) if int(day or 0) == self.model.day else 0)

    @invariant()
    def no_two_calls_are_closer_than_the_contract_allows(self) -> None:
        """Through every state, share, ramp and limit: never above the ceiling."""
        starts = sorted(self.starts)
        assert all(b - a >= 1_000_000 / self.per_s - 2 for a, b in pairwise(starts))


def test_the_scripts_and_the_model_answer_alike(backends: Backends) -> None:
    """The gate is too much for examples alone: late answers, dead holders and people meet in every order."""

    class Machine(GateMachine):
        """Bound to this test's backends."""

    Machine.backends = backends
    run_state_machine_as_test(Machine, settings=settings(ONE_NAMESPACE, max_examples=80, stateful_step_count=30))
