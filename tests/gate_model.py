"""A model of one platform's gate in plain Python: the same answers as the scripts, told the other way round.

Times are microseconds, as in the scripts. It knows the figures of `Rules`, so a test of the figures stands elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backends.admission import RULES, GateChange, GateState, NotNow, Permit, Report, Stop
from backends.gates import GateView
from schemas.batch import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_MARGIN_MS = 5000
BLOCKED = {GateState.BROKEN, GateState.PROBING, GateState.SUSPENDED}


def instant(us: int | None) -> datetime | None:
    """Return a time as people are shown it."""
    return None if us is None else datetime.fromtimestamp(us / 1_000_000, UTC)


@dataclass
class Standing:
    """What belongs to one state and is forgotten with it."""

    probe_at: int | None = None
    probes: dict[str, int] = field(default_factory=dict)
    wins: int = 0
    tries: int = 0
    step: int = 0
    step_at: int = 0
    step_calls: int = 0
    step_failed: int = 0
    window: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass
class Pause:
    """A person's pause."""

    since: int
    until: int | None
    reason: str


@dataclass(frozen=True)
class Terms:
    """What binds the bulk lane alone; hours are microseconds."""

    jobs_per_day: int | None = None
    hours: tuple[int, int] | None = None


@dataclass(slots=True)
class Line:
    """Those who wait for the platform, as one that asks sees them."""

    gate: GateModel
    lane: Lane
    each_us: float  # how long each of them takes

    @property
    def horizon_us(self) -> int:
        """How far ahead a first call may be."""
        if self.lane is Lane.INTERACTIVE:
            return RULES.first_horizon_us
        return RULES.bulk_horizon_us if self.gate.bulk_has_its_turn() else RULES.horizon_us

    def before(self, turn_us: float) -> int:
        """Count those who have their turn before one that comes back then."""
        till_ms = (self.gate.now + turn_us) / 1000
        firsts = sum(1 for at_ms in self.gate.firsts_ms if at_ms <= till_ms)
        if self.lane is Lane.INTERACTIVE:
            return firsts
        bulk = sum(1 for at_ms in self.gate.waiting_ms if at_ms <= till_ms) - firsts
        return bulk + min(firsts, math.floor(RULES.bulk_turn_us / self.each_us))

    def place(self, soonest_us: float) -> int:
        """Find a place with no more before it than there is room: double it, then halve the distance."""
        taken, free = -1, 0
        while (count := self.before(soonest_us + free * self.each_us)) > free:
            taken, free = free, max(count, 2 * free)
        while free - taken > 1:
            middle = (taken + free) // 2
            if self.before(soonest_us + middle * self.each_us) > middle:
                taken = middle
            else:
                free = middle
        return free

    def not_now(self, why: Stop, soonest_us: float, *, early_us: float, last_us: float = math.inf) -> NotNow:
        """Say when to come back."""
        turn_us = min(soonest_us + self.place(soonest_us) * self.each_us, last_us)
        return NotNow(retry_in_s=math.ceil(max(turn_us - early_us, 50_000) / 1000) / 1000, why=why)


