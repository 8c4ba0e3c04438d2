"""When a page cannot be shown: what is said, in the frame where there is one, with a way on."""

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ops.api.problems import problem_of
from ops.console.drawing import draw
from ops.console.look import look_of
from ops.console.place import PREFIX
from ops.console.visitor import Forbidden, NotLoggedIn
from schemas.errors import BackendUnavailable, RenewalError
from schemas.number import mask_text

_PIECE: Final = "hx-request"


def handle_mishaps(console: FastAPI) -> None:
    """Let every error be answered as a page."""

    async def ours(request: Request, error: Any) -> Response:
        problem = problem_of(error)
        return _page(request, problem.status, problem.detail)

    async def nobody(request: Request, _: Exception) -> Response:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        # A form that was sent cannot be sent again by a link: its page comes first.
        login = f"{PREFIX}/login" + (f"?next={quote(path, safe='')}" if request.method == "GET" else "")
        if request.headers.get(_PIECE):
            return Response(status_code=401, headers={"HX-Redirect": login})
        return RedirectResponse(login, 303)

    async def forbidden(request: Request, error: Any) -> Response:
        look = look_of(request)
        return _page(request, 403, look.say("mishap.scope", scope=look.say(f"scope.{error.needed}")))

    async def invalid(request: Request, error: Any) -> Response:
        fields = ", ".join(str(each["loc"][-1]) for each in error.errors())
        return _page(request, 400, look_of(request).say("mishap.fields", fields=mask_text(fields)))

    async def by_status(request: Request, error: Any) -> Response:
        return _page(request, error.status_code, "")

    async def store_away(request: Request, error: Any) -> Response:
        return await ours(request, BackendUnavailable(f"the status store is away ({type(error).__name__})"))

    console.add_exception_handler(RenewalError, ours)
    console.add_exception_handler(NotLoggedIn, nobody)
    console.add_exception_handler(Forbidden, forbidden)
    console.add_exception_handler(RequestValidationError, invalid)
    console.add_exception_handler(HTTPException, by_status)
    console.add_exception_handler(RedisError, store_away)


def _page(request: Request, status: int, detail: str) -> HTMLResponse:
    look = look_of(request)
    known = f"mishap.{status}"
    title = look.say(known) if status in _SAID else HTTPStatus(status).phrase
    again = status == HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": "5"} if again else None
    drawn = draw("mishap.html.j2", look=look, request=request, status=status, title=title,
                 detail=mask_text(detail), again=again)  # fmt: skip
    return HTMLResponse(drawn, status, headers=headers)


_SAID: Final = frozenset({400, 403, 404, 405, 409, 500, 503})
