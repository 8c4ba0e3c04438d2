"""Admission: may this platform be called now? One atomic answer for all workers together.

Fails closed: without Redis there is no permit (rule 7). The breaker, pauses and windows of later work join the same
script, so that one refused call never burns a token of another limit.
"""

from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from backends.keys import ADMISSION_TTL_S, Keys
from backends.scripts import script
from schemas.errors import BackendUnavailable

# What has to wait longer than about a second goes to the waiting set (rule 6).
HORIZON_S = 1.0
# A slot whose holder died is free again this long after the last call could have ended.
_LEASE_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave for `calls` calls, at most `in_flight` open at once, the first after `first_after_s`."""

    platform: str
    holder: str
    calls: int
    in_flight: int
    first_after_s: float
    interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotNow:
    """No leave; nothing was spent. Come back after `retry_in_s`."""

    retry_in_s: float


class Admission:
    """Permits from Redis."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._keys = keys
        self._admit = script(client, "admit")
        self._release = script(client, "release")

    def ask(
        self, platform: str, *, calls: int, calls_per_s: float, in_flight: int, hold_s: float, holder: str
    ) -> Permit | NotNow:
        """Ask leave for up to `calls` calls that will all be over within `hold_s` seconds.

        `calls_per_s` and `in_flight` are the platform's limits for all workers together. Raises BackendUnavailable:
        then nothing may be called.
        """
        try:
            granted, slots, first_us, retry_ms = self._admit(
                keys=[self._keys.rate(platform), self._keys.slots(platform), self._keys.waiting_at(platform)],
                args=[
                    calls,
                    calls_per_s,
                    in_flight,
                    int((hold_s + _LEASE_MARGIN_S) * 1000),
                    holder,
                    int(HORIZON_S * 1_000_000),
                    ADMISSION_TTL_S,
                ],
            )
        except (RedisError, OSError) as error:
            raise BackendUnavailable(f"no permit without Redis ({type(error).__name__})") from error
        if not granted:
            return NotNow(retry_in_s=retry_ms / 1000)
        return Permit(
            platform=platform,
            holder=holder,
            calls=granted,
            in_flight=slots,
            first_after_s=first_us / 1_000_000,
            interval_s=1 / calls_per_s,
        )

    def give_back(self, permit: Permit) -> None:
        """Free the slots; if Redis is away they end with their lease."""
        try:
            self._release(keys=[self._keys.slots(permit.platform)], args=[permit.holder, permit.in_flight])
        except (RedisError, OSError):
            return
