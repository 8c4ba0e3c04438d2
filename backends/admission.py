"""Admission: may this platform be called now? One atomic answer for all workers together.

Each platform has a gate (`GateState`), a rate, in-flight slots and perhaps a maintenance window; one script looks at
all of them, so that one refused call never burns a token of another limit. Fails closed: without Redis there is no
permit (rule 7). People turn gates with `backends.gates`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from importlib.resources import files

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import RedisError

from backends.connect import text
from backends.keys import ADMISSION_TTL_S, QUOTA_TTL_S, Keys
from backends.scripts import script
from schemas.batch import Lane
from schemas.errors import BackendUnavailable

# What has to wait longer than about a second goes to the waiting set (rule 6).
HORIZON_S = 1.0
# The longest that anybody with a permit waits for the first call: see `Rules`, of which this is the greatest horizon.
FIRST_CALL_S = 5.0
# A slot whose holder died is free again this long after the last call could have ended.
_LEASE_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The figures of every gate; the scripts are given them, so that there is one table only."""

    # Broken: half of at least ten calls within about 30 s failed, or five in a row, however long that took.
    bucket_us: int = 3_000_000
    buckets: int = 10
    window_calls: int = 10
    failure_rate: float = 0.5
    streak: int = 5
    # How long it stays broken: twice as long after each trip, until a minute of ordinary flow forgets them.
    broken_us: int = 5_000_000
    broken_max_us: int = 300_000_000
    forget_us: int = 60_000_000
    # Probes out at once, and successes needed; a suspended platform gets one at a time.
    probes: int = 3
    suspended_us: int = 30_000_000
    suspended_max_us: int = 600_000_000
    # Then a ramp: each step is held for a while and for some calls.
    ramp: tuple[float, ...] = (0.05, 0.25, 1.0)
    step_us: int = 3_000_000
    step_calls: int = 3
    # The learned share of the rate: down fast, but once for one burst of complaints; up slowly.
    share_min: float = 0.05
    share_throttled: float = 0.5
    share_slow: float = 0.8
    share_up: float = 0.05
    down_every_us: int = 1_000_000
    up_every_us: int = 1_000_000
    retry_after_max_us: int = 300_000_000
    # Share and ramp never make a platform slower than this: a call in ten seconds floods nobody, and a platform that
    # takes one call a minute would otherwise need hours to come back.
    floor_per_s: float = 0.1
    horizon_us: int = int(HORIZON_S * 1_000_000)
    # When to look again where nothing says when: all probes are out; a pause without an end.
    probe_look_us: int = 1_000_000
    pause_look_us: int = 30_000_000
    hours_look_us: int = 1_000_000
    # The days of the quotas are those of Asia/Shanghai, which has no other time in summer.
    day_us: int = 86_400_000_000
    shanghai_us: int = 28_800_000_000
    # When to look again for a free slot: half as long as none has become free, within these.
    slot_look_us: int = 100_000
    slot_look_max_us: int = 5_000_000
    # How long at most somebody in a long line for slots waits until they look again.
    slot_line_max_us: int = 30_000_000
    # The interactive lane goes first. It is granted calls further ahead than the bulk lane, which so can never take the
    # next token from it; and of so many slots one is kept for it. Where neither helps, the bulk lane leaves it the next
    # one until it should have come back, and a while longer.
    first_horizon_us: int = 3_000_000
    first_slot_from: int = 4
    first_slot_look_max_us: int = 500_000
    grace_us: int = 5_000_000
    # But after so long without leave the bulk lane goes first once, from further ahead than the other one reaches.
    bulk_turn_us: int = 10_000_000
    bulk_horizon_us: int = 5_000_000


RULES = Rules()


class Stop(StrEnum):
    """Why there is no leave."""

    RATE = "rate"
    IN_FLIGHT = "in_flight"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    BREAKER = "breaker"
    WINDOW = "window"
    HOURS = "hours"
    QUOTA = "quota"


class GateState(StrEnum):
    """Where a platform's gate stands."""

    FLOWING = "flowing"  # as usual
    PAUSED = "paused"  # by a person, over whatever it is underneath
    SUSPENDED = "suspended"  # the connection is wrong (401, 404, TLS …): one probe now and then
    BROKEN = "broken"  # too many calls failed: none until the next probes
    PROBING = "probing"  # after that: a few probes
    RAMPING = "ramping"  # it answers again: a part of the rate, then more


@dataclass(frozen=True, slots=True, kw_only=True)
class GateChange:
    """What a report or a first probe did to a gate; somebody may want to be told."""

    platform: str
    before: GateState
    after: GateState
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave for `calls` calls, at most `in_flight` open at once, the first after `first_after_s`.

    `probe` says that the gate is not flowing: a failure says more about the platform than about the job, and spends no
    attempt. `epoch` ties the permit to the state it was given in. `change` is what the asking changed: the first probe
    of a broken platform. `quota_day` is the day on whose quota its jobs were counted, 0 if on none.
    """

    platform: str
    holder: str
    calls: int
    in_flight: int
    first_after_s: float
    interval_s: float
    probe: bool = False
    epoch: int = 0
    quota_day: int = 0
    change: GateChange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkTerms:
    """What a platform grants the bulk lane beyond the limits that hold for both.

    `jobs_per_day` is counted in jobs as they are granted, repeated ones again. `hours` are those that hold now or come
    next: start and end.
    """

    jobs_per_day: int | None = None
    hours: tuple[datetime, datetime] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotNow:
    """No leave; nothing was spent. Come back after `retry_in_s`."""

    retry_in_s: float
    why: Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How the calls of one permit went. A bulk call is one call.

    `failed` is what the platform's bad moment did (timeouts, resets, 5xx, unreadable answers), `throttled` what it
    asked us to slow down for (429, 425). `suspend` is the fault that says that the connection itself is wrong.
    `latency_s` is the mean; above `slow_s` the rate goes down. `unsent` counts jobs whose calls never left: they are
    given back to the day's quota.
    """

    calls: int = 0
    failed: int = 0
    throttled: int = 0
    latency_s: float = 0.0
    slow_s: float = 0.0
    suspend: str | None = None
    retry_after_s: float | None = None
    unsent: int = 0


