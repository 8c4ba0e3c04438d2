"""The actions log: who changed what, when and why."""

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel

from backends.actions import Recorded, What
from ops.api.access import Reader
from ops.api.asking import Instant
from ops.api.door import TheDoor
from ops.api.paging import Page, Part
from ops.api.problems import Problem, documented

router = APIRouter(prefix="/v1", tags=["actions"], responses=documented())
_ENTRY: Final = re.compile(r"\d{1,15}-\d{1,15}")


class Action(BaseModel):
    """One change by a person or a program; `who` is `api:` and the name of a key, or an account of a machine."""

    at: str
    who: str
    what: What
    target: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any]
    id: str


@router.get("/actions", summary="What was changed, the newest first")
def actions(
    *,
    door: TheDoor,
    _: Reader,
    part: Part,
    what: Annotated[What | None, Query()] = None,
    target: Annotated[str | None, Query(max_length=200, description="a platform, job, run or key")] = None,
    since: Annotated[Instant | None, Query()] = None,
) -> Page[Action]:
    """Return a part of those that fit."""
    after = part.after(str)
    if after is not None and not _ENTRY.fullmatch(after[0]):
        raise Problem(400, "cursor: expected `next` of an answer of this same list")
    found = door.backends.actions.list(
        what=what, target=target, since=since, before=after[0] if after else None, limit=part.limit + 1
    )
    return part.page(found[::-1], place=lambda entry: (entry.id,), shown=_shown)


def _shown(entry: Recorded) -> Action:
    return Action.model_validate(entry.row())
