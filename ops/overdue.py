"""Open jobs whose promise is over, or nearly so.

Covered is what a platform has accepted, what is dead, and what waits. Not covered is what is with the broker or a
worker at this moment, and soon in one of the others; and what is for review, of which only the number is known.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from backends.bootstrap import Backends
from backends.dead import DeadFilter, DeadGroup, DeadJob, DeadLetter
from backends.waiting_view import WaitingFilter
from ops.course import Course, course_of
from ops.when import said
from platforms.calendar import WorkingDays
from platforms.catalogue import Catalogue
from platforms.model import Sla
from platforms.promise import Promise, Standing
from schemas.ids import job_id
from schemas.state import STATES, State

JOB_FIELDS: Final = (
    "platform", "number", "case", "state", "reason", "standing", "started_at", "due_at", "late_s", "late_party", "job",
)  # fmt: skip
GROUP_FIELDS: Final = (
    "platform", "overdue", "at_risk", "for_review", "oldest_started_at", "oldest_due_at", "oldest_job",
)  # fmt: skip
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPromise:
    """One open job with the promise about it."""

    letter: DeadLetter
    course: Course
    promise: Promise

    @property
    def job(self) -> str:
        """The id of the job."""
        return self.letter.letter.job

    @property
    def platform(self) -> str:
        """The platform of the job."""
        return self.letter.letter.platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Open jobs of one platform beyond the promise, and in its last working day."""

    overdue: int = 0
    at_risk: int = 0


