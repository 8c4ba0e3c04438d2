"""Open jobs whose promise is over, or nearly so.

Covered is what a platform has accepted, what is dead, and what waits. Not covered is what is with the broker or a
worker at this moment, and soon in one of the others; and what is for review, of which only the number is known.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from backends.bootstrap import Backends
from backends.dead import DeadFilter, DeadGroup, DeadJob
from backends.waiting_view import WaitingFilter
from ops.course import Course, course_of
from ops.when import said
from platforms.calendar import WorkingDays
from platforms.catalogue import Catalogue
from platforms.promise import Promise, Standing
from schemas.ids import job_id
from schemas.outcome import REASON_CODES, Hold
from schemas.record import JobRecord
from schemas.state import STATES, State

JOB_FIELDS: Final = (
    "platform", "number", "case", "state", "reason", "standing", "started_at", "due_at", "late_s", "late_party", "job",
)  # fmt: skip
GROUP_FIELDS: Final = (
    "platform",
    "overdue",
    "at_risk",
    "for_review",
    "oldest_started_at",
    "oldest_due_at",
    "oldest_job",
)
_PAGE: Final = 500
# So many of the oldest accepted jobs of a platform are looked at one by one, each time a snapshot is taken.
_LOOKED_AT_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPromise:
    """One open job with the promise about it."""

    job: str
    platform: str
    record: JobRecord
    course: Course
    promise: Promise


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
        for page in self._pages(chosen):
            found |= {each.job: each for each in self._read(page) if each.promise.standing in wanted}
        return sorted(found.values(), key=lambda each: (each.promise.due_at, each.job))

    def rows(self, chosen: Sequence[OpenPromise]) -> Iterator[dict[str, Any]]:
        """Yield jobs as a list shows them; `late_s` is negative while there is time left."""
        for start in range(0, len(chosen), _PAGE):
            page = chosen[start : start + _PAGE]
            letters = self._backends.dead.read(DeadJob(job=each.job, died_ms=0) for each in page)
            for each, letter in zip(page, letters, strict=True):
                yield {
                    "platform": each.platform,
                    "number": letter.mask or None,
                    "case": letter.letter.case,
                    "state": each.record.state,
                    "reason": each.record.reason,
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

    def _pages(self, chosen: Catalogue) -> Iterator[list[DeadJob]]:
        """Yield the jobs that may be late, a page at a time."""
        keys, now = frozenset(platform.key for platform in chosen), self._backends.clock.now()
        for platform in chosen:
            until = self._calendar.latest_start_of(platform.sla, now + platform.sla.warning)
            for jobs in self._backends.owed.walk(platform.key, until_ms=_ms(until)):
                yield [DeadJob(job=job, died_ms=0) for job in jobs]
        letters = self._backends.dead.select(DeadFilter(platforms=keys))
        for start in range(0, len(letters), _PAGE):
            yield letters[start : start + _PAGE]
        for waiting in self._backends.waiting_view.select(WaitingFilter(platforms=keys), now=now):
            for start in range(0, len(waiting.cases), _PAGE):
                cases = waiting.cases[start : start + _PAGE]
                yield [DeadJob(job=job_id(case, waiting.platform), died_ms=0) for case in cases]

    def _read(self, page: Sequence[DeadJob]) -> Iterator[OpenPromise]:
        jobs = [each.job for each in page]
        records = self._backends.store.records_of(jobs)
        taken_in = self._backends.owed.taken_in([each.case for each in page])
        trails = self._backends.dead.trails(jobs)
        now = self._backends.clock.now()
        for each, record, trail in zip(page, records, trails, strict=True):
            if each.case not in taken_in or STATES[record.state].final or each.platform not in self._catalogue:
                continue
            course = course_of(
                record, trail,
                accepted_s=taken_in[each.case],
                sla=self._catalogue.get(each.platform).sla,
                calendar=self._calendar, now=now,
            )  # fmt: skip
            if course.promise is not None:
                yield OpenPromise(
                    job=each.job, platform=each.platform, record=record, course=course, promise=course.promise
                )


def deadlines(
    backends: Backends, catalogue: Catalogue, calendar: WorkingDays, *, dead: Sequence[DeadGroup]
) -> dict[str, Deadlines]:
    """Count what is late and at risk at each platform, by the indexes alone, so that it may be asked each second.

    Of dead letters only those count that died beyond the promise, so it is never too many; what waits is not counted.
    Accepted jobs that the owner holds are left out as far as they are among the oldest.
    """
    now = backends.clock.now()
    over = {each.key: _ms(calendar.latest_start_of(each.sla, now)) for each in catalogue}
    risk = {each.key: _ms(calendar.latest_start_of(each.sla, now + each.sla.warning)) for each in catalogue}
    late, near = backends.owed.accepted(over), backends.owed.accepted(risk)
    for key in [key for key, count in near.items() if count]:
        for _, sent_ms in _with_user(backends, key, until_ms=risk[key]):
            late[key] -= sent_ms <= over[key]
            near[key] -= 1
    codes = {(each.platform, REASON_CODES[each.reason] if each.reason else 0) for each in dead if each.platform in over}
    for (key, _), count in backends.owed.dead({(key, code): over[key] for key, code in codes}).items():
        late[key] += count
        near[key] += count
    return {key: Deadlines(overdue=late[key], at_risk=max(0, near[key] - late[key])) for key in over if near[key] > 0}


def _with_user(backends: Backends, platform: str, *, until_ms: int) -> list[tuple[str, int]]:
    """Return those of the oldest accepted jobs that the number's owner holds, or held: their clock ends later."""
    oldest = backends.owed.oldest(platform, until_ms=until_ms, at_most=_LOOKED_AT_MAX)
    records = backends.store.records_of([job for job, _ in oldest])
    return [each for each, record in zip(oldest, records, strict=True) if record.reason is Hold.USER_ACTION]


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


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
