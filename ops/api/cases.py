"""Cases: where a number's renewal stands. A number is asked for in a body, never in an address."""

from collections import Counter
from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator

from backends.store import CaseView
from ops.api.access import Reader
from ops.api.asking import Asked, IdentifierPath
from ops.api.door import TheDoor
from ops.api.idempotency import KEY_TAKEN, OnceRoute
from ops.api.paging import Page, Part
from ops.api.problems import documented
from ops.api.release import Release
from ops.case_desk import CaseDesk
from ops.release import Level
from ops.release_list import ReleaseList
from schemas.errors import InputError
from schemas.state import State, Verdict

router = APIRouter(prefix="/v1", tags=["cases"], route_class=OnceRoute, responses=documented(404))


class Job(BaseModel):
    """One case at one platform."""

    platform: str
    state: State
    reason: str | None
    attempts: int
    first_sent_at: str | None
    settled_at: str | None
    detail: str | None


class CaseHead(BaseModel):
    """One number in one cycle, without its jobs."""

    case: str
    number: Annotated[str, Field(description="masked")]
    reference: str
    verdict: Verdict
    cutoff_at: str
    basis: str
    cycle: str
    run: str


class FoundCase(CaseHead):
    """A case that a look-up found."""

    by_state: dict[State, int]


class Case(CaseHead):
    """A case with all its jobs, and whether its number may be sold again."""

    release: Release
    jobs: list[Job]


class Lookup(Asked):
    """What is looked for: exactly one of these."""

    number: Annotated[str | None, Field(max_length=40, description="in any usual spelling")] = None
    reference: Annotated[str | None, Field(min_length=1, max_length=200, description="your own row id")] = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.number is None) == (self.reference is None):
            raise InputError("expected number or reference")
        return self


@router.get("/cases/{case}", summary="One case with all its jobs")
def show_case(case: IdentifierPath, door: TheDoor, _: Reader) -> Case:
    """Return where each job stands. What a job waits for is told with the job itself."""
    view = door.inspector.case(case)
    row = CaseDesk(door.inspector).row(view, waits=False)
    release = ReleaseList(door.backends, door.catalogue, level=Level.CLEAN).of(view)
    return Case.model_validate(row | {"release": release.answer()})


@router.post("/lookups", summary="The cases of a number, or of a reference", dependencies=[KEY_TAKEN])
def look_up(*, wanted: Lookup, part: Part, door: TheDoor, _: Reader) -> Page[FoundCase]:
    """Return the cases by their ids; 404 where there is none."""
    if wanted.number is not None:
        found = door.inspector.cases_of_number(wanted.number)
    else:
        found = door.inspector.cases_of_reference(wanted.reference or "")
    after = part.after(str)
    rest = [view for view in found if after is None or view.id > after[0]]
    return part.page(rest, place=lambda view: (view.id,), shown=_found)


def _found(view: CaseView) -> FoundCase:
    counts = dict(Counter(view.record(platform).state for platform in view.platforms))
    return FoundCase(
        case=view.id, number=view.mask, reference=view.reference, verdict=view.verdict, cutoff_at=view.cutoff_at,
        basis=view.basis, cycle=view.cycle, run=view.run, by_state=counts,
    )  # fmt: skip
