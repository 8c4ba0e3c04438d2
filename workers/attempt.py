"""The attempt: one try to deliver one batch, read from top to bottom.

Failures by stage. Before the call: ours; the batch comes again and no attempt is spent. The call: theirs; `interpret`
makes an answer or a fault of it. After the call: ours, but the call has happened, so only the publishing is repeated.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Lock
from typing import Any

import structlog
import tenacity

from backends.admission import FIRST_CALL_S, HORIZON_S, BulkTerms, GateChange, NotNow, Permit, Report, Stop
from backends.bootstrap import Backends
from backends.custody import Note
from backends.failpoint import reach
from backends.heartbeat import process_name
from backends.waiting import Why
from platforms.catalogue import Catalogue
from platforms.maintenance import next_window
from platforms.model import Platform
from schemas.batch import Batch, Job, seal_context
from schemas.errors import BackendUnavailable, ContractError
from schemas.ids import new_id
from schemas.result import ResultEvent
from schemas.state import STATES
from workers.connector import build_calls
from workers.judgement import Judgement
from workers.transport import Transport

# No attempt holds its worker's slot longer, whatever the platform does; far below the broker's visibility timeout.
HOLD_S_MAX = 120.0
# From the end of the calls to the published result; a worker that needs longer is taken for dead.
_PUBLISH_S = 10.0
_PUBLISH_TRIES = 12
# Jobs that meet an ill platform come back this soon; admission then says how long it is to be left in peace.
_PLATFORM_S = 2.0
# Retries of bulk platforms come due on a common beat, so that small ones travel together.
_BEAT_S = 2
_WHY = {
    Stop.RATE: Why.LIMIT,
    Stop.IN_FLIGHT: Why.LIMIT,
    Stop.PAUSED: Why.PAUSED,
    Stop.SUSPENDED: Why.SUSPENDED,
    Stop.BREAKER: Why.BREAKER,
    Stop.WINDOW: Why.WINDOW,
    Stop.HOURS: Why.HOURS,
    Stop.QUOTA: Why.QUOTA,
}
log = structlog.get_logger()


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
        self._lock, self._running, self._batches = Lock(), Counter[str](), 0

    def close(self) -> None:
        """Close the connections to platforms."""
        self._transport.close()

    def doing(self) -> dict[str, Any]:
        """Return what this process does now, for its sign of life."""
        with self._lock:
            platforms = [platform for platform, _ in self._running.most_common(5)]
            return {"running": self._running.total(), "platforms": platforms, "batches": self._batches}

    def run(self, body: dict[str, object]) -> ResultEvent | None:
        """Deliver one message of the jobs queue. Returns the first published event, or None if nothing was called.

        Raises BackendUnavailable when Redis or the broker stays away: then the message must come again. Raises
        ContractError for a message that can never be read.
        """
        batch = Batch.parse(body)
        platform = self._platform(batch)
        with self._noted(batch.platform):
            calls = 1 if platform.protocol == "bulk-json" else len(batch.jobs)
            now = self._backends.clock.now()
            lease_s = FIRST_CALL_S + _hold_s(platform, calls) + _PUBLISH_S
            note = self._backends.custody.begin(batch, holder=_holder(), lease_s=lease_s, now=now)
            if note is None:
                log.info("attempt.ended", **_who(batch), end="copy")
                return None
            reach("attempt.begun")
            reach(f"poison.{batch.platform}")
            try:
                return self._run(platform, batch, note=note)
            except BackendUnavailable:
                # The message comes again at once: it must not be taken for a copy then.
                with contextlib.suppress(BackendUnavailable):
                    self._backends.custody.put_back(batch.id, note, now=self._backends.clock.now())
                raise

    def _run(self, platform: Platform, batch: Batch, *, note: Note) -> ResultEvent | None:
        numbers = dict(zip((job.case for job in batch.jobs), self._open(batch), strict=True))
        jobs = self._still_open(batch)
        permit = self._admit(platform, batch, jobs, numbers=numbers) if jobs else None
        if permit is None:
            self._backends.custody.end(batch.id)
            if not jobs:
                log.info("attempt.ended", **_who(batch), end="nothing_left")
            return None
        reach("attempt.admitted")
        sent = jobs if platform.protocol == "bulk-json" else jobs[: permit.calls]
        started_at = self._backends.clock.now()
        judged = self._deliver(platform, batch, sent, numbers=numbers, permit=permit)
        reach("attempt.called")
        # First what must wait, then the event, then the broker's acknowledgement: a crash between any two of them
        # repeats an attempt, and none of them loses a job.
        unsent = [job for job in sent if job.case in judged.unsent]
        self._defer(batch, [*jobs[len(sent) :], *unsent], numbers, permit=permit)
        reach("attempt.deferred")
        self._wait_again(batch, judged, numbers)
        reach("attempt.waiting_put")
        ended_at = self._backends.clock.now()
        events = tuple(judged.events(started_at=started_at, ended_at=ended_at, worker=process_name()))
        self._publish(batch, events, note=note)
        reach("attempt.published")
        took_ms = int((ended_at - started_at).total_seconds() * 1000)
        log.info(
            "attempt.ended",
            **_who(batch),
            **_found(judged),
            end="called",
            ms=took_ms,
            starts=note.starts,
            probe=permit.probe,
            deferred=len(jobs) - len(sent) + len(unsent),
            events=[event.id for event in events],
        )
        return events[0] if events else None

    @contextlib.contextmanager
    def _noted(self, platform: str) -> Iterator[None]:
        with self._lock:
            self._running[platform] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[platform] -= 1
                self._running += Counter()  # drops what is at zero
                self._batches += 1

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
        calls, now = 1 if platform.protocol == "bulk-json" else len(jobs), self._backends.clock.now()
        answer = self._backends.admission.ask(
            platform.key,
            calls=calls,
            calls_per_s=platform.limits.calls_per_s,
            in_flight=platform.limits.in_flight,
            hold_s=_hold_s(platform, calls),
            holder=new_id(),
            window=next_window(platform.maintenance, now),
            lane=batch.lane,
            jobs=len(jobs),
            terms=BulkTerms(jobs_per_day=platform.limits.jobs_per_day, hours=next_window(platform.bulk_hours, now)),
        )
        if isinstance(answer, Permit):
            _tell(answer.change)
            return answer
        why, delay_s = _WHY[answer.why], _spread(answer, self._rng)
        # A batch that was made before there was a quota would never fit whole into a day.
        most = platform.jobs_per_batch if answer.why is Stop.QUOTA else len(jobs)
        parts = [jobs[start : start + most] for start in range(0, len(jobs), most)]
        due, *_ = [self._wait(batch, p, numbers, why=why, attempt=batch.attempt, delay_s=delay_s) for p in parts]
        log.info("attempt.ended", **_who(batch), end="not_now", why=why, due=due.isoformat())
        return None

    # -- the call --------------------------------------------------------------------------------------------------

    def _deliver(
        self, platform: Platform, batch: Batch, jobs: Sequence[Job], *, numbers: dict[str, str], permit: Permit
    ) -> Judgement:
        judged = Judgement(platform, batch.model_copy(update={"jobs": tuple(jobs)}), permit.probe, self._rng)
        report = Report()
        try:
            self._pause(permit.first_after_s)  # a second or a few: the permit was given for then
            calls = build_calls(
                platform,
                judged.batch,
                [numbers[job.case] for job in jobs],
                credentials=self._credentials(platform),
                now=self._backends.clock.now(),
            )
            answers = self._transport.send(
                calls,
                in_flight=permit.in_flight,
                deadline_s=_hold_s(platform, len(calls)),
                interval_s=permit.interval_s,
            )
            for answer in answers:
                judged.add(answer, now=self._backends.clock.now())
            report = judged.report()
        finally:
            change = self._backends.admission.settle(permit, report)
        _tell(change)
        if judged.invented:
            log.warning("answer.invented", platform=platform.key, batch=batch.id, items=judged.invented)
        return judged

    # -- after the call --------------------------------------------------------------------------------------------

    def _wait_again(self, batch: Batch, judged: Judgement, numbers: dict[str, str]) -> None:
        """Let those wait that are to be tried again, each kind in a batch of its own."""
        for kind, cases in judged.again.items():
            jobs = [job for job in judged.batch.jobs if job.case in cases]
            if not jobs:
                continue
            if kind == "retry":
                beat_s = _BEAT_S if judged.platform.protocol == "bulk-json" else 0
                self._wait(batch, jobs, numbers, why=Why.RETRY, attempt=batch.attempt + 1, delay_s=judged.retry_in_s,
                           beat_s=beat_s)  # fmt: skip
            elif kind == "platform":
                delay_s = _PLATFORM_S * (1 + self._rng.random())
                self._wait(batch, jobs, numbers, why=Why.SUSPENDED, attempt=batch.attempt, delay_s=delay_s)
            else:
                middle = len(jobs) // 2
                for half in (jobs[:middle], jobs[middle:]):
                    self._wait(batch, half, numbers, why=Why.SPLIT, attempt=batch.attempt, delay_s=0)

    def _defer(self, batch: Batch, jobs: list[Job], numbers: dict[str, str], *, permit: Permit) -> None:
        """Let those wait that got no leave this time; they spend no attempt."""
        if jobs:
            delay_s = permit.first_after_s + permit.calls * permit.interval_s
            self._wait(batch, jobs, numbers, why=Why.LIMIT, attempt=batch.attempt, delay_s=delay_s)

    def _wait(
        self, batch: Batch, jobs: Sequence[Job], numbers: dict[str, str], *, why: Why, attempt: int, delay_s: float,
        beat_s: int = 0,
    ) -> datetime:  # fmt: skip
        cases = tuple(job.case for job in jobs)
        sealed = self._backends.vault.seal_numbers([numbers[case] for case in cases], context=seal_context(cases))
        child = batch.child(why, jobs=tuple(jobs), sealed=sealed, attempt=attempt)
        due = self._backends.clock.now() + timedelta(seconds=delay_s)
        if beat_s:
            due = datetime.fromtimestamp(math.ceil(due.timestamp() / beat_s) * beat_s, UTC)
        self._backends.waiting.put(child, due=due, why=why)
        return due

    def _publish(self, batch: Batch, events: Sequence[ResultEvent], *, note: Note) -> None:
        """Repeat only the publishing, never the call; an event keeps its id."""
        for event in events:
            for attempt in tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(BackendUnavailable),
                wait=tenacity.wait_exponential(multiplier=0.1, max=5),
                stop=tenacity.stop_after_attempt(_PUBLISH_TRIES),
                reraise=True,
            ):
                with attempt:
                    self._backends.broker.publish_event(event)
        if not events:
            self._backends.custody.end(batch.id)
            return
        # The result is out: whatever happens to this note, the recorder ends the custody.
        with contextlib.suppress(BackendUnavailable):
            self._backends.custody.answered(batch.id, note, now=self._backends.clock.now())


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


def _holder() -> str:
    return f"{process_name()}/{new_id()[:8]}"


def _who(batch: Batch) -> dict[str, Any]:
    """Return what ties a log line to its batch, its run and its platform."""
    return {
        "batch": batch.id,
        "run": batch.run,
        "platform": batch.platform,
        "lane": batch.lane,
        "attempt": batch.attempt,
        "generation": batch.generation,
        "jobs": len(batch.jobs),
    }


def _found(judged: Judgement) -> dict[str, Any]:
    states = Counter(result.state for result in (*judged.results, *judged.unspent))
    return {
        "calls": judged.calls,
        "statuses": dict(judged.statuses),
        "faults": dict(judged.faults),
        "states": dict(states),
        "unspent": len(judged.unspent),
    }


def _tell(change: GateChange | None) -> None:
    if change is not None:
        log.warning(
            "gate.changed", platform=change.platform, before=change.before, after=change.after, reason=change.reason
        )
