"""Open jobs whose promise is over, or nearly so.

Covered is what a platform has accepted, what is dead, and what waits. Not covered is what is with the broker or a
worker at this moment, and soon in one of the others; and what is for review, of which only the number is known.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from backends.bootstrap import Backends
from backends.dead import DeadFilter, DeadGroup, DeadJob, DeadLetter
from backends.waiting_view import WaitingFilter
from ops.course import Course, course_of
from ops.when import said
from platforms.calendar import WorkingDays
from platforms.catalogue import Catalogue
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

    def select(self, platforms: Sequence[str] = (), *, at_risk: bool = True) -> list[OpenPromise]:
        """Return the jobs that are overdue, with `at_risk` those as well whose last day has begun; first due first.

        Raises NotFound for a platform that the catalogue does not have.
        """
        wanted = {Standing.OVERDUE, Standing.AT_RISK} if at_risk else {Standing.OVERDUE}
        chosen = self._catalogue.select(list(platforms)) if platforms else self._catalogue
        found: dict[str, OpenPromise] = {}
        for page in _pages(self._open(chosen)):
            found |= {each.job: each for each in self._read(page) if each.promise.standing in wanted}
        return sorted(found.values(), key=lambda each: (each.promise.due_at, each.job))

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

    def groups(self, chosen: Sequence[OpenPromise]) -> list[dict[str, Any]]:
        """Return them by platform, the most overdue first, each with the one that is due first."""
        together: dict[str, list[OpenPromise]] = defaultdict(list)
        for each in chosen:
            together[each.platform].append(each)
        counters = self._backends.runs.platform_counters(list(together))
        rows = [_group(key, found, counters[key].by_state()) for key, found in together.items()]
        return sorted(rows, key=lambda row: (-row["overdue"], -row["at_risk"], row["platform"]))

    def for_review(self, platforms: Sequence[str] = ()) -> int:
        """Count the answers for review, of which nobody knows since when they are."""
        keys = list(platforms) or [platform.key for platform in self._catalogue]
        counters = self._backends.runs.platform_counters(keys).values()
        return sum(each.by_state().get(State.PENDING_REVIEW, 0) for each in counters)

    # -- where open jobs are ---------------------------------------------------------------------------------------

    def _open(self, chosen: Catalogue) -> Iterator[str]:
        """Yield the jobs that may be late."""
        keys, now = frozenset(platform.key for platform in chosen), self._backends.clock.now()
        for platform in chosen:
            until = self._calendar.latest_start_of(platform.sla, now + platform.sla.warning)
            yield from self._backends.expected.walk(platform.key, until=until)
        for letter in self._backends.dead.select(DeadFilter(platforms=keys)):
            yield letter.job
        for waiting in self._backends.waiting_view.select(WaitingFilter(platforms=keys), now=now):
            for case in waiting.cases:
                yield job_id(case, waiting.platform)

    def _read(self, jobs: Sequence[str]) -> Iterator[OpenPromise]:
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
    now = backends.clock.now()
    over = {each.key: calendar.latest_start_of(each.sla, now) for each in catalogue}
    risk = {each.key: calendar.latest_start_of(each.sla, now + each.sla.warning) for each in catalogue}
    late, near = backends.expected.counts(over), backends.expected.counts(risk)
    died = backends.figures.dead_until(dead, over)
    found = {
        key: Deadlines(overdue=late[key] + died.get(key, 0), at_risk=max(0, near[key] - late[key])) for key in over
    }
    return {key: each for key, each in found.items() if each != Deadlines()}


def _pages(jobs: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(jobs)
    while page := list(islice(rest, _PAGE)):
        yield page


def _group(platform: str, found: Sequence[OpenPromise], by_state: Mapping[State, int]) -> dict[str, Any]:
    first = found[0]
    overdue = sum(each.promise.standing is Standing.OVERDUE for each in found)
    return {
        "platform": platform,
        "overdue": overdue,
        "at_risk": len(found) - overdue,
        "for_review": by_state.get(State.PENDING_REVIEW, 0),
        "oldest_started_at": said(first.promise.started_at),
        "oldest_due_at": said(first.promise.due_at),
        "oldest_job": first.job,
    }
