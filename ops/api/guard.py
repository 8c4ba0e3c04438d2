"""Bodies that are too large or too slow are cut: the server under us waits and reads for ever."""

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.api.problems import Problem

BODY_BYTES_MAX: Final = 1 << 20
# Files are streamed to disk, never into memory.
LARGER: Final[Mapping[tuple[str, str], int]] = {("POST", "/v1/runs"): 4 << 30}
# So long for a body of any size, and more as it comes, but not for one that drips.
GRACE_S: Final = 10.0
PACE_BYTES_PER_S: Final = 32 << 10
# What is left of a body is not read: the connection ends with the answer.
_CLOSE: Final = {"Connection": "close"}


class Guard:
    """Middleware around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, if its body comes whole and in time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, most=LARGER.get((scope["method"], scope["path"]), BODY_BYTES_MAX), grace_s=GRACE_S)
        if _declared(scope) > body.most:
            await Problem(413, _too_large(body.most), headers=_CLOSE).response()(scope, receive, send)
            return
        await self._app(scope, body.receive, send)


class _Body:
    def __init__(self, receive: Receive, *, most: int, grace_s: float) -> None:
        self._receive, self.most, self._grace_s = receive, most, grace_s
        self._began_s: float | None = None
        self._bytes, self._whole = 0, False

    async def receive(self) -> Message:
        if self._whole:
            # Somebody waits for the client to go away, for as long as it stays.
            return await self._receive()
        now_s = asyncio.get_running_loop().time()
        if self._began_s is None:
            self._began_s = now_s
        left_s = self._began_s + self._grace_s + self._bytes / PACE_BYTES_PER_S - now_s
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, left_s))
        except TimeoutError:
            raise HTTPException(408, "the body came too slowly", headers=_CLOSE) from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._bytes > self.most:
                raise HTTPException(413, _too_large(self.most), headers=_CLOSE)
        return message


def _declared(scope: Scope) -> int:
    found = dict(scope["headers"]).get(b"content-length", b"0")
    return int(found) if found.isdigit() else 0


def _too_large(most: int) -> str:
    return f"the body is larger than {most} bytes"
