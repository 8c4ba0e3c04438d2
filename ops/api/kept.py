"""What was kept whole because nothing else could be done with it."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from backends.kept import Kind
from ops.api.access import OperatorCaller, Reader
from ops.api.asking import Change, Done, ExpectCount, agree
from ops.api.door import TheDoor
from ops.api.idempotency import KEY_TAKEN, OnceRoute
from ops.api.paging import Page, Part
from ops.api.problems import documented
from ops.kept_desk import KeptDesk

router = APIRouter(prefix="/v1/kept", tags=["kept"], route_class=OnceRoute, responses=documented())


class Kept(BaseModel):
    """One item; numbers in it are sealed. `position` counts from 1, the oldest."""

    kind: Kind
    position: int
    at: Any = None
    why: Any = None
    content: dict[str, Any]


class Drop(Change):
    """A list that is forgotten, if it is as long as that."""

    expect_count: ExpectCount


@router.get("/{kind}", summary="One list, the newest first")
def kept(*, kind: Kind, door: TheDoor, _: Reader, part: Part) -> Page[Kept]:
    """Return a part of it."""
    after = part.after(int)
    found = list(KeptDesk(door.backends).rows(kind, at_most=part.limit + 1, before=after[0] if after else None))
    return part.page(found[::-1], place=lambda row: (row["position"],), shown=Kept.model_validate)


@router.post("/{kind}/drop", summary="Forget one list", responses=documented(409), dependencies=[KEY_TAKEN])
def drop(*, kind: Kind, asked: Drop, door: TheDoor, caller: OperatorCaller) -> Done:
    """Forget it when its cause is mended; read all of it first."""
    desk = KeptDesk(door.backends, who=caller.who)
    agree(desk.count(kind), expect=asked.expect_count, what=f"{kind} to be dropped")
    desk.drop(kind, expected=asked.expect_count, reason=asked.reason)
    return Done(done=f"{asked.expect_count} {kind} dropped")
