"""What every answer carries, and the one log line that every request leaves."""

import time
from typing import Any, Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.api.problems import Problem
from schemas.ids import new_id

# A page that sets a header of its own keeps it.
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_ASKED_BY_MACHINES: Final = frozenset({"/healthz", "/readyz"})
log = structlog.get_logger()


class Frame:
    """Middleware around all others: names a request, sets the headers of its answer, logs it, catches what crashed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ident, began_s, status = new_id(), time.perf_counter(), 0
        state: dict[str, Any] = scope.setdefault("state", {})

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, **state.get("headers", {}), "X-Request-Id": ident}.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, framed)
        except Exception:
            log.exception("request.crashed", request=ident, method=scope["method"], route=_route(scope))
            if status:
                # It has begun: an answer that breaks off is taken for whole by nobody.
                raise
            await Problem(500, f"a fault of this program; its log names request {ident}").response()(
                scope, receive, framed
            )
        finally:
            if scope["path"] not in _ASKED_BY_MACHINES:
                caller = state.get("caller")
                log.info(
                    "request.ended", request=ident, method=scope["method"], route=_route(scope), status=status,
                    ms=round(1000 * (time.perf_counter() - began_s), 1), caller=getattr(caller, "name", None),
                )  # fmt: skip


def _route(scope: Scope) -> str | None:
    """Return the pattern that was matched: a path may hold what somebody should not have put there."""
    return getattr(scope.get("route"), "path", None)
