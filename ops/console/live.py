"""Parts of a page that stay current: drawn anew each second and sent only when they have changed."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response, StreamingResponse

from ops.api.door import door_of
from ops.console.visitor import Visitor
from schemas.errors import BackendUnavailable

EVERY_S: Final = 1.0
# A browser comes again by itself; so one that lost its key is known within this time.
_LIFE_S: Final = 60.0
_SIGN_S: Final = 15.0


def live(visitor: Visitor, piece: Callable[[], str]) -> Response:
    """Send what `piece` draws: once where a browser asks so, else as server-sent events while it listens."""
    if "once" in visitor.request.query_params:
        return HTMLResponse(piece())
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_events(visitor.request, piece), media_type="text/event-stream", headers=headers)


async def _events(request: Request, piece: Callable[[], str]) -> AsyncIterator[bytes]:
    sent, until_s, signed_s = "", time.monotonic() + _LIFE_S, time.monotonic()
    yield format_sse_event(retry=1000)
    ending = door_of(request).ending
    while time.monotonic() < until_s and not ending.is_set() and not await request.is_disconnected():
        try:
            drawn = await run_in_threadpool(piece)
        except (RedisError, BackendUnavailable):
            # The page says so itself when it has heard nothing for a while.
            drawn = ""
        digest = hashlib.sha256(drawn.encode()).hexdigest()
        if drawn and digest != sent:
            sent, signed_s = digest, time.monotonic()
            yield format_sse_event(data_str=drawn)
        elif time.monotonic() - signed_s > _SIGN_S:
            signed_s = time.monotonic()
            yield KEEPALIVE_COMMENT
        await asyncio.sleep(EVERY_S)
