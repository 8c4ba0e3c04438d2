"""What waits, for people: rows to read, and the two things a person may do about them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from backends.actions import Action, What, whoami
from backends.bootstrap import Backends
from backends.waiting_view import WaitingBatch, WaitingFilter
from ops.when import iso
from producers.cancel import cancel_batch
from schemas.errors import InputError, NotFound

ROW_FIELDS: Final = ("batch", "platform", "why", "due_at", "in_s", "attempt", "generation", "jobs", "run", "leased")
JOB_FIELDS: Final = ("number", "case", "state", "reason", "attempts", "generation")
_PAGE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """What a change did. `busy` are batches that a scheduler held at that moment: they are on their way."""

    batches: int
    jobs: int
    busy: tuple[str, ...] = ()


class Retries:
    """Shows and changes the waiting set."""

    def __init__(self, backends: Backends, *, who: str = "") -> None:
        self._backends, self._who = backends, who or whoami()

    @property
    def now(self) -> datetime:
        """The instant from which times are counted."""
        return self._backends.clock.now()

    def select(self, wanted: WaitingFilter, *, after: tuple[int, str] | None = None) -> Iterator[WaitingBatch]:
        """Yield what fits, the first due first; with `after`, only what comes behind that due time and batch."""
        return self._backends.waiting_view.select(wanted, now=self._backends.clock.now(), after=after)

    def choose(self, wanted: WaitingFilter, *, everything: bool) -> list[WaitingBatch]:
        """Return what fits, for a change. Raises InputError if nothing says which, NotFound if a batch is gone."""
        if wanted == WaitingFilter() and not everything:
            raise InputError("say which: batches, platform, why, run, number, case or due time; or all of them")
        chosen = list(self.select(wanted))
        missing = sorted(wanted.batches - {waiting.batch for waiting in chosen})
        if missing:
            raise NotFound(f"no batch {missing[0]} waits; nothing was changed")
        return chosen

    def count(self, wanted: WaitingFilter) -> int:
        """Count what fits."""
        return self._backends.waiting_view.count(wanted, now=self._backends.clock.now())

    def groups(self, wanted: WaitingFilter, *, at_most: int | None = None) -> list[dict[str, Any]]:
        """Count what fits by platform and why, the most batches first. Reads each of them, or the first so many due."""
        found: dict[tuple[str, str], list[WaitingBatch]] = {}
        for waiting in islice(self.select(wanted), at_most):
            found.setdefault((waiting.platform, waiting.why), []).append(waiting)
        rows = [
            {
                "platform": platform,
                "why": why,
                "batches": len(batches),
                "jobs": sum(len(waiting.cases) for waiting in batches),
                "first_due_at": iso(batches[0].due_ms),
            }
            for (platform, why), batches in found.items()
        ]
        return sorted(rows, key=lambda row: (-row["batches"], row["platform"], row["why"]))

    def row(self, waiting: WaitingBatch) -> dict[str, Any]:
        """Return one batch as a list shows it."""
        return {
            "batch": waiting.batch,
            "platform": waiting.platform,
            "why": waiting.why,
            "due_at": iso(waiting.due_ms),
            "in_s": round(waiting.due_ms / 1000 - self._backends.clock.now().timestamp()),
            "attempt": waiting.attempt,
            "generation": waiting.generation,
            "jobs": len(waiting.cases),
            "run": waiting.run,
            "leased": waiting.leased,
        }

    def show(self, batch: str) -> dict[str, Any]:
        """Return one batch with its jobs. Raises NotFound."""
        found, waiter = self._backends.waiting_view.show(batch, now=self._backends.clock.now())
        masks = {case.id: case.mask for case in self._backends.store.cases(found.cases)}
        records = self._backends.store.records(found.platform, found.cases)
        return self.row(found) | {
            "lane": waiter.batch.lane,
            "first_attempt": waiter.batch.first_attempt,
            "deadline": waiter.batch.deadline.isoformat(),
            "cases": [
                {
                    "number": masks.get(case),
                    "case": case,
                    "state": record.state,
                    "reason": record.reason,
                    "attempts": record.attempts,
                    "generation": record.generation,
                }
                for case, record in zip(found.cases, records, strict=True)
            ],
        }

    # -- changes ---------------------------------------------------------------------------------------------------

    def run_now(self, chosen: Sequence[WaitingBatch], *, reason: str) -> Turned:
        """Let batches be due now; admission still says whether their platforms may be called."""
        self._log(What.RETRIES_RUN_NOW, chosen, reason=reason)
        hurried, busy = self._backends.waiting_view.run_now(chosen, now=self._backends.clock.now())
        jobs = sum(len(waiting.cases) for waiting in chosen if waiting.batch not in busy)
        return Turned(batches=hurried, jobs=jobs, busy=busy)

    def cancel(self, chosen: Sequence[WaitingBatch], *, reason: str) -> Turned:
        """Take batches out, and let their jobs be CANCELLED.

        Under a lease, and finished only when the jobs are decided: a crash in between leaves the batch where it was.
        """
        self._log(What.RETRIES_CANCEL, chosen, reason=reason)
        batches = jobs = 0
        busy: list[str] = []
        for start in range(0, len(chosen), _PAGE):
            now = self._backends.clock.now()
            names = [waiting.batch for waiting in chosen[start : start + _PAGE]]
            taken = self._backends.waiting_view.take(names, now=now)
            for batch in taken.leased.batches:
                jobs += cancel_batch(self._backends, batch, detail=reason)
            batches += self._backends.waiting.finish(taken.leased)
            busy += taken.busy
        return Turned(batches=batches, jobs=jobs, busy=tuple(busy))

    def _log(self, what: What, chosen: Sequence[WaitingBatch], *, reason: str) -> None:
        platforms = sorted({waiting.platform for waiting in chosen})
        target = chosen[0].batch if len(chosen) == 1 else ", ".join(platforms[:10])
        before = {"batches": len(chosen), "jobs": sum(len(waiting.cases) for waiting in chosen)}
        self._backends.actions.append(
            Action(what=what, target=target, reason=reason, before=before, after={}, who=self._who)
        )
