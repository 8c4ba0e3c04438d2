"""The attempt: one try to deliver one batch, read from top to bottom.

Failures by stage. Before the call: ours; the batch comes again and no attempt is spent. The call: theirs; `interpret`
makes an answer or a fault of it. After the call: ours, but the call has happened, so only the publishing is repeated.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import structlog
import tenacity

from backends.admission import HORIZON_S, NotNow, Permit
from backends.bootstrap import Backends
from backends.heartbeat import process_name
from backends.waiting import Why
from platforms.catalogue import Catalogue
from platforms.model import Platform
from schemas.batch import Batch, Job, seal_context
from schemas.errors import BackendUnavailable, ContractError
from schemas.ids import new_id
from schemas.outcome import Fault, Reason
from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import STATES, State
from workers.connector import Answered, Failed, build_calls, interpret
from workers.retry import Bury, RetryIn, RetryPolicy
from workers.transport import Answer, Transport

# No attempt holds its worker's slot longer, whatever the platform does; far below the broker's visibility timeout.
HOLD_S_MAX = 120.0
_PUBLISH_TRIES = 12
log = structlog.get_logger()


@dataclass(slots=True)
class _Tally:
    """What the calls of one attempt brought, while it runs."""

    calls: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))

    def add(self, answer: Answer) -> None:
        self.calls += 1
        self.statuses[str(answer.status or answer.fault)] += 1
        self.latencies[bisect_left(LATENCY_BOUNDS_MS, answer.latency_s * 1000)] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decided:
    """What becomes of each job that was sent, and of those that were not."""

    results: tuple[JobResult, ...]
    retry_in_s: float
    unsent: frozenset[str]


class Attempt:
    """Runs attempts; safe to use from many threads."""

    def __init__(
        self,
        backends: Backends,
        catalogue: Catalogue,
        *,
        transport: Transport,
        credentials: Callable[[Platform], tuple[str, ...]],
        rng: Random,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._backends, self._catalogue, self._pause = backends, catalogue, pause
        self._transport, self._credentials, self._rng = transport, credentials, rng

    def run(self, body: dict[str, object]) -> ResultEvent | None:
        """Deliver one message of the jobs queue. Returns the published event, or None if nothing was called.

        Raises BackendUnavailable when Redis or the broker stays away: then the message must come again. Raises
        ContractError for a message that can never be read.
        """
        batch = Batch.parse(body)
        platform = self._platform(batch)
        numbers = dict(zip((job.case for job in batch.jobs), self._open(batch), strict=True))
        jobs = self._still_open(batch)
        if not jobs:
            return None
        permit = self._admit(platform, batch, jobs, numbers=numbers)
        if permit is None:
            return None
        sent = jobs if platform.protocol == "bulk-json" else jobs[: permit.calls]
        try:
            event, decided = self._deliver(platform, batch, sent, numbers=numbers, permit=permit)
        finally:
            self._backends.admission.give_back(permit)
        # First what must wait, then the event, then the broker's acknowledgement: a crash between any two of them
        # repeats an attempt, and none of them loses a job.
        self._defer(batch, jobs[len(sent) :], numbers, permit=permit)
        self._defer(batch, [job for job in sent if job.case in decided.unsent], numbers, permit=permit)
        self._retry(batch, decided, numbers, event=event)
        if event is not None:
            self._publish(event)
        return event

    # -- before the call -------------------------------------------------------------------------------------------

    def _platform(self, batch: Batch) -> Platform:
        if batch.platform not in self._catalogue:
            raise ContractError(f"platform {batch.platform} is not in the catalogue of this worker")
        return self._catalogue.get(batch.platform)

    def _open(self, batch: Batch) -> list[str]:
        cases = tuple(job.case for job in batch.jobs)
        numbers = self._backends.vault.open_numbers(batch.sealed, context=seal_context(cases))
        if len(numbers) != len(cases):
            raise ContractError("the batch holds another number of numbers than jobs")
        return numbers

    def _still_open(self, batch: Batch) -> list[Job]:
        """Leave out what is final, and what this very attempt has been made for already."""
        records = self._backends.store.records(batch.platform, [job.case for job in batch.jobs])
        return [
            job
            for job, record in zip(batch.jobs, records, strict=True)
            if not STATES[record.state].final
            and (record.generation, record.attempts) < (batch.generation, batch.attempt)
        ]

    def _admit(self, platform: Platform, batch: Batch, jobs: list[Job], *, numbers: dict[str, str]) -> Permit | None:
        calls = 1 if platform.protocol == "bulk-json" else len(jobs)
        answer = self._backends.admission.ask(
            platform.key,
            calls=calls,
            calls_per_s=platform.limits.calls_per_s,
            in_flight=platform.limits.in_flight,
            hold_s=_hold_s(platform, calls),
            holder=new_id(),
        )
        if isinstance(answer, Permit):
            return answer
        self._wait(batch, jobs, numbers, label="limit", attempt=batch.attempt, delay_s=_spread(answer, self._rng))
        return None

    # -- the call --------------------------------------------------------------------------------------------------

    def _deliver(
        self, platform: Platform, batch: Batch, jobs: Sequence[Job], *, numbers: dict[str, str], permit: Permit
    ) -> tuple[ResultEvent | None, _Decided]:
        sent = batch.model_copy(update={"jobs": tuple(jobs)})
        self._pause(permit.first_after_s)  # below a second: the permit was given for then
        started_at = self._backends.clock.now()
        calls = build_calls(
            platform,
            sent,
            [numbers[job.case] for job in jobs],
            credentials=self._credentials(platform),
            now=started_at,
        )
        answers = self._transport.send(
            calls,
            in_flight=permit.in_flight,
            deadline_s=_hold_s(platform, len(calls)),
            interval_s=permit.interval_s,
        )
        tally = _Tally()
        decided = self._decide(platform, sent, answers, tally=tally)
        if not decided.results:
            return None, decided
        return self._event(sent, decided, tally, started_at=started_at), decided

    def _decide(self, platform: Platform, batch: Batch, answers: Iterable[Answer], *, tally: _Tally) -> _Decided:
        policy = RetryPolicy.of(platform)
        results: list[JobResult] = []
        unsent: set[str] = set()
        retry_in_s = 0.0
        case_of = {batch.key_of(job): job.case for job in batch.jobs}
        for answer in answers:
            if not answer.sent:
                unsent.update(case_of[key] for key in answer.call.keys)
                continue
            tally.add(answer)
            now = self._backends.clock.now()
            interpretation = interpret(platform, answer, now=now)
            if interpretation.invented:
                log.warning("answer.invented", platform=platform.key, batch=batch.id, items=interpretation.invented)
            for key, said in interpretation.results.items():
                case = case_of[key]
                if isinstance(said, Answered):
                    results.append(_answered(case, said))
                    continue
                tally.faults[said.fault.value] += 1
                decision = policy.decide(
                    said.fault,
                    attempt=batch.attempt,
                    retry_after_s=said.retry_after_s,
                    now=now,
                    deadline=batch.deadline,
                    rng=self._rng,
                )
                results.append(_failed(case, said, decision))
                if isinstance(decision, RetryIn):
                    retry_in_s = max(retry_in_s, decision.delay_s)
        return _Decided(results=tuple(results), retry_in_s=retry_in_s, unsent=frozenset(unsent))

    def _event(self, batch: Batch, decided: _Decided, tally: _Tally, *, started_at: datetime) -> ResultEvent:
        ended_at = self._backends.clock.now()
        waits = any(result.state is State.WAITING for result in decided.results)
        data = AttemptData(
            batch=batch.id,
            run=batch.run,
            platform=batch.platform,
            attempt=batch.attempt,
            generation=batch.generation,
            started_at=started_at,
            ended_at=ended_at,
            worker=process_name(),
            calls=tally.calls,
            http_statuses=dict(tally.statuses),
            latencies=tuple(tally.latencies),
            faults=dict(tally.faults),
            retry_at=ended_at + timedelta(seconds=decided.retry_in_s) if waits else None,
            jobs=decided.results,
        )
        return ResultEvent(id=new_id(), time=ended_at, subject=batch.platform, data=data)

    # -- after the call --------------------------------------------------------------------------------------------

    def _retry(self, batch: Batch, decided: _Decided, numbers: dict[str, str], *, event: ResultEvent | None) -> None:
        again = {result.case for result in decided.results if result.state is State.WAITING}
        if event is None or not again:
            return
        jobs = [job for job in batch.jobs if job.case in again]
        self._wait(batch, jobs, numbers, label="retry", attempt=batch.attempt + 1, delay_s=decided.retry_in_s)

    def _defer(self, batch: Batch, jobs: list[Job], numbers: dict[str, str], *, permit: Permit) -> None:
        """Let those wait that got no leave this time; they spend no attempt."""
        if jobs:
            delay_s = permit.first_after_s + permit.calls * permit.interval_s
            self._wait(batch, jobs, numbers, label="limit", attempt=batch.attempt, delay_s=delay_s)

    def _wait(
        self, batch: Batch, jobs: Sequence[Job], numbers: dict[str, str], *, label: str, attempt: int, delay_s: float
    ) -> None:
        cases = tuple(job.case for job in jobs)
        sealed = self._backends.vault.seal_numbers([numbers[case] for case in cases], context=seal_context(cases))
        child = batch.child(label, jobs=tuple(jobs), sealed=sealed, attempt=attempt)
        due = self._backends.clock.now() + timedelta(seconds=delay_s)
        self._backends.waiting.put(child, due=due, why=Why.RETRY if label == "retry" else Why.LIMIT)

    def _publish(self, event: ResultEvent) -> None:
        """Repeat only the publishing, never the call; the event keeps its id."""
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(BackendUnavailable),
            wait=tenacity.wait_exponential(multiplier=0.1, max=5),
            stop=tenacity.stop_after_attempt(_PUBLISH_TRIES),
            reraise=True,
        ):
            with attempt:
                self._backends.broker.publish_event(event)


def _hold_s(platform: Platform, calls: int) -> float:
    """How long an attempt may hold its slots: each serves its share of the calls, each up to its timeout."""
    limits = platform.limits
    rounds = -(-calls // min(calls, limits.in_flight))
    return min(HOLD_S_MAX, 2 * HORIZON_S + rounds * limits.timeout_s)


def _spread(answer: NotNow, rng: Random) -> float:
    """Lengthen a wait a little, so that those who wait do not come back in one moment.

    By a fixed bit and not by a share: admission has given each a time of its own already, and a share of a long wait
    would leave the platform idle.
    """
    return answer.retry_in_s + 0.2 * rng.random()


def _answered(case: str, said: Answered) -> JobResult:
    return JobResult(
        case=case,
        state=State(said.outcome.value),
        outcome=said.outcome,
        reason=said.reason,
        reference=said.reference,
        detail=said.detail,
    )


def _failed(case: str, said: Failed, decision: RetryIn | Bury) -> JobResult:
    reason: Reason | Fault = said.fault
    if isinstance(decision, Bury):
        reason = decision.reason
    state = State.DEAD if isinstance(decision, Bury) else State.WAITING
    return JobResult(case=case, state=state, reason=reason, detail=said.detail)
