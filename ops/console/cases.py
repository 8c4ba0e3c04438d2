"""One request: its number masked, how far it is at every platform, and what one job of it went through."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from backends.store import CaseView
from ops.api.door import Door, TheDoor
from ops.console.asking import reason_of, text_of
from ops.console.folding import folded
from ops.console.listing import Column, as_file, listing, wanted_file
from ops.console.shown import iso, masked
from ops.console.visitor import AdminVisitor, Posted, Reader
from ops.dead_letters import DeadDesk
from ops.job_view import JobDesk
from ops.turns import totals
from schemas.errors import InputError
from schemas.ids import job_id
from schemas.record import JobRecord
from schemas.state import STATES, State

router = APIRouter()
_PER_PAGE: Final = 300
FIELDS: Final = ("platform", "state", "reason", "attempts", "first_sent_at", "settled_at", "detail")
# A filter that is no state: everything that did not end clean.
OPEN: Final = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One job of a case, as a row. `settled_by` names the platform that is asked instead."""

    platform: str
    names: Mapping[str, str]
    record: JobRecord
    about: Mapping[str, Any]
    settled_by: str

    @property
    def clean(self) -> bool:
        """Whether nothing of the old owner is left there."""
        return STATES[self.record.state].clean

    def fits(self, filters: Mapping[str, str]) -> bool:
        """Whether it is among those that are looked for."""
        names = f"{self.platform} {' '.join(self.names.values())}".casefold()
        state = filters["state"]
        return all(word in names for word in filters["q"].casefold().split()) and (
            not self.clean if state == OPEN else state in {"", self.record.state}
        )

    def row(self) -> dict[str, Any]:
        """Return it as a file holds it."""
        record = self.record
        return {
            "platform": self.platform,
            "state": record.state,
            "reason": record.reason,
            "attempts": record.attempts,
            "first_sent_at": iso(record.first_sent_s) if record.first_sent_s else None,
            "settled_at": iso(record.settled_s) if record.settled_s else None,
            "detail": masked(self.about.get("detail")) or None,
        }


COLUMNS: Final = (
    Column(name="platform", key=lambda line: line.platform),
    Column(name="state", key=lambda line: (line.clean, line.record.state)),
    Column(name="attempts", numeric=True, key=lambda line: line.record.attempts, falling=True),
    Column(name="first_sent", wide=True, key=lambda line: line.record.first_sent_s),
    Column(name="settled", wide=True, key=lambda line: line.record.settled_s, falling=True),
    Column(name="detail", wide=True),
)


@router.get("/cases/{case}")
def one(*, case: str, request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show one request and its jobs, those that are not clean first."""
    view = door.inspector.case(case)
    lines = sorted(_lines(view, door), key=lambda line: (line.clean, line.platform))
    filters = {name: request.query_params.get(name, "") for name in ("q", "state")}
    if kind := wanted_file(request):
        rows = (line.row() for line in lines if line.fits(filters))
        return as_file(rows, fields=FIELDS, name=f"case-{view.id}", kind=kind)
    found = listing(
        request, lines, columns=COLUMNS, filters=filters, fits=lambda line: line.fits(filters), per_page=_PER_PAGE
    )
    counts = Counter(line.record.state for line in lines)
    return visitor.page(
        "case.html.j2", case=view, listing=found, counts=counts, choices=(OPEN, *State),
        done=sum(n for state, n in counts.items() if STATES[state].final),
    )  # fmt: skip


@router.post("/cases/{case}/reveal")
def reveal(*, case: str, visitor: AdminVisitor, door: TheDoor, form: Posted) -> Response:
    """Show the number itself, once. It is on record who asked, before it is shown."""
    view = door.inspector.case(case)
    number = DeadDesk(door.backends, door.catalogue, who=visitor.who).reveal(
        job_id(view.id, view.platforms[0]), reason=reason_of(form)
    )
    return visitor.page("revealed.html.j2", case=view, number=number)


@router.get("/cases/{case}/{platform}")
def job(*, case: str, platform: str, visitor: Reader, door: TheDoor) -> Response:
    """Show what one job went through, and whose turn it was; where another platform settles it too, that one's."""
    found = JobDesk(door.backends, door.catalogue).show(job_id(case, platform))
    view, asked, course = door.inspector.case(case), found.facts["platform"], found.course
    return visitor.page(
        "job.html.j2", case=view, platform=asked, name=_names(door, asked), facts=found.facts,
        record=view.record(asked), about=door.inspector.details(case).get(asked, {}),
        folds=folded(found.facts["steps"]), course=course, remedy=found.remedy,
        held=totals(course.turns, now=course.now),
    )  # fmt: skip


@router.get("/numbers")
def ask(visitor: Reader) -> Response:
    """Ask for a number or a reference."""
    return visitor.page("numbers.html.j2", found=None, problem="")


@router.post("/numbers")
def find(visitor: Reader, door: TheDoor, form: Posted) -> Response:
    """Find the requests of a number. It comes in the body and goes nowhere: no address and no page repeats it."""
    number, reference, case = (text_of(form, name) for name in ("number", "reference", "case"))
    if sum(map(bool, (number, reference, case))) != 1:
        raise InputError("give one of: number, reference, case")
    if case:
        found = [door.inspector.case(case)]
    elif number:
        found = door.inspector.cases_of_number(number)
    else:
        found = door.inspector.cases_of_reference(reference)
    if len(found) == 1:
        return visitor.after(f"/cases/{found[0].id}")
    return visitor.page("numbers.html.j2", found=found, problem="")


def _lines(view: CaseView, door: Door) -> Iterator[JobLine]:
    details = door.inspector.details(view.id)
    for platform in (*view.platforms, *view.settled):
        yield JobLine(
            platform=platform,
            names=_names(door, platform),
            record=view.record(platform),
            about=details.get(platform, {}),
            settled_by=view.settled.get(platform, ""),
        )


def _names(door: Door, platform: str) -> Mapping[str, str]:
    """Return the names of a platform; one that has left the catalogue has only its key."""
    if platform not in door.catalogue:
        return {"zh": platform, "en": platform}
    name = door.catalogue.get(platform).name
    return {"zh": name.zh, "en": name.en}