class Admission:
    """Permits from Redis. `clock_us` replaces the server's clock in tests and simulations."""

    def __init__(self, client: Redis, keys: Keys, *, clock_us: Callable[[], int] | None = None) -> None:
        self._keys, self._clock_us = keys, clock_us
        self._admit = gate_script(client, "admit")
        self._settle = gate_script(client, "settle")

    def ask(
        self,
        platform: str,
        *,
        calls: int,
        calls_per_s: float,
        in_flight: int,
        hold_s: float,
        holder: str,
        window: tuple[datetime, datetime] | None = None,
        lane: Lane = Lane.BULK,
        jobs: int | None = None,
        terms: BulkTerms | None = None,
    ) -> Permit | NotNow:
        """Ask leave for up to `calls` calls that will all be over within `hold_s` seconds.

        `calls_per_s` and `in_flight` are the platform's limits for all workers together, `window` its maintenance that
        is now or next: start and end. `holder` names this permit alone, without spaces. `jobs` are in all calls
        together, as many in each; one a call if not given. `terms` bind the bulk lane alone.
        Raises BackendUnavailable: then nothing may be called.
        """
        try:
            granted, *answer = self._admit(
                keys=[
                    self._keys.rate(platform),
                    self._keys.slots(platform),
                    self._keys.waiting_at(platform),
                    self._keys.gate(platform),
                    self._keys.waiting_first_at(platform),
                    self._keys.quota(platform),
                ],
                args=[
                    now_arg(self._clock_us),
                    calls,
                    calls_per_s,
                    in_flight,
                    int((hold_s + _LEASE_MARGIN_S) * 1000),
                    holder,
                    ADMISSION_TTL_S,
                    *_span_args(window),
                    lane,
                    (jobs or calls) // calls,
                    *_terms_args(terms or BulkTerms()),
                    QUOTA_TTL_S,
                ],
            )
        except (RedisError, OSError) as error:
            raise BackendUnavailable(f"no permit without Redis ({type(error).__name__})") from error
        if not granted:
            retry_ms, why = answer
            return NotNow(retry_in_s=retry_ms / 1000, why=Stop(text(why)))
        slots, first_us, per_s, epoch, state, day, *change = answer
        return Permit(
            platform=platform,
            holder=holder,
            calls=granted,
            in_flight=slots,
            first_after_s=first_us / 1_000_000,
            interval_s=1 / float(per_s),
            probe=text(state) != GateState.FLOWING,
            epoch=epoch,
            quota_day=day,
            change=_change(platform, change),
        )

    def settle(self, permit: Permit, report: Report) -> GateChange | None:
        """Free the slots and tell the gate how the calls went; returns what that changed.

        Only the first report on a permit counts. If Redis is away the slots end with their lease.
        """
        platform = permit.platform
        try:
            change = self._settle(
                keys=[
                    self._keys.slots(platform),
                    self._keys.gate(platform),
                    self._keys.rate(platform),
                    self._keys.quota(platform),
                ],
                args=[
                    now_arg(self._clock_us),
                    permit.holder,
                    permit.in_flight,
                    permit.epoch,
                    report.calls,
                    report.failed,
                    report.throttled,
                    report.latency_s,
                    report.slow_s,
                    report.suspend or "",
                    report.retry_after_s or 0,
                    ADMISSION_TTL_S,
                    permit.quota_day,
                    report.unsent,
                ],
            )
        except (RedisError, OSError):
            return None
        return _change(platform, change)


def gate_script(client: Redis, name: str) -> Script:
    """Return one of the scripts that stand on `gate.lua`."""
    shared = (files("backends") / "lua" / "gate.lua").read_text(encoding="utf-8")
    return script(client, name, prelude=_rules_for_lua() + shared)


def micros(instant: datetime) -> int:
    """Return an instant as the scripts count it."""
    return round(instant.timestamp() * 1_000_000)


def quota_day(now: datetime) -> int:
    """Return the day of a quota, as the scripts count it: days of Asia/Shanghai since 1970."""
    return (micros(now) + RULES.shanghai_us) // RULES.day_us


def now_arg(clock_us: Callable[[], int] | None) -> int | str:
    """Return what a script is given for the time: usually nothing, and it asks the server."""
    return clock_us() if clock_us else ""


def _span_args(span: tuple[datetime, datetime] | None) -> list[int | str]:
    return [micros(span[0]), micros(span[1])] if span else ["", ""]


def _terms_args(terms: BulkTerms) -> list[int | str]:
    return [terms.jobs_per_day or "", *_span_args(terms.hours)]


def _change(platform: str, answer: Sequence[bytes]) -> GateChange | None:
    if not answer:
        return None
    before, after, reason = map(text, answer)
    return GateChange(platform=platform, before=GateState(before), after=GateState(after), reason=reason)


def _rules_for_lua() -> str:
    lines = []
    for field in fields(Rules):
        value = getattr(RULES, field.name)
        body = "{" + ", ".join(map(repr, value)) + "}" if isinstance(value, tuple) else repr(value)
        lines.append(f"local {field.name.upper()} = {body}\n")
    return "".join(lines)
