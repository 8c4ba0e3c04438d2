"""Release: may a number be sold again."""

from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator

from ops.api.access import Reader
from ops.api.asking import Asked, Identifier
from ops.api.door import TheDoor
from ops.api.idempotency import KEY_TAKEN, OnceRoute
from ops.api.problems import documented
from ops.release import Level, Missing
from ops.release_list import ReleaseList
from schemas.errors import InputError
from schemas.state import State, Verdict

router = APIRouter(prefix="/v1", tags=["release"], route_class=OnceRoute, responses=documented(404))


class Obstacle(BaseModel):
    """One thing that stands against a sale."""

    missing: Missing
    platform: str | None
    state: State | None
    reason: str | None


class Release(BaseModel):
    """Whether a number may be sold again, and what stands against it."""

    verdict: Verdict
    may_be_sold: bool
    level: Level
    why: list[Obstacle]
    case: str
    number: Annotated[str, Field(description="masked")]
    reference: str
    cycle: str
    cutoff_at: str
    run: str
    jobs: int
    clean: int
    open: int
    exceptions: int
    not_asked: list[str]
    as_of: str


class ReleaseQuestion(Asked):
    """Which number: exactly one of the three; its newest case counts."""

    number: Annotated[str | None, Field(max_length=40, description="in any usual spelling")] = None
    reference: Annotated[str | None, Field(min_length=1, max_length=200, description="your own row id")] = None
    case: Identifier | None = None
    level: Annotated[Level, Field(description="what is good enough")] = Level.CLEAN

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(value is not None for value in (self.number, self.reference, self.case)) != 1:
            raise InputError("expected one of number, reference and case")
        return self


@router.post("/releases/check", summary="May this number be sold again?", dependencies=[KEY_TAKEN])
def check(asked: ReleaseQuestion, door: TheDoor, _: Reader) -> Release:
    """Return the answer of its newest case; 404 for a number that was never renewed here, which may not be sold."""
    releases = ReleaseList(door.backends, door.catalogue, level=asked.level)
    if asked.number is not None:
        found = releases.of_number(asked.number)
    elif asked.reference is not None:
        found = releases.of_reference(asked.reference)
    else:
        found = releases.of_case(asked.case or "")
    return Release.model_validate(found.answer())
