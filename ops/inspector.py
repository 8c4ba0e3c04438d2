"""The inspector: the only door through which people and screens look at what is stored."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from backends.authorisations import Given
from backends.bootstrap import Backends
from backends.runs import Counters, RunFacts
from backends.store import CaseView
from backends.waiting_view import WaitingBatch, WaitingFilter
from ops.course import Course
from ops.job_view import JobDesk
from ops.progress import PlatformProgress, Progress
from platforms.catalogue import Catalogue
from schemas.errors import InputError, NotFound
from schemas.number import NumberProblem, normalise
from schemas.outcome import Outcome
from schemas.record import JobRecord
from schemas.result import LATENCY_BOUNDS_MS
from schemas.state import DISPATCHER_STATES, State, Verdict
from schemas.summary import JobCounts

_OUTCOMES = {State(outcome.value): outcome for outcome in Outcome}


class Inspector:
    """Answers questions; changes nothing."""

    def __init__(self, backends: Backends, catalogue: Catalogue) -> None:
        self._backends, self.catalogue = backends, catalogue
        self._jobs = JobDesk(backends, catalogue)

    # -- cases -----------------------------------------------------------------------------------------------------

    def cases_of_number(self, text: str) -> list[CaseView]:
        """Return the cases of a number in any usual spelling. Raises InputError, NotFound."""
        try:
            e164 = normalise(text)
        except NumberProblem as problem:
            raise InputError(f"number: {problem}") from None
        return self._found(self._backends.store.find_by_number(e164), "no case for this number")

    def cases_of_reference(self, reference: str) -> list[CaseView]:
        """Return the cases of an operator's row id. Raises NotFound."""
        return self._found(self._backends.store.find_by_reference(reference), "no case with this reference")

    def case(self, case: str) -> CaseView:
        """Return one case. Raises NotFound."""
        return self._backends.store.case(case)

    def _found(self, ids: list[str], otherwise: str) -> list[CaseView]:
        if not ids:
            raise NotFound(otherwise)
        return list(self._backends.store.cases(ids))

    def details(self, case: str) -> dict[str, dict[str, Any]]:
        """Return what is known of a case's jobs beyond their records, by platform."""
        return self._backends.store.details(case)

    def authorisation(self, case: str) -> Given | None:
        """Return the owner's authorisation of a case; None for one that rests on something else."""
        return self._backends.authorisations.of(case)

    def waits(self, case: CaseView) -> dict[str, WaitingBatch]:
        """Return what each open job of a case waits in, by platform; a job that is on its way waits in nothing."""
        platforms = [platform for platform in case.platforms if case.record(platform).state in DISPATCHER_STATES]
        if not platforms:
            return {}
        wanted = WaitingFilter(platforms=frozenset(platforms), cases=frozenset({case.id}))
        found = self._backends.waiting_view.select(wanted, now=self._backends.clock.now())
        return {waiting.platform: waiting for waiting in found}

    def courses(self, case: CaseView) -> Iterator[tuple[str, Course]]:
        """Yield how each job of a case went: whose turn it was, and how the promise about it stands."""
        return self._jobs.courses(case)

    # -- runs ------------------------------------------------------------------------------------------------------

    def runs(self) -> Iterator[str]:
        """Yield every run, newest first."""
        return self._backends.runs.newest_first()

    def run_cases(self, run: str) -> Iterator[CaseView]:
        """Yield every case that a run's file names, in the order of its lines. Raises NotFound."""
        yield from self._backends.store.cases(self._backends.runs.cases(run))

    def open_jobs(self, runs: Sequence[str]) -> int:
        """Count the jobs of these runs that the dispatcher still holds."""
        return sum(self._backends.runs.counters(run).held for run in runs)

    def platform_counters(self) -> dict[str, Counters]:
        """Return the counters of every platform of the catalogue."""
        return self._backends.runs.platform_counters([platform.key for platform in self.catalogue])

    def progress(
        self,
        run: str,
        *,
        at_s: float,
        since: dict[str, Counters] | None,
        intake_done: bool,
        rejected: int,
        duplicate: int,
        events: Sequence[str] = (),
        intake_waits: str = "",
    ) -> Progress:
        """Return how far a run is; platforms are counted from `since`, their counters when it began, or left out."""
        counters = self._backends.runs.counters(run)
        total, accepted = counters.get("jobs"), counters.get("accepted")
        verdicts = {Verdict(name): n for name, n in counters.family("verdict").items() if n}
        verdicts[Verdict.INCOMPLETE] = accepted - sum(verdicts.values())
        return Progress(
            at_s=at_s,
            cases_accepted=accepted,
            cases_rejected=rejected,
            cases_duplicate=duplicate,
            intake_done=intake_done,
            jobs_total=total,
            by_state=counters.by_state(total),
            verdicts=verdicts,
            attempts=counters.get("attempts"),
            calls=counters.get("calls"),
            platforms=() if since is None else tuple(self._platforms(since)),
            workers_alive=len(self._backends.heartbeats.alive("worker")),
            events=tuple(events),
            intake_waits=intake_waits,
        )

    def progress_of(self, facts: RunFacts, *, at_s: float) -> Progress:
        """Return how far any run is, from what is stored of it."""
        return self.progress(
            facts.run,
            at_s=at_s,
            since=None,
            intake_done=facts.read_whole or bool(facts.cancelled),
            rejected=facts.rejected,
            duplicate=facts.duplicate,
            intake_waits=facts.waits,
        )

    def run_facts(self, runs: Sequence[str]) -> list[RunFacts]:
        """Return what is known of each run. Raises NotFound."""
        return self._backends.runs.facts(runs)

    @property
    def now(self) -> datetime:
        """The instant from which times are counted."""
        return self._backends.clock.now()

    def _platforms(self, since: dict[str, Counters]) -> Iterator[PlatformProgress]:
        for platform, now in zip(self.catalogue, self.platform_counters().values(), strict=True):
            before = since[platform.key].values
            counters = Counters(values={name: n - before.get(name, 0) for name, n in now.values.items()})
            yield PlatformProgress(
                key=platform.key,
                name_zh=platform.name.zh,
                name_en=platform.name.en,
                category=platform.category,
                by_state=counters.by_state(),
                calls=counters.get("calls"),
                attempts=counters.get("attempts"),
                faults=counters.family("fault"),
                statuses=counters.family("status"),
                latencies=tuple(counters.get(f"latency:{bucket}") for bucket in range(len(LATENCY_BOUNDS_MS) + 1)),
            )


class JobCounter:
    """Adds up records into the counts of a summary."""

    def __init__(self) -> None:
        self._states: Counter[State] = Counter()

    def add(self, record: JobRecord) -> None:
        """Count one job."""
        self._states[record.state] += 1

    @property
    def counts(self) -> JobCounts:
        """What was counted so far."""
        return JobCounts(
            total=self._states.total(),
            by_state=dict(self._states),
            by_outcome={_OUTCOMES[state]: n for state, n in self._states.items() if state in _OUTCOMES},
        )
