"""What the calls of one attempt come to: for each job what is known now, for the platform's gate how the calls went.

Pure: answers go in, decisions come out; `workers.attempt` acts on them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from backends.admission import Report
from platforms.model import Platform
from schemas.batch import Batch
from schemas.ids import new_id
from schemas.outcome import Fault, Reason
from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import State
from workers.connector import Answered, Entry, Failed, interpret
from workers.retry import BLAME, AwaitPlatform, Blame, Bury, Decision, RetryIn, RetryPolicy, Split
from workers.transport import Answer

# A call that takes longer than this share of its timeout says that the platform has enough to do.
_SLOW_RATIO = 0.5


@dataclass(slots=True)
class Judgement:
    """Grows with each answer; `invented` counts items of answers that nobody had asked for."""

    platform: Platform
    batch: Batch
    probe: bool
    rng: Random
    results: list[JobResult] = field(default_factory=list)  # these have spent an attempt
    unspent: list[JobResult] = field(default_factory=list)  # these have not, and wait
    unsent: set[str] = field(default_factory=set)
    again: dict[str, set[str]] = field(default_factory=lambda: {"retry": set(), "platform": set(), "split": set()})
    retry_in_s: float = 0.0
    calls: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    invented: int = 0
    _latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    _latency_s: float = 0.0
    _failed: int = 0
    _throttled: int = 0
    _suspend: Fault | None = None
    _asked_s: float = 0.0

    def add(self, answer: Answer, *, now: datetime) -> None:
        """Take one answer in."""
        case_of = {self.batch.key_of(job): job.case for job in self.batch.jobs}
        if not answer.sent:
            self.unsent.update(case_of[key] for key in answer.call.keys)
            return
        self.calls += 1
        self.statuses[str(answer.status or answer.fault)] += 1
        self._latencies[bisect_left(LATENCY_BOUNDS_MS, answer.latency_s * 1000)] += 1
        self._latency_s += answer.latency_s
        interpretation = interpret(self.platform, answer, now=now)
        self.invented += interpretation.invented
        self._weigh(list(interpretation.results.values()))
        for key, said in interpretation.results.items():
            self._take(case_of[key], said, status=answer.status, jobs=len(answer.call.keys), now=now)

    def _weigh(self, entries: list[Entry]) -> None:
        """Note what the call as a whole says of the platform: one that answered for some job is well."""
        failures = [entry for entry in entries if isinstance(entry, Failed)]
        if len(failures) < len(entries):
            return
        fault = failures[0].fault
        self._asked_s = max([self._asked_s, *(failure.retry_after_s or 0.0 for failure in failures)])
        if fault is Fault.TOO_MANY_REQUESTS:
            self._throttled += 1
        elif BLAME[fault] is Blame.CONNECTION:
            self._suspend = fault
        elif BLAME[fault] is Blame.MOMENT:
            self._failed += 1

    def _take(self, case: str, said: Entry, *, status: int | None, jobs: int, now: datetime) -> None:
        if isinstance(said, Answered):
            self.results.append(_answered(case, said))
            return
        self.faults[said.fault.value] += 1
        decision = RetryPolicy.of(self.platform).decide(
            said.fault,
            attempt=self.batch.attempt - self.batch.first_attempt + 1,
            jobs=jobs,
            probe=self.probe,
            retry_after_s=said.retry_after_s,
            now=now,
            deadline=self.batch.deadline,
            rng=self.rng,
        )
        result = _failed(case, said, decision, status=status)
        match decision:
            case Bury():
                self.results.append(result)
            case RetryIn(delay_s=delay_s):
                self.results.append(result)
                self.again["retry"].add(case)
                self.retry_in_s = max(self.retry_in_s, delay_s)
            case AwaitPlatform():
                self.unspent.append(result)
                self.again["platform"].add(case)
            case Split():
                self.unspent.append(result)
                self.again["split"].add(case)

    def report(self) -> Report:
        """Return what the gate is told."""
        return Report(
            calls=self.calls,
            failed=self._failed,
            throttled=self._throttled,
            latency_s=self._latency_s / self.calls if self.calls else 0.0,
            slow_s=self.platform.limits.timeout_s * _SLOW_RATIO,
            suspend=self._suspend,
            retry_after_s=self._asked_s or None,
            unsent=len(self.unsent),
        )

    def events(self, *, started_at: datetime, ended_at: datetime, worker: str) -> Iterator[ResultEvent]:
        """Yield an event for the jobs that spent this attempt, and one for those that did not; most have one."""
        calls = self.calls
        for results, attempt in ((self.results, self.batch.attempt), (self.unspent, self.batch.attempt - 1)):
            if not results:
                continue
            waits = results is self.results and any(result.state is State.WAITING for result in results)
            data = AttemptData(
                batch=self.batch.id,
                run=self.batch.run,
                platform=self.batch.platform,
                attempt=attempt,
                generation=self.batch.generation,
                started_at=started_at,
                ended_at=ended_at,
                worker=worker,
                calls=calls,
                http_statuses=dict(self.statuses) if calls else {},
                latencies=tuple(self._latencies) if calls else (0,) * len(self._latencies),
                faults=dict(self.faults) if calls else {},
                retry_at=ended_at + timedelta(seconds=self.retry_in_s) if waits else None,
                # What has spent no attempt waits already: only the other event may end the custody of the batch.
                closes=results is self.results or not self.results,
                jobs=tuple(results),
            )
            calls = 0  # the calls are counted once
            yield ResultEvent(id=new_id(), time=ended_at, subject=self.batch.platform, data=data)


def _answered(case: str, said: Answered) -> JobResult:
    return JobResult(
        case=case,
        state=State(said.outcome.value),
        outcome=said.outcome,
        reason=said.reason,
        reference=said.reference,
        detail=said.detail,
    )


def _failed(case: str, said: Failed, decision: Decision, *, status: int | None) -> JobResult:
    reason: Reason | Fault = said.fault
    state = State.WAITING
    if isinstance(decision, Bury):
        reason, state = decision.reason, State.DEAD
    return JobResult(case=case, state=state, reason=reason, detail=said.detail, http_status=status)
