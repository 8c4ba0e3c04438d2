"""Withdrawals: a platform is told to leave a number alone about which it was asked, and why.

Written down when they are asked for, taken by any worker, sent through admission like every other call, and kept as
the record of what a platform was told. Sent twice they carry the same key, so a crash does no harm.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog
from redis.exceptions import RedisError

from backends.admission import NotNow, Permit, Report
from backends.bootstrap import Backends
from backends.withdrawals import Stage, Withdrawal
from platforms.catalogue import Catalogue
from platforms.maintenance import next_window
from platforms.model import Platform
from schemas.errors import ContractError, RenewalError
from schemas.ids import new_id, split_job_id
from schemas.outcome import Fault
from workers.connector import build_withdrawal, fault_of_status, retry_after_s
from workers.transport import Answer, Transport

_AT_ONCE: Final = 20
_LOOK_S: Final = 2.0
_AGAIN_S: Final = 5.0
# Longer than one page of calls can take; who died with some is replaced after it.
_MINE: Final = timedelta(minutes=5)
# The platform understood, and says no: asking again changes nothing.
_FINAL: Final = frozenset({Fault.REJECTED_REQUEST})
_OK: Final = range(200, 300)
log = structlog.get_logger()


class Withdrawer:
    """Sends what is due. Raises BackendUnavailable, RedisError: then what it had taken comes again by itself."""

    def __init__(
        self, backends: Backends, catalogue: Catalogue, *, transport: Callable[[], Transport],
        credentials: Callable[[Platform], tuple[str, ...]], pause: Callable[[float], object],
    ) -> None:  # fmt: skip
        self._backends, self._catalogue, self._pause = backends, catalogue, pause
        self._make, self._credentials = transport, credentials
        self._transport: Transport | None = None

    def close(self) -> None:
        """Close the connections to platforms."""
        if self._transport is not None:
            self._transport.close()

    def step(self) -> int:
        """Send a page of what is due. Returns how many were looked at."""
        now = self._backends.clock.now()
        taken = self._backends.withdrawals.take(now=now, until=now + _MINE, at_most=_AT_ONCE)
        for withdrawal in taken:
            self._deal_with(withdrawal)
        return len(taken)

    def _deal_with(self, withdrawal: Withdrawal) -> None:
        _, key = split_job_id(withdrawal.job)
        platform = self._catalogue.get(key) if key in self._catalogue else None
        if platform is None or platform.withdraw is None:
            said = "no such platform in the catalogue" if platform is None else "the platform offers no withdrawal"
            self._note(withdrawal, Stage.NOT_SUPPORTED, detail=f"{said}: a person tells it")
            return
        permit = self._backends.admission.ask(
            key,
            calls=1,
            calls_per_s=platform.limits.calls_per_s,
            in_flight=platform.limits.in_flight,
            hold_s=platform.limits.timeout_s,
            holder=new_id(),
            window=next_window(platform.maintenance, self._backends.clock.now()),
        )
        if isinstance(permit, NotNow):
            again = self._backends.clock.now() + timedelta(seconds=permit.retry_in_s)
            self._backends.withdrawals.note(withdrawal, again_at=again)
            return
        self._send(platform, withdrawal, permit)

    def _send(self, platform: Platform, withdrawal: Withdrawal, permit: Permit) -> None:
        try:
            answer = self._call(platform, withdrawal, permit)
        except ContractError as error:
            self._note(withdrawal, Stage.REJECTED, detail=str(error))
            return
        finally:
            # Its endpoint is another one: how it answers says nothing about the one that the gate is for.
            self._backends.admission.settle(permit, Report())
        stage, again_at, detail = judge(platform, withdrawal, answer, now=self._backends.clock.now())
        if stage is not Stage.ACKNOWLEDGED:
            log.warning("withdrawal.failed", platform=platform.key, job=withdrawal.job, stage=stage, reason=detail)
        self._note(withdrawal, stage, detail=detail, attempts=withdrawal.attempts + 1, again_at=again_at)

    def _call(self, platform: Platform, withdrawal: Withdrawal, permit: Permit) -> Answer:
        case, _ = split_job_id(withdrawal.job)
        view = self._backends.store.case(case)
        call = build_withdrawal(
            platform,
            job=withdrawal.job,
            number=self._backends.store.open_number(view),
            reference=self._backends.store.details(case).get(platform.key, {}).get("reference"),
            cause=withdrawal.cause,
            credentials=self._credentials(platform),
            now=self._backends.clock.now(),
        )
        self._note(withdrawal, Stage.SENT, detail=withdrawal.detail, again_at=self._backends.clock.now() + _MINE)
        self._pause(permit.first_after_s)
        if self._transport is None:
            self._transport = self._make()
        (answer,) = self._transport.send([call], in_flight=1, deadline_s=platform.limits.timeout_s)
        return answer

    def _note(
        self, withdrawal: Withdrawal, stage: Stage, *, detail: str, attempts: int | None = None,
        again_at: datetime | None = None,
    ) -> None:  # fmt: skip
        now_ms = int(self._backends.clock.now().timestamp() * 1000)
        attempts = withdrawal.attempts if attempts is None else attempts
        changed = replace(withdrawal, stage=stage, detail=detail, attempts=attempts, changed_ms=now_ms)
        self._backends.withdrawals.note(changed, again_at=again_at)


def judge(
    platform: Platform, withdrawal: Withdrawal, answer: Answer, *, now: datetime
) -> tuple[Stage, datetime | None, str]:
    """Return how far a withdrawal is after an answer, when it is to be sent again, and what to say about it. Pure."""
    if answer.status in _OK:
        return Stage.ACKNOWLEDGED, None, ""
    fault = answer.fault or (fault_of_status(answer.status) if answer.status else None) or Fault.UNANSWERED
    said = f"HTTP {answer.status}" if answer.status else fault.value
    delays = platform.retry.delays_s
    delay_s = max(delays[min(withdrawal.attempts, len(delays) - 1)], retry_after_s(answer.headers, now=now) or 0)
    again_at = now + timedelta(seconds=delay_s)
    ends_at = withdrawal.requested_ms / 1000 + platform.retry.total_s
    if fault in _FINAL or withdrawal.attempts + 1 >= platform.retry.attempts_max or again_at.timestamp() > ends_at:
        return Stage.REJECTED, None, f"{said}: a person asks"
    return Stage.SENT, again_at, said


def withdraw_until(stop: threading.Event, withdrawer: Withdrawer) -> None:
    """Send what is due until told to stop; go on when Redis comes back."""
    try:
        while not stop.is_set():
            try:
                if not withdrawer.step():
                    stop.wait(_LOOK_S)
            except (RenewalError, RedisError) as error:
                log.warning("withdrawal.failed", reason=type(error).__name__)
                stop.wait(_AGAIN_S)
    finally:
        withdrawer.close()
