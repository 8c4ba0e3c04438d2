"""Cases, for people and programs: where each job stands, and the results of a run."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from backends.store import CaseView
from backends.waiting_view import WaitingBatch
from ops.inspector import Inspector
from ops.when import iso
from schemas.outcome import Outcome

JOB_FIELDS: Final = ("platform", "state", "reason", "attempts", "first_sent_at", "settled_at", "detail")
_OUTCOMES: Final = frozenset(outcome.value for outcome in Outcome)


class CaseDesk:
    """Shows cases; changes nothing."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    def row(self, view: CaseView, *, waits: bool = True) -> dict[str, Any]:
        """Return one case with all its jobs. What each waits for costs a look through all that waits for platforms."""
        return self.head(view) | {"jobs": list(self.jobs(view, waits=waits))}

    def head(self, view: CaseView) -> dict[str, Any]:
        """Return one case without its jobs."""
        return {
            "case": view.id,
            "number": view.mask,
            "reference": view.reference,
            "verdict": view.verdict,
            "cutoff_at": view.cutoff_at,
            "basis": view.basis,
            "cycle": view.cycle,
            "run": view.run,
        }

    def jobs(self, view: CaseView, *, waits: bool = True) -> Iterator[dict[str, Any]]:
        """Yield the jobs of a case; those that are not asked have the answer of the one that settles them too."""
        details, waiting = self._inspector.details(view.id), self._inspector.waits(view) if waits else {}
        for platform in (*view.platforms, *view.settled):
            record = view.record(platform)
            yield {
                "platform": platform,
                "state": record.state,
                "reason": record.reason,
                "attempts": record.attempts,
                "first_sent_at": _iso(record.first_sent_s),
                "settled_at": _iso(record.settled_s),
                "detail": _detail(details.get(platform, {}), view.settled.get(platform), waiting.get(platform)),
            }

    def results(
        self, run: str, *, states: Collection[str] = (), platforms: Collection[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Yield one row for each job of a run, with the columns of results.csv. Raises NotFound."""
        for view in self._inspector.run_cases(run):
            for platform in (*view.platforms, *view.settled):
                record = view.record(platform)
                if (states and record.state not in states) or (platforms and platform not in platforms):
                    continue
                yield {
                    "reference": view.reference,
                    "number": view.mask,
                    "case": view.id,
                    "platform": platform,
                    "state": record.state,
                    "outcome": record.state if record.state.value in _OUTCOMES else None,
                    "reason": record.reason,
                    "attempts": record.attempts,
                    "first_sent_at": _iso(record.first_sent_s),
                    "settled_at": _iso(record.settled_s),
                }


def _detail(about: dict[str, Any], settled_by: str | None, waiting: WaitingBatch | None) -> str | None:
    told = [about.get("detail"), about.get("reference")]
    if settled_by is not None:
        told.append(f"settled by {settled_by}")
    if waiting is not None:
        # The detail of the last attempt may name an earlier time: this is where the job is now.
        told.append(f"waits ({waiting.why}), next look {iso(waiting.due_ms)}")
    return "; ".join(text for text in told if text) or None


# A case of 240 jobs has 480 of them, and the jobs of a night were sent within a few thousand different seconds.
@lru_cache(maxsize=65_536)
def _iso(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
