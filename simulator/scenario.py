"""Fault plans by name: what goes wrong with which call, and how long a platform takes. Pure and repeatable."""

from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import exp
from statistics import NormalDist
from typing import Final

from platforms.model import Platform
from schemas.errors import NotFound
from simulator.chance import HALF_BITS, Chance, high_share, low_half
from simulator.world import Answer


class Fault(StrEnum):
    """What can go wrong with one call. The comment says what has become of its effects."""

    UNAVAILABLE = "unavailable"  # 503; nothing done
    TOO_MANY = "too_many"  # 429 with Retry-After; nothing done
    SERVER_ERROR = "server_error"  # 500 with a page of HTML; nothing done
    MAINTENANCE_PAGE = "maintenance_page"  # 200 with a page of HTML; nothing done
    RESET = "reset"  # the connection is reset; nothing done
    LOST_ANSWER = "lost_answer"  # the connection is reset; everything done
    SLOW_DRIP = "slow_drip"  # one byte now and then; everything done
    WRONG_TYPE = "wrong_type"  # a true answer under a false content type; everything done
    LEFT_OUT = "left_out"  # bulk: every tenth item or so is missing from the answer; everything done
    INVENTED = "invented"  # bulk: one item that was never sent stands in the answer; everything done

    @property
    def before_effect(self) -> bool:
        """Whether the call does nothing at the platform."""
        return self in _BEFORE_EFFECT


_BEFORE_EFFECT: Final = frozenset(
    {Fault.UNAVAILABLE, Fault.TOO_MANY, Fault.SERVER_ERROR, Fault.MAINTENANCE_PAGE, Fault.RESET}
)
_BULK_ONLY: Final = frozenset({Fault.LEFT_OUT, Fault.INVENTED})
_LATENCY_MIN_S: Final = 0.005
_LATENCY_MAX_S: Final = 0.060
_SPREAD_SIGMA: Final = 0.4
_STEPS: Final = 256
# Multipliers of a platform's base latency, log-normal, one for each byte a roll can give.
_SPREAD: Final = tuple(exp(_SPREAD_SIGMA * NormalDist().inv_cdf((step + 0.5) / _STEPS)) for step in range(_STEPS))
_UNKNOWN_CODES: Final = ("ERR_9001", "ERR_9017", "BIZ-77", "UNKNOWN_STATE_X")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A fault plan. Shares are of calls, and of jobs for `unknown_code_share`; `latency_ratio` 0 answers at once.

    `deferred_share` of the calls to platforms that can answer later are answered 202, and decided `deferred_s` later.
    """

    name: str
    fault_shares: tuple[tuple[Fault, float], ...] = ()
    unknown_code_share: float = 0.0
    latency_ratio: float = 1.0
    deferred_share: float = 0.0
    deferred_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What befalls one call. `dice` is 32 bits left for whoever needs to choose, e.g. the items left out."""

    fault: Fault | None
    latency_s: float
    dice: int
    left_out_every: int = 10
    deferred_s: float | None = None  # answered 202, and decided so much later


class Fortune:
    """A scenario at one platform under one seed. The same call in the same try always meets the same fate."""

    def __init__(self, scenario: Scenario, platform: Platform, *, seed: int) -> None:
        shares = [s for s in scenario.fault_shares if platform.protocol == "bulk-json" or s[0] not in _BULK_ONLY]
        self._faults: tuple[Fault | None, ...] = (*(fault for fault, _ in shares), None)
        self._bounds = [*accumulate(share for _, share in shares)]
        self._deferred_below = int(scenario.deferred_share * (1 << HALF_BITS)) if platform.answers_later else 0
        self._deferred_s = scenario.deferred_s
        self._deferrals = Chance(seed=seed, use="deferral", platform=platform.key)
        self._unknown_below = int(scenario.unknown_code_share * (1 << HALF_BITS))
        self._calls = Chance(seed=seed, use="call", platform=platform.key)
        steadiness = high_share(Chance(seed=seed, use="latency", platform=platform.key).roll("base"))
        base_s = _LATENCY_MIN_S * (_LATENCY_MAX_S / _LATENCY_MIN_S) ** steadiness
        self._latencies_s = tuple(base_s * spread * scenario.latency_ratio for spread in _SPREAD)
        self.unknown_answers: tuple[Answer, ...] = tuple(
            Answer(code=code, outcome=None) for code in _UNKNOWN_CODES if code not in platform.outcomes
        )

    def fate(self, call: str, *, failed_before: int) -> Fate:
        """Decide a call by its idempotency key and by how often it has failed, so that a repeat rolls anew."""
        bits = self._calls.roll(f"{call}|{failed_before}")
        fault = self._faults[bisect_right(self._bounds, high_share(bits))]
        deferred_s = self._deferred_s if self._defers(call) else None
        latency_s = self._latencies_s[bits & 0xFF]
        return Fate(fault=fault, latency_s=latency_s, dice=bits & 0xFFFFFFFF, deferred_s=deferred_s)

    def _defers(self, call: str) -> bool:
        # Whatever failed before: a platform that decides a call later does so at each of its repeats.
        return self._deferred_below > 0 and low_half(self._deferrals.roll(call)) < self._deferred_below

    def unknown_answer(self, pair: int) -> int | None:
        """Return which of `unknown_answers` is all that is ever said of this pair, or None for nearly every pair.

        The lower half of the roll decides: `World` has used the upper one for the truth.
        """
        low = low_half(pair)
        if low >= self._unknown_below or not self.unknown_answers:
            return None
        return low % len(self.unknown_answers)


SCENARIOS: Final = {
    "none": Scenario(name="none"),
    # A drip costs the caller its whole time-out: of 60,000 calls about six meet one.
    "normal": Scenario(
        name="normal",
        fault_shares=(
            (Fault.UNAVAILABLE, 0.006),
            (Fault.TOO_MANY, 0.004),
            (Fault.SERVER_ERROR, 0.002),
            (Fault.MAINTENANCE_PAGE, 0.001),
            (Fault.RESET, 0.003),
            (Fault.LOST_ANSWER, 0.003),
            (Fault.SLOW_DRIP, 0.0001),
            (Fault.WRONG_TYPE, 0.001),
            (Fault.LEFT_OUT, 0.002),
            (Fault.INVENTED, 0.001),
        ),
        unknown_code_share=0.0002,
    ),
    # Half of what can be answered later is.
    "later": Scenario(name="later", deferred_share=0.5),
    "storm": Scenario(
        name="storm",
        fault_shares=(
            (Fault.UNAVAILABLE, 0.045),
            (Fault.TOO_MANY, 0.025),
            (Fault.SERVER_ERROR, 0.012),
            (Fault.MAINTENANCE_PAGE, 0.006),
            (Fault.RESET, 0.025),
            (Fault.LOST_ANSWER, 0.025),
            (Fault.SLOW_DRIP, 0.001),
            (Fault.WRONG_TYPE, 0.004),
            (Fault.LEFT_OUT, 0.015),
            (Fault.INVENTED, 0.007),
        ),
        unknown_code_share=0.001,
    ),
}


def scenario(name: str) -> Scenario:
    """Return a fault plan by its name. Raises NotFound that names them all."""
    try:
        return SCENARIOS[name]
    except KeyError:
        raise NotFound(f"unknown fault scenario {name!r}; there are {', '.join(SCENARIOS)}") from None
