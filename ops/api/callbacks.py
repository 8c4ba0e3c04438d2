"""Where platforms call back with answers that come later. The signature is the key: no other is asked for."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from ops.api.problems import Problem
from ops.callback_desk import BODY_BYTES_MAX, CallbackDesk

router = APIRouter(tags=["callbacks"])


class Taken(BaseModel):
    """How many results are on their way."""

    taken: int


async def body_of(request: Request) -> bytes:
    """Return the body as it came; of one that is too large no more is read than shows it."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > BODY_BYTES_MAX:
            break
    return b"".join(parts)


def desk_of(request: Request) -> CallbackDesk:
    """Return the desk of the app that a request came to."""
    door = request.app.state.door
    return CallbackDesk(door.backends, door.catalogue, keys=door.callback_keys)


@router.post(
    "/v1/callbacks/{platform}",
    status_code=202,
    summary="A platform says what became of jobs that it had accepted",
)
def take(
    platform: str,
    request: Request,
    desk: Annotated[CallbackDesk, Depends(desk_of)],
    body: Annotated[bytes, Depends(body_of)],
) -> Taken:
    """Answer 202 once the results are on their way to the recorder; 422 names the items that were refused."""
    reply = desk.take(platform, request.headers, body)
    if reply.is_problem:
        extra = {name: value for name, value in reply.content.items() if name != "detail"}
        raise Problem(reply.status, cast("str", reply.content["detail"]), **extra)
    return Taken(taken=reply.content["taken"])
