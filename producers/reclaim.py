"""A holder takes a number back: what was not sent is cancelled, what was sent is to be withdrawn (requirement 4).

First the number is marked, then its case is looked for. A sweep does it the other way round: it hands a case in, then
looks at the mark. So whoever is second sees the other, and no number slips through between the two.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from backends.bootstrap import Backends
from backends.store import CaseView
from producers.inventory import Change
from producers.let_go import let_go
from schemas.ids import job_id
from schemas.outcome import Hold
from schemas.record import JobRecord
from schemas.state import FINAL_STATES, State

OPEN_STATES: Final = frozenset(State) - FINAL_STATES
# A reclaim that is heard of this long after the planned release is about another cycle, or a mistake.
_LATE: Final = timedelta(days=30)
_PAGE: Final = 100
# Of these the platform has said that it did nothing. Of a cancelled one nobody knows.
_UNTOUCHED: Final = frozenset(
    {State.NO_BINDING, State.BOUND_AFTER_CUTOFF, State.REFUSED, State.NOT_SUPPORTED}
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Reclaimed:
    """What became of numbers that were taken back."""

    numbers: int = 0
    without_case: int = 0
    other_cycle: int = 0
    cases: int = 0
    cancelled: int = 0
    withdrawals: int = 0


def needs_withdrawal(record: JobRecord) -> bool:
    """Whether a platform was asked about this job and may have acted, or may still act, on it."""
    if not record.first_sent_s:
        return False
    return record.disputed or record.state not in _UNTOUCHED


class Reclaimer:
    """Cancels and asks for withdrawals; done twice it changes nothing. Raises BackendUnavailable, RedisError."""

    def __init__(self, backends: Backends, *, who: str, reason: str) -> None:
        self._backends, self._who, self._reason = backends, who, reason

    def reclaim(self, changes: Iterable[Change]) -> Reclaimed:
        """Mark numbers as taken back, and let go of their newest case."""
        count = Reclaimed()
        page: list[str] = []
        for change in changes:
            count.numbers += 1
            self._backends.withdrawals.note_reclaimed(self._backends.vault.token(change.number), at=change.at)
            if case := self._case_of(change, count):
                page.append(case)
            if len(page) >= _PAGE:
                self.let_go(page, count)
                page = []
        self.let_go(page, count)
        return count

    def let_go(self, cases: Sequence[str], count: Reclaimed) -> None:
        """Cancel every open job of these cases, ask for withdrawals, and watch for answers that are still to come."""
        views = list(self._backends.store.cases(cases))
        for view in views:
            self._backends.withdrawals.watch(view.id, now=self._backends.clock.now())
        count.cancelled += let_go(
            self._backends, views, only_from=OPEN_STATES, why=Hold.RECLAIMED, detail=self._reason, who=self._who
        )
        count.cases += len(views)
        count.withdrawals += self.ask(cases)

    def ask(self, cases: Sequence[str]) -> int:
        """Ask for the withdrawal of each job that a platform was asked about. Returns how many are new."""
        jobs = [
            job_id(view.id, platform)
            for view in self._backends.store.cases(cases)
            for platform, record in view.records.items()
            if needs_withdrawal(record)
        ]
        return self._backends.withdrawals.request(jobs, now=self._backends.clock.now())

    def look_after(self) -> int:
        """Look once more at all cases that were let go: a call that was under way is known only by its answer."""
        watched = self._backends.withdrawals.watched(now=self._backends.clock.now())
        return sum(self.ask(watched[start : start + _PAGE]) for start in range(0, len(watched), _PAGE))

    def _case_of(self, change: Change, count: Reclaimed) -> str | None:
        views = list(self._backends.store.cases(self._backends.store.find_by_number(change.number)))
        if not views:
            count.without_case += 1
            return None
        newest = max(views, key=_cutoff)
        if not _is_of_its_cycle(newest, change.at):
            count.other_cycle += 1
            return None
        return newest.id


def _cutoff(view: CaseView) -> datetime:
    return datetime.fromisoformat(view.cutoff_at)


def _is_of_its_cycle(view: CaseView, at: datetime) -> bool:
    """Whether a number was taken back in the cycle of this case: after it was deactivated, and before others had it."""
    if at > _cutoff(view) + _LATE:
        return False
    try:
        return at.astimezone(_cutoff(view).tzinfo).date() >= date.fromisoformat(view.cycle)
    except ValueError:
        # The operator has names of its own for cycles.
        return True
