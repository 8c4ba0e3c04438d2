"""What follows a call that gave no answer: try again at a time, or hand the job to a person. Pure: no clock, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from random import Random
from typing import Final, Self

from platforms.model import Platform
from schemas.outcome import Fault, Hold, Reason

RETRY_AFTER_CAP_S: Final = 86_400.0


class Blame(StrEnum):
    """Whose trouble a fault is, and so what helps."""

    MOMENT = "moment"  # the platform is busy or away: a later try may do
    CONNECTION = "connection"  # the catalogue, the contract or the network is wrong: every job there meets it
    REQUEST = "request"  # this very request is wrong: no later try can do better


BLAME: Final[dict[Fault, Blame]] = {
    Fault.TIMEOUT: Blame.MOMENT,
    Fault.CONNECTION: Blame.MOMENT,
    Fault.TOO_MANY_REQUESTS: Blame.MOMENT,
    Fault.SERVER_ERROR: Blame.MOMENT,
    Fault.UNREADABLE_ANSWER: Blame.MOMENT,
    Fault.ANSWER_TOO_LARGE: Blame.MOMENT,
    Fault.UNANSWERED: Blame.MOMENT,
    Fault.DNS: Blame.CONNECTION,
    Fault.TLS: Blame.CONNECTION,
    Fault.PRIVATE_ADDRESS: Blame.CONNECTION,
    Fault.REDIRECT: Blame.CONNECTION,
    Fault.UNAUTHORIZED: Blame.CONNECTION,
    Fault.ENDPOINT_GONE: Blame.CONNECTION,
    Fault.REJECTED_REQUEST: Blame.REQUEST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryIn:
    """Try again after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bury:
    """No further try by itself; a person decides."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitPlatform:
    """The platform is at fault and not the job: it waits until the platform is called again, and spends no attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Something in this call is wrong: its halves go on by themselves, and spend no attempt."""


Decision = RetryIn | Bury | AwaitPlatform | Split


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """A schedule as data. `delays_s[n]` follows attempt n + 1, and the last one repeats.

    Jitter only lengthens a wait, by up to `jitter_ratio` of it. A platform's Retry-After is honoured up to
    `retry_after_cap_s`.
    """

    attempts_max: int
    delays_s: tuple[float, ...]
    jitter_ratio: float = 0.2
    retry_after_cap_s: float = RETRY_AFTER_CAP_S

    @classmethod
    def of(cls, platform: Platform) -> Self:
        """Return the policy that a catalogue entry asks for. Its `total_s` is the batch's deadline, set at intake."""
        return cls(attempts_max=platform.retry.attempts_max, delays_s=platform.retry.delays_s)

    def decide(
        self,
        fault: Fault,
        *,
        attempt: int,
        jobs: int,
        probe: bool,
        retry_after_s: float | None,
        now: datetime,
        deadline: datetime,
        rng: Random,
    ) -> Decision:
        """Say what follows attempt number `attempt` (from 1), which ended in `fault` for all `jobs` of its call.

        `probe` says that the platform was known to be ill when it was called: then nothing that it failed to do tells
        anything of the job.

        A wait never ends after the deadline, and is never shorter than the schedule or the capped Retry-After
        (RFC 9110 10.2.3). Where both cannot be had, the job is buried: a retry that cannot fit is not planned.
        """
        blame = BLAME[fault]
        if blame is Blame.CONNECTION or (probe and blame is Blame.MOMENT):
            return AwaitPlatform()
        if blame is Blame.REQUEST and jobs > 1:
            return Split()
        if blame is Blame.REQUEST or attempt >= self.attempts_max:
            return Bury(reason=fault)
        scheduled_s = self.delays_s[min(attempt, len(self.delays_s)) - 1]
        asked_s = min(retry_after_s or 0.0, self.retry_after_cap_s)
        wait_s = max(scheduled_s, asked_s)
        left_s = (deadline - now).total_seconds()
        if wait_s > left_s:
            return Bury(reason=Hold.DEADLINE)
        return RetryIn(delay_s=min(wait_s * (1 + self.jitter_ratio * rng.random()), left_s))