class OverdueDesk:
    """Finds them; changes nothing."""

    def __init__(self, backends: Backends, catalogue: Catalogue) -> None:
        self._backends, self._catalogue = backends, catalogue
        self._calendar = WorkingDays.load()

    def select(self, platforms: Sequence[str] = (), *, at_risk: bool = True, at_most: int = _PAGE) -> list[OpenPromise]:
        """Return the jobs that are due first: overdue, with `at_risk` those as well whose last day has begun.

        Raises NotFound for a platform that the catalogue does not have.
        """
        chosen, now = self._chosen(platforms), self._backends.clock.now()
        wanted = {Standing.OVERDUE, Standing.AT_RISK} if at_risk else {Standing.OVERDUE}
        jobs = [*self._accepted(chosen, at_most=at_most), *self._others(chosen, now=now)]
        # A job that changes hands meanwhile may be seen in two of them.
        found = {each.job: each for each in self._read(jobs) if each.promise.standing in wanted}
        return sorted(found.values(), key=_due_first)[:at_most]

    def over(self, jobs: Sequence[str]) -> list[str]:
        """Return those of these jobs whose time is over, by their trails."""
        return [each.job for each in self._read(jobs) if each.promise.standing is Standing.OVERDUE]

    def rows(self, chosen: Sequence[OpenPromise]) -> Iterator[dict[str, Any]]:
        """Yield jobs as a list shows them; `late_s` is negative while there is time left."""
        for each in chosen:
            record = each.letter.record
            yield {
                "platform": each.platform,
                "number": each.letter.mask or None,
                "case": each.letter.letter.case,
                "state": record.state,
                "reason": record.reason,
                "standing": each.promise.standing.value,
                "started_at": said(each.promise.started_at),
                "due_at": said(each.promise.due_at),
                "late_s": round((each.course.now - each.promise.due_at).total_seconds()),
                "late_party": each.course.late,
                "job": each.job,
            }

    def groups(self, platforms: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return how many there are at each platform, the most overdue first, and the one that is due first.

        Of what platforms have accepted only the first is read: an index counts the others.
        """
        chosen, now = self._chosen(platforms), self._backends.clock.now()
        over, risk = bounds(chosen, self._calendar, now=now)
        late, near = self._backends.expected.counts(over), self._backends.expected.counts(risk)
        together: dict[str, dict[str, OpenPromise]] = defaultdict(dict)
        for each in self._read(self._others(chosen, now=now)):
            if each.promise.standing in {Standing.OVERDUE, Standing.AT_RISK}:
                together[each.platform][each.job] = each
        firsts = {each.platform: each for each in self._read(self._accepted(chosen, at_most=1))}
        counters = self._backends.runs.platform_counters(list(over))
        rows = []
        for key in over:
            others = list(together[key].values())
            overdue = sum(each.promise.standing is Standing.OVERDUE for each in others)
            found = sorted([*others, *([firsts[key]] if key in firsts else [])], key=_due_first)
            if found:
                rows.append({
                    "platform": key,
                    "overdue": late[key] + overdue,
                    "at_risk": near[key] - late[key] + len(others) - overdue,
                    "for_review": counters[key].by_state().get(State.PENDING_REVIEW, 0),
                    "oldest_started_at": said(found[0].promise.started_at),
                    "oldest_due_at": said(found[0].promise.due_at),
                    "oldest_job": found[0].job,
                })  # fmt: skip
        return sorted(rows, key=lambda row: (-row["overdue"], -row["at_risk"], row["platform"]))

    def for_review(self, platforms: Sequence[str] = ()) -> int:
        """Count the answers for review, of which nobody knows since when they are."""
        keys = list(platforms) or [platform.key for platform in self._catalogue]
        counters = self._backends.runs.platform_counters(keys).values()
        return sum(each.by_state().get(State.PENDING_REVIEW, 0) for each in counters)

    # -- where open jobs are ---------------------------------------------------------------------------------------

    def _chosen(self, platforms: Sequence[str]) -> Catalogue:
        return self._catalogue.select(list(platforms)) if platforms else self._catalogue

    def _accepted(self, chosen: Catalogue, *, at_most: int) -> Iterator[str]:
        """Yield what platforms have accepted and may be late with, of each so many that are due first."""
        _, risk = bounds(chosen, self._calendar, now=self._backends.clock.now())
        for platform, until in risk.items():
            yield from self._backends.expected.sent_until(platform, until, at_most=at_most)

    def _others(self, chosen: Catalogue, *, now: datetime) -> Iterator[str]:
        """Yield what may be late besides, of which only its record says by when it is due."""
        keys = frozenset(platform.key for platform in chosen)
        _, risk = bounds(chosen, self._calendar, now=now)
        for platform, until in risk.items():
            yield from self._backends.expected.paused(platform, until=until)
        for letter in self._backends.dead.select(DeadFilter(platforms=keys)):
            yield letter.job
        for waiting in self._backends.waiting_view.select(WaitingFilter(platforms=keys), now=now):
            for case in waiting.cases:
                yield job_id(case, waiting.platform)

    def _read(self, jobs: Iterable[str]) -> Iterator[OpenPromise]:
        rest = iter(jobs)
        while page := list(islice(rest, _PAGE)):
            yield from self._page(page)

    def _page(self, jobs: Sequence[str]) -> Iterator[OpenPromise]:
        letters = self._backends.dead.read(DeadJob(job=job, died_ms=0) for job in jobs)
        now = self._backends.clock.now()
        for letter, trail in zip(letters, self._backends.dead.trails(jobs), strict=True):
            platform, record = letter.letter.platform, letter.record
            if not letter.run or STATES[record.state].final or platform not in self._catalogue:
                continue
            course = course_of(
                record, trail,
                accepted_s=letter.accepted_s,
                sla=self._catalogue.get(platform).sla,
                calendar=self._calendar, now=now,
            )  # fmt: skip
            if course.promise is not None:
                yield OpenPromise(letter=letter, course=course, promise=course.promise)


def deadlines(
    backends: Backends, catalogue: Catalogue, calendar: WorkingDays, *, dead: Sequence[DeadGroup]
) -> dict[str, Deadlines]:
    """Count what is late and at risk at each platform, by the indexes alone, so that it may be asked each second.

    Never too many: jobs whose clock has stood still and what waits are not counted, and of dead letters only those that
    died beyond the promise.
    """
    over, risk = bounds(catalogue, calendar, now=backends.clock.now())
    late, near = backends.expected.counts(over), backends.expected.counts(risk)
    died = backends.figures.dead_until(dead, over)
    found = {
        key: Deadlines(overdue=late[key] + died.get(key, 0), at_risk=max(0, near[key] - late[key])) for key in over
    }
    return {key: each for key, each in found.items() if each != Deadlines()}


def bounds(
    catalogue: Catalogue, calendar: WorkingDays, *, now: datetime
) -> tuple[dict[str, datetime], dict[str, datetime]]:
    """Return, by platform, until when a job must have been started to be overdue now, and to be at risk or overdue."""
    # Contracts are few and platforms many.
    ends: dict[Sla, tuple[datetime, datetime]] = {
        sla: (calendar.latest_start_of(sla, now), calendar.latest_start_of(sla, now + sla.warning))
        for sla in {platform.sla for platform in catalogue}
    }
    over = {platform.key: ends[platform.sla][0] for platform in catalogue}
    return over, {platform.key: ends[platform.sla][1] for platform in catalogue}


def _due_first(each: OpenPromise) -> tuple[datetime, str]:
    return each.promise.due_at, each.job
