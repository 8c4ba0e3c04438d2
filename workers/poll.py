"""Polls: platforms that have accepted jobs, and do not call back, are asked for their answers now and then.

Any worker asks, through admission like every other call. A job that was taken and not asked about comes again by
itself, and the same answer twice changes nothing: a crash does no harm.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final

import structlog
from redis.exceptions import RedisError

from backends.admission import HORIZON_S, NotNow, Permit, Report
from backends.bootstrap import Backends
from backends.expected import Owed
from platforms.catalogue import Catalogue
from platforms.maintenance import next_window
from platforms.model import Platform, Poll
from schemas.errors import RenewalError
from schemas.ids import new_id, split_job_id
from schemas.outcome import Outcome
from workers.answers import answered
from workers.connector import Answered, build_polls, interpret, retry_after_s
from workers.transport import Answer, Transport

_SINGLE_AT_ONCE: Final = 20
_LOOK_S: Final = 2.0
_AGAIN_S: Final = 5.0
# No page of calls takes longer, whatever the platform does.
_HOLD_S_MAX: Final = 120.0
# Longer than that; who died with some is replaced after it.
_MINE: Final = timedelta(minutes=5)
log = structlog.get_logger()


def next_poll(poll: Poll, first_sent: datetime, now: datetime) -> datetime:
    """Return the first time after `now` at which to ask about a job. Pure."""
    for after_s in accumulate(poll.delays_s):
        due = first_sent + timedelta(seconds=after_s)
        if due > now:
            return due
    every_s = poll.delays_s[-1]
    since_s = (now - first_sent).total_seconds() - sum(poll.delays_s)
    return first_sent + timedelta(seconds=sum(poll.delays_s) + (since_s // every_s + 1) * every_s)


class Poller:
    """Asks for what is due. Raises BackendUnavailable, RedisError: then what it had taken comes again by itself."""

    def __init__(
        self, backends: Backends, catalogue: Catalogue, *, transport: Callable[[], Transport],
        credentials: Callable[[Platform], tuple[str, ...]], pause: Callable[[float], object],
    ) -> None:  # fmt: skip
        self._backends, self._pause = backends, pause
        self._polled = [platform for platform in catalogue if platform.poll is not None]
        self._make, self._credentials = transport, credentials
        self._transport: Transport | None = None

    def close(self) -> None:
        """Close the connections to platforms."""
        if self._transport is not None:
            self._transport.close()

    def step(self) -> int:
        """Ask each platform for a page of what is due. Returns how many jobs were asked about."""
        return sum(self._ask_one(platform, platform.poll) for platform in self._polled if platform.poll is not None)

    def _ask_one(self, platform: Platform, poll: Poll) -> int:
        now = self._backends.clock.now()
        at_most = platform.limits.items_per_call if platform.protocol == "bulk-json" else _SINGLE_AT_ONCE
        taken = self._backends.expected.take(platform.key, now=now, until=now + _MINE, at_most=at_most)
        again = {owed.job: next_poll(poll, owed.first_sent, now) for owed in taken}
        first_s = timedelta(seconds=poll.delays_s[0])
        # One that nobody has looked at may have been sent long ago, and accepted only now: it is asked about at once.
        due = [owed for owed in taken if not owed.new or owed.first_sent + first_s <= now]
        asked: Sequence[Owed] = ()
        if due:
            permit = self._permit(platform, len(due))
            if isinstance(permit, NotNow):
                later = now + timedelta(seconds=permit.retry_in_s)
                again |= {owed.job: later for owed in due}
                log.info("poll.ended", platform=platform.key, jobs=len(due), end="not_now", why=permit.why)
            else:
                asked = due if platform.protocol == "bulk-json" else due[: permit.calls]
                again |= {owed.job: now for owed in due[len(asked) :]}
                again |= self._call(platform, asked, permit=permit)
        self._backends.expected.ask_again(platform.key, again)
        return len(asked)

    def _permit(self, platform: Platform, jobs: int) -> Permit | NotNow:
        calls = 1 if platform.protocol == "bulk-json" else jobs
        return self._backends.admission.ask(
            platform.key,
            calls=calls,
            calls_per_s=platform.limits.calls_per_s,
            in_flight=platform.limits.in_flight,
            hold_s=_hold_s(platform, calls),
            holder=new_id(),
            window=next_window(platform.maintenance, self._backends.clock.now()),
        )

    def _call(self, platform: Platform, owed: Sequence[Owed], *, permit: Permit) -> dict[str, datetime]:
        """Ask, publish what is new, and return when to ask again where the platform said so."""
        message, said, again = new_id(), dict[str, Answered](), dict[str, datetime]()
        try:
            self._pause(permit.first_after_s)
            for answer in self._answers(platform, owed, message=message, permit=permit):
                now = self._backends.clock.now()
                if wait_s := retry_after_s(answer.headers, now=now):
                    again |= dict.fromkeys(answer.call.keys, now + timedelta(seconds=wait_s))
                said |= _news(platform, answer, now=now)
        finally:
            # Its endpoint is another one: how it answers says nothing about the one that the gate is for.
            self._backends.admission.settle(permit, Report())
        self._publish(platform, said, message=message)
        log.info("poll.ended", platform=platform.key, jobs=len(owed), end="called", answers=len(said))
        return again

    def _answers(self, platform: Platform, owed: Sequence[Owed], *, message: str, permit: Permit) -> Sequence[Answer]:
        if self._transport is None:
            self._transport = self._make()
        calls = build_polls(
            platform,
            {each.job: each.reference for each in owed},
            message=message,
            credentials=self._credentials(platform),
            now=self._backends.clock.now(),
        )
        deadline_s = _hold_s(platform, len(calls))
        return list(
            self._transport.send(calls, in_flight=permit.in_flight, deadline_s=deadline_s, interval_s=permit.interval_s)
        )

    def _publish(self, platform: Platform, said: Mapping[str, Answered], *, message: str) -> None:
        cases = list(said)
        known = dict(zip(cases, self._backends.store.records(platform.key, cases), strict=True))
        for event in answered(platform.key, said, known, message=message, way="poll", now=self._backends.clock.now()):
            self._backends.broker.publish_event(event)


def _hold_s(platform: Platform, calls: int) -> float:
    """How long a page of calls may take: each slot serves its share of them."""
    rounds = -(-calls // min(calls, platform.limits.in_flight))
    return min(_HOLD_S_MAX, rounds * platform.limits.timeout_s + HORIZON_S)


def _news(platform: Platform, answer: Answer, *, now: datetime) -> dict[str, Answered]:
    """Return what an answer says, by case, but that a job is still accepted and its platform at it. Pure."""
    return {
        split_job_id(job)[0]: entry
        for job, entry in interpret(platform, answer, now=now).results.items()
        if isinstance(entry, Answered) and (entry.outcome is not Outcome.ACCEPTED or entry.reason)
    }


def poll_until(stop: threading.Event, poller: Poller) -> None:
    """Ask for what is due until told to stop; go on when Redis comes back."""
    try:
        while not stop.is_set():
            try:
                if not poller.step():
                    stop.wait(_LOOK_S)
            except (RenewalError, RedisError) as error:
                log.warning("poll.failed", reason=type(error).__name__)
                stop.wait(_AGAIN_S)
    finally:
        poller.close()
