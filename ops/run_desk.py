"""Runs, for people: which there are, how far each is, and ending one before its end."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final

from backends.actions import Action, What, whoami
from backends.bootstrap import Backends
from backends.runs import RunFacts
from ops.inspector import Inspector
from ops.progress import Progress, RejectedRow, duration_text, latency_ms
from ops.reading import REJECTED
from ops.rejected import first_rows
from ops.run_report import report_stored
from producers.cancel import cancel_open
from schemas.errors import Refused
from schemas.number import mask_text
from schemas.outcome import Outcome
from schemas.result import LATENCY_BOUNDS_MS
from schemas.state import DISPATCHER_STATES, State
from schemas.summary import Summary

LIST_FIELDS: Final = (
    "run", "file", "started_at", "state", "cases", "jobs", "settled", "waiting", "dead", "done_pct",
)  # fmt: skip
PLATFORM_FIELDS: Final = ("platform", "jobs", "settled", "queued", "waiting", "dead", "states")
_PAGE: Final = 100
# Who reads a file gives a sign of life with each chunk, and every five seconds while it waits.
_SILENT_S: Final = 60.0


class RunState(StrEnum):
    """What goes on with a run."""

    READING = "reading"
    INTERRUPTED = "interrupted"  # its file was not read to the end, and nobody reads it now
    WORKING = "working"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEnd:
    """What a cancellation did: jobs taken out, and jobs that are still open (in flight, or come since)."""

    jobs: int
    left: int


def state_of(facts: RunFacts, *, now: datetime) -> RunState:
    """Say what goes on with a run."""
    if facts.cancelled:
        return RunState.CANCELLED
    if not facts.read_whole:
        silent_s = now.timestamp() - max(facts.read_s, facts.started_s)
        return RunState.INTERRUPTED if silent_s > _SILENT_S else RunState.READING
    return RunState.WORKING if facts.counters.held else RunState.DONE


class RunDesk:
    """Shows runs, and ends one."""

    def __init__(self, backends: Backends, inspector: Inspector, *, who: str = "") -> None:
        self._backends, self._inspector, self._who = backends, inspector, who or whoami()

    # -- looking ---------------------------------------------------------------------------------------------------

    def rows(self, *, limit: int, after: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield what a list shows, newest first; with `after`, of those that are older than that run."""
        names = islice(self._backends.runs.newest_first(after=after), limit)
        while page := list(islice(names, _PAGE)):
            yield from map(self._row, self._backends.runs.facts(page))

    def _row(self, facts: RunFacts) -> dict[str, Any]:
        jobs = facts.counters.get("jobs")
        by_state, settled = facts.counters.by_state(jobs), jobs - facts.counters.held
        return {
            "run": facts.run,
            "file": facts.file,
            "started_at": _iso(facts.started_s),
            "state": state_of(facts, now=self._inspector.now),
            "cases": facts.counters.get("accepted"),
            "jobs": jobs,
            "settled": settled,
            "waiting": by_state.get(State.WAITING, 0),
            "dead": by_state.get(State.DEAD, 0),
            # Cut, not rounded: 100 means all of it.
            "done_pct": int(1000 * settled / jobs) / 10 if jobs else None,
        }

    def facts(self, run: str) -> RunFacts:
        """Return what is known of a run. Raises NotFound."""
        return self._backends.runs.facts([run])[0]

    def show(self, run: str) -> dict[str, Any]:
        """Return all that is counted of a run. Raises NotFound."""
        facts = self.facts(run)
        counters = facts.counters
        by_state = counters.by_state(counters.get("jobs"))
        latencies = [counters.get(f"latency:{bucket}") for bucket in range(len(LATENCY_BOUNDS_MS) + 1)]
        verdicts = {name: n for name, n in counters.family("verdict").items() if n}
        return self._row(facts) | {
            "line": facts.cursor.line,
            "read_at": _iso(facts.read_s),
            "waits": facts.waits or None,
            "cancelled": facts.cancelled or None,
            "instrument": facts.instrument or None,
            "rejected": facts.rejected,
            "duplicate": facts.duplicate,
            "other_runs": facts.cursor.other_runs,
            "by_state": {state.value: n for state, n in by_state.items()},
            "by_outcome": {o.value: by_state[State(o.value)] for o in Outcome if State(o.value) in by_state},
            "verdicts": verdicts | {"INCOMPLETE": counters.get("accepted") - sum(verdicts.values())},
            "attempts": counters.get("attempts"),
            "calls": counters.get("calls"),
            "http_statuses": counters.family("status"),
            "faults": counters.family("fault"),
            "p50_ms": latency_ms(latencies, 0.5),
            "p95_ms": latency_ms(latencies, 0.95),
        }

    def rejected(self, run: str) -> list[RejectedRow]:
        """Return the first rows of a run's file that were refused, masked; none where another machine has read it."""
        return first_rows(self._backends.settings.data_dir / "runs" / run / REJECTED)

    def platforms(self, run: str) -> list[dict[str, Any]]:
        """Return the jobs of a run by platform. Reads every case of it: some seconds for a million jobs."""
        found: dict[str, Counter[State]] = {}
        for case in self._inspector.run_cases(run):
            for platform in case.platforms:
                found.setdefault(platform, Counter())[case.record(platform).state] += 1
        return [_platform_row(platform, by_state) for platform, by_state in sorted(found.items())]

    def progress(self, run: str, *, at_s: float) -> tuple[Progress, RunState]:
        """Return how far a run is. Raises NotFound."""
        facts = self.facts(run)
        state = state_of(facts, now=self._inspector.now)
        if state is RunState.INTERRUPTED:
            silent_s = self._inspector.now.timestamp() - max(facts.read_s, facts.started_s)
            facts = replace(facts, waits=f"nobody has read the file for {duration_text(silent_s)}: submit it again")
        return self._inspector.progress_of(facts, at_s=at_s), state

    def report(self, run: str, *, target: Path | None, sandbox: bool) -> Summary:
        """Write the report folder of a run. Raises NotFound."""
        folder = self._backends.settings.data_dir / "runs" / run
        return report_stored(
            self._inspector,
            self.facts(run),
            target or folder / "report",
            rejected=folder / REJECTED,
            sandbox=sandbox,
        )

    # -- ending ----------------------------------------------------------------------------------------------------

    def cancel(
        self, run: str, *, reason: str, tell: Callable[[str], None], pause: Callable[[float], None] = time.sleep
    ) -> CancelEnd:
        """Read its file no further, and let the jobs that nobody has sent be CANCELLED. Raises NotFound, Refused.

        Ended in the middle, the same again goes on where it was.
        """
        self.begin_cancel(run, reason=reason)
        return self.finish_cancel(run, tell=tell, pause=pause)

    def begin_cancel(self, run: str, *, reason: str) -> None:
        """Read its file no further, and say so in the actions log. Raises NotFound, Refused."""
        facts = self.facts(run)
        state = state_of(facts, now=self._inspector.now)
        if state is RunState.DONE:
            raise Refused(f"run {run} is done: there is nothing to cancel")
        before = {"state": state.value, "open_jobs": facts.counters.held, "jobs": facts.counters.get("jobs")}
        self._backends.actions.append(
            Action(
                what=What.RUN_CANCEL, target=run, reason=reason, before=before, after={"state": "cancelled"},
                who=self._who,
            )
        )  # fmt: skip
        self._backends.runs.cancel(run, reason=mask_text(reason))

    def finish_cancel(
        self, run: str, *, tell: Callable[[str], None], pause: Callable[[float], None] = time.sleep
    ) -> CancelEnd:
        """Let the jobs that nobody has sent be CANCELLED.

        What is in flight is waited for: its answer counts, and only what would be tried again is cancelled then.
        """
        jobs = cancel_open(self._backends, run, tell=tell, pause=pause)
        return CancelEnd(jobs=jobs, left=self.facts(run).counters.held)


def _platform_row(platform: str, by_state: Counter[State]) -> dict[str, Any]:
    held = sum(by_state[state] for state in DISPATCHER_STATES)
    return {
        "platform": platform,
        "jobs": by_state.total(),
        "settled": by_state.total() - held,
        "queued": by_state[State.QUEUED],
        "waiting": by_state[State.WAITING],
        "dead": by_state[State.DEAD],
        "states": {state.value: n for state, n in by_state.most_common()},
    }


def _iso(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
