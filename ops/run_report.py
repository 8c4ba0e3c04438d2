"""The report of a run, whoever asks for it: results.csv streamed from the store, and what adds up from it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from backends.runs import RunFacts
from ops.inspector import Inspector, JobCounter
from ops.progress import Findings, PlatformProgress, Progress, Sample
from ops.reading import REJECTED
from ops.rejected import copy, first_rows
from ops.report import ResultsCsv, write_report
from platforms.catalogue import Catalogue
from schemas.record import JobRecord
from schemas.state import DISPATCHER_STATES, State, Verdict
from schemas.summary import CaseCounts, JobCounts, LedgerCheck, Summary

RESULTS: Final = "results.csv"
_PAGES: Final = ("report.html", "report.json", RESULTS)


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What the cases of a run add up to; grows with platforms, never with cases."""

    jobs: JobCounter = field(default_factory=JobCounter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    by_platform: dict[str, Counter[State]] = field(default_factory=lambda: defaultdict(Counter))
    settled_s: int = 0
    findings: Findings = field(default_factory=lambda: Findings(refusals={}, stuck=()))

    @property
    def open(self) -> int:
        """Jobs that the dispatcher still holds."""
        return sum(n for state, n in self.jobs.counts.by_state.items() if state in DISPATCHER_STATES)


def write_results(inspector: Inspector, run: str, path: Path) -> Gathered:
    """Stream results.csv of a run, and add it up on the way. Raises NotFound."""
    found = Gathered()
    with ResultsCsv(path) as results:
        for case in inspector.run_cases(run):
            records = [(platform, case.record(platform)) for platform in case.platforms]
            settled = [(platform, case.record(platform)) for platform in case.settled]
            results.write_case(reference=case.reference, number=case.mask, case=case.id, jobs=[*records, *settled])
            found.verdicts[case.verdict] += 1
            for platform, record in records:
                _add(found, platform, record)
        found.findings = results.findings
    return found


def _add(found: Gathered, platform: str, record: JobRecord) -> None:
    found.jobs.add(record)
    found.by_platform[platform][record.state] += 1
    found.settled_s = max(found.settled_s, record.settled_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What whoever watched a run from its start knows beside what is stored."""

    progress: Progress
    samples: Sequence[Sample]
    started_at: datetime
    command: str
    sandbox: bool


def report_watched(
    inspector: Inspector,
    run: str,
    target: Path,
    *,
    watched: Watched,
    rejected: Path,
    ledger: LedgerCheck | None,
) -> Summary:
    """Write the report folder of a run that was watched to its end."""
    found = _prepared(inspector, run, target)
    last, samples = watched.progress, watched.samples
    summary = _summary(
        run,
        target,
        last,
        jobs=found.jobs.counts,
        verdicts={**dict.fromkeys(last.verdicts, 0), **found.verdicts},
        jobs_per_s=(last.settled - samples[0].settled) / last.at_s if last.at_s else 0.0,
        rejected=rejected,
        ledger=ledger,
    )
    write_report(
        target,
        summary=summary,
        progress=last,
        samples=samples,
        rejected=first_rows(rejected),
        started_at=watched.started_at,
        finished_at=datetime.now(UTC),
        command=watched.command,
        sandbox=watched.sandbox,
        findings=found.findings,
    )
    return summary


def report_stored(inspector: Inspector, facts: RunFacts, target: Path, *, rejected: Path, sandbox: bool) -> Summary:
    """Write the report folder of any run from what is stored: without its curve, and without calls by platform."""
    found = _prepared(inspector, facts.run, target)
    started_at = datetime.fromtimestamp(facts.started_s, UTC)
    now = inspector.now
    finished_at = now if found.open or not found.settled_s else datetime.fromtimestamp(found.settled_s, UTC)
    at_s = max(0.0, (finished_at - started_at).total_seconds())
    last = replace(
        inspector.progress_of(facts, at_s=at_s), platforms=tuple(_platforms(inspector.catalogue, found.by_platform))
    )
    summary = _summary(
        facts.run,
        target,
        last,
        jobs=found.jobs.counts,
        verdicts=found.verdicts,
        jobs_per_s=last.settled / at_s if at_s else 0.0,
        rejected=rejected,
        ledger=None,
    )
    write_report(
        target,
        summary=summary,
        progress=last,
        samples=(),
        rejected=first_rows(rejected),
        started_at=started_at,
        finished_at=finished_at,
        command=f"renewal runs report {facts.run}" + (" --sandbox" if sandbox else ""),
        sandbox=sandbox,
        findings=found.findings,
        watched=False,
    )
    return summary


def _prepared(inspector: Inspector, run: str, target: Path) -> Gathered:
    target.mkdir(parents=True, exist_ok=True)
    return write_results(inspector, run, target / RESULTS)


def _summary(
    run: str, target: Path, last: Progress, *, jobs: JobCounts, verdicts: dict[Verdict, int], jobs_per_s: float,
    rejected: Path, ledger: LedgerCheck | None,
) -> Summary:  # fmt: skip
    names = list(_PAGES)
    if rejected.is_file():
        copy(rejected, target / REJECTED)
        names.append(REJECTED)
    return Summary(
        run=run,
        cases=CaseCounts(accepted=last.cases_accepted, rejected=last.cases_rejected, duplicate=last.cases_duplicate),
        jobs=jobs,
        verdicts={verdict: n for verdict, n in verdicts.items() if n},
        attempts=last.attempts,
        calls=last.calls,
        duration_s=round(last.at_s, 3),
        jobs_per_s=round(jobs_per_s, 1),
        files={name: str(target / name) for name in names},
        ledger=ledger,
    )


def _platforms(catalogue: Catalogue, by_platform: dict[str, Counter[State]]) -> list[PlatformProgress]:
    """Return the platforms that a run asked, also those that left the catalogue since."""
    entries = {platform.key: platform for platform in catalogue}
    return [
        PlatformProgress(
            key=key,
            name_zh=entries[key].name.zh if key in entries else key,
            name_en=entries[key].name.en if key in entries else key,
            category=entries[key].category if key in entries else "not in the catalogue",
            by_state=by_state,
            calls=0,
            attempts=0,
            faults={},
            statuses={},
            latencies=(),
        )
        for key, by_state in sorted(by_platform.items())
    ]
