"""Everything about one job: its facts, each step, whose turn it was, the promise, and what can be done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from backends.bootstrap import Backends
from backends.store import CaseView
from ops.course import Course, course_of
from ops.dead_letters import DeadDesk
from platforms.calendar import WorkingDays
from platforms.catalogue import Catalogue
from platforms.remedies import Remedy, remedy_of
from schemas.errors import NotFound
from schemas.ids import job_id, split_job_id
from schemas.outcome import Refusal


@cache
def _calendar() -> WorkingDays:
    """Read the notices once: a page about a job is asked for often."""
    return WorkingDays.load()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """Everything that is known of one job. `facts` are those of `DeadDesk.show`, its steps among them."""

    facts: dict[str, Any]
    course: Course
    remedy: Remedy | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as programs read it."""
        remedy = self.remedy.model_dump(mode="json") if self.remedy else None
        return self.facts | self.course.as_dict() | {"remedy": remedy}


class JobDesk:
    """Shows single jobs; changes nothing."""

    def __init__(self, backends: Backends, catalogue: Catalogue) -> None:
        self._backends, self._catalogue = backends, catalogue
        self._dead = DeadDesk(backends, catalogue)
        self._calendar = _calendar()

    def show(self, job: str) -> JobView:
        """Return one job; for one that another platform settles too, that platform's. Raises NotFound."""
        try:
            ident, platform = split_job_id(job)
        except ValueError as error:
            raise NotFound(f"{job}: {error}") from None
        case = self._backends.store.case(ident)
        asked = case.settled.get(platform, platform)
        facts = self._dead.show(job_id(ident, asked))
        reason = case.record(asked).reason
        return JobView(
            facts=facts,
            course=dict(self.courses(case, [asked]))[asked],
            remedy=remedy_of(reason) if isinstance(reason, Refusal) else None,
        )

    def courses(self, case: CaseView, platforms: Sequence[str] = ()) -> Iterator[tuple[str, Course]]:
        """Yield how a case went at these platforms, or at all that are asked; all trails in one round trip."""
        wanted = platforms or case.platforms
        now = self._backends.clock.now()
        trails = self._backends.dead.trails([job_id(case.id, platform) for platform in wanted])
        for platform, trail in zip(wanted, trails, strict=True):
            yield platform, course_of(
                case.record(platform), trail,
                accepted_s=case.accepted_s,
                sla=self._catalogue.get(platform).sla if platform in self._catalogue else None,
                calendar=self._calendar, now=now,
            )  # fmt: skip
