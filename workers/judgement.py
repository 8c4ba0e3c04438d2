"""What the calls of one attempt come to: for each job what is known now, for the platform's gate how the calls went.

Pure: answers go in, decisions come out; `workers.attempt` acts on them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from random import Random

from backends.admission import Report
from backends.manifests import Item
from platforms.model import Platform
from schemas.batch import Batch, spans_of
from schemas.ids import ID_CHARS, new_id
from schemas.outcome import Fault, Outcome, Reason
from schemas.result import LATENCY_BOUNDS_MS, Alike, AttemptData, JobResult, ResultEvent
from schemas.state import State
from workers.connector import Answered, Entry, Failed, interpret
from workers.retry import BLAME, AwaitPlatform, Blame, Bury, Decision, RetryIn, RetryPolicy, Split
from workers.transport import Answer

# A call that takes longer than this share of its timeout says that the platform has enough to do.
_SLOW_RATIO = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What is said of a job; nearly always the same of very many."""

    state: State
    outcome: Outcome | None = None
    reason: Reason | None = None
    reference: str | None = None
    detail: str | None = None
    http_status: int | None = None


class Results:
    """The jobs of one attempt by what became of them."""

    def __init__(self) -> None:
        self._cases: dict[_Result, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._cases)

    def add(self, result: _Result, cases: Sequence[str]) -> None:
        """Note that these cases came to that."""
        self._cases.setdefault(result, []).extend(cases)

    def states(self) -> Counter[State]:
        """Count the jobs by state."""
        counts: Counter[State] = Counter()
        for result, cases in self._cases.items():
            counts[result.state] += len(cases)
        return counts

    def jobs(self) -> tuple[JobResult, ...]:
        """Return those of which something is said that is said of no other."""
        return tuple(
            JobResult(case=case, **asdict(result))
            for result, cases in self._cases.items()
            if result.reference or len(cases) == 1
            for case in cases
        )

    def alike(self, places: Mapping[str, int] | None) -> tuple[Alike, ...]:
        """Return the others: by their places in a manifest where `places` are given, else by their names."""
        return tuple(
            Alike(
                **{name: value for name, value in asdict(result).items() if name != "reference"},
                **({"cases": tuple(cases)} if places is None else {"spans": _spans(cases, places)}),
            )
            for result, cases in self._cases.items()
            if not result.reference and len(cases) > 1
        )


def _spans(cases: Sequence[str], places: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    return spans_of(sorted(places[case] for case in cases))


@dataclass(slots=True)
class Judgement:
    """Grows with each answer; `invented` counts items of answers that nobody had asked for."""

    platform: Platform
    batch: Batch
    items: Sequence[Item]
    probe: bool
    rng: Random
    results: Results = field(default_factory=Results)  # these have spent an attempt
    unspent: Results = field(default_factory=Results)  # these have not, and wait
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
        if not answer.sent:
            self.unsent.update(map(_case_of, answer.call.keys))
            return
        self.calls += 1
        self.statuses[str(answer.status or answer.fault)] += 1
        self._latencies[bisect_left(LATENCY_BOUNDS_MS, answer.latency_s * 1000)] += 1
        self._latency_s += answer.latency_s
        interpretation = interpret(self.platform, answer, now=now)
        self.invented += interpretation.invented
        # By identity: the entries of a call are few, each shared by all jobs that it is said of.
        said: dict[int, tuple[Entry, list[str]]] = {}
        for key, entry in interpretation.results.items():
            said.setdefault(id(entry), (entry, []))[1].append(_case_of(key))
        self._weigh([entry for entry, _ in said.values()])
        for entry, cases in said.values():
            self._take(cases, entry, status=answer.status, jobs=len(answer.call.keys), now=now)

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

    def _take(self, cases: list[str], said: Entry, *, status: int | None, jobs: int, now: datetime) -> None:
        if isinstance(said, Answered):
            self.results.add(_answered(said), cases)
            return
        self.faults[said.fault.value] += len(cases)
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
        result = _failed(said, decision, status=status)
        match decision:
            case Bury():
                self.results.add(result, cases)
            case RetryIn(delay_s=delay_s):
                self.results.add(result, cases)
                self.again["retry"].update(cases)
                self.retry_in_s = max(self.retry_in_s, delay_s)
            case AwaitPlatform():
                self.unspent.add(result, cases)
                self.again["platform"].update(cases)
            case Split():
                self.unspent.add(result, cases)
                self.again["split"].update(cases)

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
        calls, part = self.calls, self.batch.manifest
        places = {item.job.case: item.place for item in self.items} if part else None
        for results, attempt in ((self.results, self.batch.attempt), (self.unspent, self.batch.attempt - 1)):
            if not results:
                continue
            waits = results is self.results and State.WAITING in results.states()
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
                manifest=part.id if part else None,
                alike=results.alike(places),
                jobs=results.jobs(),
            )
            calls = 0  # the calls are counted once
            yield ResultEvent(id=new_id(), time=ended_at, subject=self.batch.platform, data=data)


def _case_of(key: str) -> str:
    return key[:ID_CHARS]


def _answered(said: Answered) -> _Result:
    return _Result(
        state=State(said.outcome.value),
        outcome=said.outcome,
        reason=said.reason,
        reference=said.reference,
        detail=said.detail,
    )


def _failed(said: Failed, decision: Decision, *, status: int | None) -> _Result:
    reason: Reason | Fault = said.fault
    state = State.WAITING
    if isinstance(decision, Bury):
        reason, state = decision.reason, State.DEAD
    return _Result(state=state, reason=reason, detail=said.detail, http_status=status)