@dataclass
class GateModel:
    """One platform."""

    platform: str
    now: int
    waiting_ms: list[int] = field(default_factory=list)  # of both lanes
    firsts_ms: list[int] = field(default_factory=list)  # those of them that are interactive
    state: GateState = GateState.FLOWING
    reason: str = ""
    since: int | None = None
    epoch: int = 0
    trips: int = 0
    streak: int = 0
    standing: Standing = field(default_factory=Standing)
    pause: Pause | None = None
    share: float = 1.0
    down_at: int | None = None
    up_at: int = 0
    limit_calls_per_s: float | None = None
    limit_in_flight: int | None = None
    next_us: int = 0
    slots: dict[str, float] = field(default_factory=dict)
    awaited_until: dict[Lane, int] = field(default_factory=dict)  # a batch that was refused is awaited until then
    bulk_behind_since: int | None = None
    granted_on: dict[int, int] = field(default_factory=dict)  # day → jobs of the bulk lane

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(
        self,
        *,
        calls: int,
        calls_per_s: float,
        in_flight: int,
        hold_s: float,
        holder: str,
        window: tuple[int, int] | None = None,
        lane: Lane = Lane.BULK,
        jobs: int | None = None,
        terms: Terms | None = None,
    ) -> Permit | NotNow:
        """Answer as `admit.lua` does."""
        self._forget_leases()
        ceiling = min(calls_per_s, self.limit_calls_per_s or calls_per_s)
        part = RULES.ramp[self.standing.step - 1] if self.state is GateState.RAMPING else 1
        per_s = max(ceiling * self.share * part, min(ceiling, RULES.floor_per_s))
        step_us = 1_000_000 / per_s
        queue_us = calls * 1_000_000 / max(ceiling * self.share, min(ceiling, RULES.floor_per_s))
        line = Line(self, lane, queue_us)
        each, left = (jobs or calls) // calls, None
        bound = terms if terms and lane is Lane.BULK else Terms()
        if bound.jobs_per_day is not None:
            left = (bound.jobs_per_day - self.granted_today()) // each
        closed = self._shut(window) or self._off_terms(bound, left) or self._ill()
        if closed:
            return line.not_now(*closed, early_us=0)
        probe = self.state in BLOCKED
        most = min(in_flight, self.limit_in_flight or in_flight)
        free = most - len(self.slots)
        if lane is Lane.BULK and most >= RULES.first_slot_from:
            free -= 1
        next_us = max(self.next_us, self.now)
        ahead_us = next_us - self.now
        if refused := self._no_room(line, ahead_us, full=free < 1, most=most):
            return refused
        granted = min(1 if probe else calls, math.floor((line.horizon_us + RULES.horizon_us - ahead_us) / step_us) + 1)
        if left is not None:
            granted = min(granted, left)
            self.granted_on[self.day] = self.granted_today() + granted * each
        slots = min(granted, free)
        self.next_us = int(f"{next_us + granted * step_us:.0f}")
        self._note_grant(lane)
        begins_us = self.now + max(0, ahead_us - RULES.horizon_us)
        lease_ms = begins_us / 1000 + int(hold_s * 1000) + LEASE_MARGIN_MS
        self.slots |= {f"{holder}:{n + 1}": lease_ms for n in range(slots)}
        change = None
        if probe:
            if self.state is GateState.BROKEN:
                self._enter(GateState.PROBING, self.reason)
                change = self._change(GateState.BROKEN)
            self.standing.probes = self._probes_out() | {holder: int(f"{lease_ms * 1000:.0f}")}
        return Permit(
            platform=self.platform,
            holder=holder,
            calls=granted,
            in_flight=slots,
            first_after_s=ahead_us / 1_000_000,
            interval_s=1 / per_s,
            probe=self.state is not GateState.FLOWING,
            epoch=self.epoch,
            quota_day=0 if left is None else self.day,
            change=change,
        )

    def _shut(self, window: tuple[int, int] | None) -> tuple[Stop, int] | None:
        if pause := self._pause():
            return Stop.PAUSED, RULES.pause_look_us if pause.until is None else pause.until - self.now
        if window and window[0] <= self.now < window[1]:
            return Stop.WINDOW, window[1] - self.now
        return None

    def _ill(self) -> tuple[Stop, int] | None:
        if self.state not in BLOCKED:
            return None
        suspended = self.state is GateState.SUSPENDED
        why = Stop.SUSPENDED if suspended else Stop.BREAKER
        probe_at = self.standing.probe_at or 0
        if probe_at > self.now:
            return why, probe_at - self.now
        if len(self._probes_out()) >= (1 if suspended else RULES.probes):
            return why, RULES.probe_look_us
        return None

    def _off_terms(self, terms: Terms, left: int | None) -> tuple[Stop, int] | None:
        if terms.hours and self.now < terms.hours[0]:
            return Stop.HOURS, terms.hours[0] - self.now
        if terms.hours and self.now >= terms.hours[1]:
            return Stop.HOURS, RULES.hours_look_us
        if left is not None and left < 1:
            return Stop.QUOTA, (self.day + 1) * RULES.day_us - RULES.shanghai_us - self.now
        return None

    @property
    def day(self) -> int:
        """The day in Shanghai, counted from 1970."""
        return (self.now + RULES.shanghai_us) // RULES.day_us

    def granted_today(self) -> int:
        """Count the jobs of the bulk lane that were granted today and left."""
        return self.granted_on.get(self.day, 0)

    def _no_room(self, line: Line, ahead_us: int, *, full: bool, most: int) -> NotNow | None:
        """Answer for rate and slots; who is refused though it goes first is awaited."""
        interactive, behind = line.lane is Lane.INTERACTIVE, self.bulk_behind_since
        goes_first = interactive or self.bulk_has_its_turn()
        other = Lane.BULK if interactive else Lane.INTERACTIVE
        awaited = self.awaited_until.get(other, 0)
        yields = (interactive or not goes_first) and awaited > self.now
        late = ahead_us > line.horizon_us
        if not (late or full or yields):
            return None
        why = Stop.RATE if late or not full else Stop.IN_FLIGHT
        soonest_us = ahead_us
        if full:
            most_us = RULES.first_slot_look_max_us if goes_first else RULES.slot_look_max_us
            soonest_us = max(ahead_us, int(min(most_us, max(RULES.slot_look_us, (self.now - self.next_us) / 2))))
        last_us = math.inf
        if full and not goes_first:
            # In a line for slots: it moves as slowly as slots have come free lately, but is not longer than a bound.
            line.each_us = max(line.each_us, (self.now - self.next_us) / most)
            last_us = RULES.slot_line_max_us
        if yields:
            comes_us = awaited - RULES.grace_us
            if not interactive:
                comes_us = min(comes_us, (behind or 0) + RULES.bulk_turn_us)
            soonest_us = max(soonest_us, comes_us - self.now)
        early_us = 0 if goes_first and why is Stop.IN_FLIGHT else line.horizon_us - RULES.horizon_us / 2
        answer = line.not_now(why, soonest_us, early_us=early_us, last_us=max(last_us, soonest_us))
        if goes_first:
            comes_us = self.now + round(answer.retry_in_s * 1000) * 1000
            until_us = max(self.awaited_until.get(line.lane, 0), comes_us + RULES.grace_us)
            self.awaited_until[line.lane] = until_us
            self.bulk_behind_since = behind or self.now
        return answer

    def _note_grant(self, lane: Lane) -> None:
        if lane is Lane.BULK:
            if self.bulk_behind_since:
                self.awaited_until.pop(Lane.BULK, None)
            self.bulk_behind_since = None
            return
        self.bulk_behind_since = self.bulk_behind_since or self.now
        until_ms = self.awaited_until.get(Lane.INTERACTIVE, 0) / 1000
        if not any(at_ms <= until_ms for at_ms in self.firsts_ms):
            self.awaited_until.pop(Lane.INTERACTIVE, None)

    def bulk_has_its_turn(self) -> bool:
        """Whether the bulk lane has stood behind so long that it goes first once."""
        since = self.bulk_behind_since
        return since is not None and self.now - since >= RULES.bulk_turn_us

    # -- settling --------------------------------------------------------------------------------------------------

    def settle(self, permit: Permit, report: Report) -> GateChange | None:
        """Answer as `settle.lua` does."""
        mine = {f"{permit.holder}:{n + 1}" for n in range(permit.in_flight)} & set(self.slots)
        for slot in mine:
            del self.slots[slot]
        if not mine:
            return None
        before = self.state
        # What was granted yesterday is given back to yesterday, which nobody asks any more.
        if permit.quota_day:
            self.granted_on[permit.quota_day] -= report.unsent
        self._learn(report)
        self._judge(permit, report)
        return None if self.state is before else self._change(before)

    def _change(self, before: GateState) -> GateChange:
        return GateChange(platform=self.platform, before=before, after=self.state, reason=self.reason)

    def _learn(self, report: Report) -> None:
        counted = report.calls - report.throttled
        slow = report.calls > 0 and report.latency_s > report.slow_s > 0
        if report.throttled or slow:
            if self.down_at is None or self.now - self.down_at >= RULES.down_every_us:
                complaint = (1 - RULES.share_throttled) * report.throttled / report.calls
                factor = 1 - complaint if report.throttled else RULES.share_slow
                self.share = max(RULES.share_min, self.share * factor)
                self.down_at = self.up_at = self.now
        elif self.share < 1 and counted > report.failed and self.now - self.up_at >= RULES.up_every_us:
            self.share = min(1, self.share + RULES.share_up)
            self.up_at = self.now
        if report.throttled and report.retry_after_s:
            hold_us = min(RULES.retry_after_max_us, report.retry_after_s * 1_000_000)
            self.next_us = int(f"{max(self.next_us, self.now + hold_us):.0f}")

    def _judge(self, permit: Permit, report: Report) -> None:
        self_out = self._probes_out()
        if permit.holder in self_out:
            self.standing.probes = {holder: till for holder, till in self_out.items() if holder != permit.holder}
            self._judge_probe(report)
        elif self.state is GateState.SUSPENDED:
            if report.suspend:
                self._suspend(report.suspend)
        elif self.state not in BLOCKED and permit.epoch == self.epoch:
            self._judge_flow(report)

    def _judge_probe(self, report: Report) -> None:
        suspended = self.state is GateState.SUSPENDED
        counted = report.calls - report.throttled
        if not suspended and report.suspend:
            self._suspend(report.suspend)
        elif not suspended and report.failed:
            self._trip("probe_failed")
        elif suspended and (report.suspend or report.failed):
            self.standing.tries += 1
            self.standing.probe_at = self.now + self._suspension_us()
            self.reason = report.suspend or self.reason
        elif counted:
            self.standing.wins += 1
            if suspended or self.standing.wins >= RULES.probes:
                self._ramp()
        elif report.throttled and suspended:
            self.standing.probe_at = self.now + self._suspension_us()

    def _judge_flow(self, report: Report) -> None:
        counted = report.calls - report.throttled
        if report.suspend:
            self._suspend(report.suspend)
            return
        if not counted:
            return
        self.streak = self.streak + counted if report.failed == counted else 0
        if self.streak >= RULES.streak:
            self._trip("failures_in_a_row")
        elif self.state is GateState.RAMPING:
            self._judge_ramp(counted, report.failed)
        else:
            bucket = self.now // RULES.bucket_us
            kept = [entry for entry in self.standing.window if entry[0] > bucket - RULES.buckets]
            self.standing.window = [*kept, (bucket, counted, report.failed)]
            calls = sum(n for _, n, _ in self.standing.window)
            failed = sum(bad for _, _, bad in self.standing.window)
            if calls >= RULES.window_calls and failed >= calls * RULES.failure_rate:
                self._trip("failure_rate")

    def _judge_ramp(self, counted: int, failed: int) -> None:
        standing = self.standing
        standing.step_calls += counted
        standing.step_failed += failed
        if standing.step_calls < RULES.step_calls:
            return
        if standing.step_failed >= standing.step_calls * RULES.failure_rate:
            self._trip("ramp_failed")
        elif self.now - standing.step_at >= RULES.step_us:
            if standing.step == len(RULES.ramp):
                self._enter(GateState.FLOWING, "")
            else:
                self.standing = Standing(step=standing.step + 1, step_at=self.now)

    # -- turning ---------------------------------------------------------------------------------------------------

    def turn(self, action: Callable[[], None]) -> tuple[GateView, GateView]:
        """Run one of the verbs below between two views."""
        before = self.view()
        action()
        return before, self.view()

    def resume(self) -> None:
        """End everything that a person or the platform has stopped."""
        self.pause = None
        if self.state in BLOCKED:
            self._ramp()

    def suspend(self, reason: str) -> None:
        """Suspend as if the platform had asked for it."""
        self._suspend(reason)

    def probe(self) -> None:
        """Let the next probe be due now."""
        if self.standing.probe_at is not None:
            self.standing.probe_at = self.now

    def view(self) -> GateView:
        """Show what `gate_views.lua` shows."""
        pause = self._pause()
        return GateView(
            platform=self.platform,
            state=GateState.PAUSED if pause else self.state,
            reason=pause.reason if pause else self.reason,
            since=instant(pause.since if pause else self.since),
            until=instant(pause.until if pause else self.standing.probe_at),
            trips=self._trips(),
            share=self.share,
            limit_calls_per_s=self.limit_calls_per_s,
            limit_in_flight=self.limit_in_flight,
            in_flight_now=sum(1 for till in self.slots.values() if till > self.now / 1000),
        )

    # -- states ----------------------------------------------------------------------------------------------------

    def _enter(self, state: GateState, reason: str) -> None:
        self.trips = self._trips()
        self.state, self.reason, self.since, self.standing = state, reason, self.now, Standing()
        if state is not GateState.FLOWING:
            self.epoch += 1
            self.streak = 0

    def _trips(self) -> int:
        flowed_us = self.now - (self.since or 0) if self.state is GateState.FLOWING else 0
        return 0 if flowed_us >= RULES.forget_us else self.trips

    def _trip(self, reason: str) -> None:
        self._enter(GateState.BROKEN, reason)
        self.trips += 1
        self.standing.probe_at = self.now + min(RULES.broken_max_us, RULES.broken_us * 2 ** (self.trips - 1))

    def _suspend(self, reason: str) -> None:
        if self.state is GateState.SUSPENDED:
            self.reason = reason
            self.standing.probe_at = max(self.standing.probe_at or 0, self.now + self._suspension_us())
        else:
            self._enter(GateState.SUSPENDED, reason)
            self.standing.probe_at = self.now + self._suspension_us()

    def _suspension_us(self) -> int:
        return int(min(RULES.suspended_max_us, RULES.suspended_us * 2**self.standing.tries))

    def _ramp(self) -> None:
        self._enter(GateState.RAMPING, "resumed")
        self.standing = Standing(step=1, step_at=self.now)

    def _pause(self) -> Pause | None:
        over = self.pause and self.pause.until is not None and self.pause.until <= self.now
        return None if over else self.pause

    def _probes_out(self) -> dict[str, int]:
        return {holder: till for holder, till in self.standing.probes.items() if till > self.now}

    def _forget_leases(self) -> None:
        self.slots = {slot: till for slot, till in self.slots.items() if till > self.now / 1000}
