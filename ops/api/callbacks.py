"""Where platforms call back with answers that come later. The signature is the key: no other is asked for."""

from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Request
from fastapi.security import APIKeyHeader
from pydantic import BaseModel

from backends.signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from ops.api.problems import MEDIA_TYPE, Problem
from ops.callback_desk import BODY_BYTES_MAX, CallbackDesk
from workers.callback import ITEMS_MAX

# What the document says; the desk checks it, on the bytes of the body.
_SIGNED: Final = APIKeyHeader(
    name=SIGNATURE_HEADER,
    scheme_name="standardWebhooks",
    description="a signature of Standard Webhooks",
    auto_error=False,
)
router = APIRouter(tags=["callbacks"], dependencies=[Depends(_SIGNED)])
_TEXT: Final = {"type": "string"}
_RESULT: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "code"],
    "properties": {"id": _TEXT, "code": _TEXT, "reason": _TEXT, "reference": _TEXT, "next": {"const": "user"}},
}
_RESULTS: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["results"],
    "properties": {"results": {"type": "array", "minItems": 1, "maxItems": ITEMS_MAX, "items": _RESULT}},
}
# The body is read as bytes, since these are what was signed: so what it looks like is said here.
_ASKED: Final[dict[str, Any]] = {
    "parameters": [
        {"name": name, "in": "header", "required": True, "schema": _TEXT} for name in (ID_HEADER, TIMESTAMP_HEADER)
    ],
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [_RESULT, _RESULTS]}}}},
}
_REFUSALS: Final = {
    401: "no signature fits, or it is not of now",
    404: "no platform of this name calls back here",
    409: "another callback had this webhook-id before",
    413: "the body is too large",
    422: "it is no callback, or `errors` names the results that were refused; `taken` were taken",
    503: "the status store or the broker is away: the same again later",
}
_PROBLEM: Final = {"type": "object", "required": ["type", "title", "status", "detail"]}


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
    responses={
        status: {"description": words, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
        for status, words in _REFUSALS.items()
    },
    openapi_extra=_ASKED,
)
def take(
    *,
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
