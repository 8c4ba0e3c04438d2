"""Who looks: a browser that showed a key, what it may do, and how it likes its pages."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from redis.exceptions import RedisError
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backends.api_keys import ApiKey, Scope
from backends.sessions import Session
from ops.api.door import TheDoor
from ops.console.drawing import draw
from ops.console.look import Look, TheLook
from ops.console.lookout import Lookout, TheLookout
from ops.console.notice import Notice
from ops.console.place import PREFIX, is_ours
from schemas.errors import BackendUnavailable, NotFound, Refused

COOKIE: Final = "renewal_session"
TOKEN: Final = "form_token"  # noqa: S105 - the name of a field


class NotLoggedIn(Exception):
    """Nobody is known behind this request: the login page comes first."""


class Forbidden(Exception):
    """Somebody is known, and their key does not reach this far; `needed` is the scope that would."""

    def __init__(self, needed: Scope) -> None:
        super().__init__(needed)
        self.needed = needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A person with a session. Draws pages for them, in their language, with what their key allows."""

    key: ApiKey
    session: Session
    look: Look
    lookout: Lookout
    request: Request

    @property
    def who(self) -> str:
        """What the actions log says of them."""
        return f"console:{self.key.name}"

    def may(self, scope: str) -> bool:
        """Whether their key reaches this far; what it does not reach is not drawn."""
        return self.key.scope.covers(Scope(scope))

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Draw a page inside the frame; `values` are what the template is about."""
        values |= {"visitor": self, "bar": self._bar(), "notice": Notice.of(self.request, self.look)}
        answer = HTMLResponse(draw(template, look=self.look, request=self.request, **values), status)
        Notice.forget(answer)
        return answer

    def piece(self, template: str, **values: Any) -> str:
        """Draw a part of a page, without the frame."""
        return draw(template, look=self.look, request=self.request, visitor=self, **values)

    def after(self, path: str, told: str = "", **values: object) -> Response:
        """Send the browser on to a page after a change; `told` is the word of what is said there, once."""
        answer = RedirectResponse(f"{PREFIX}{path}", 303)
        if told:
            Notice.leave(answer, told, values)
        return answer

    def _bar(self) -> dict[str, Any] | None:
        """What stands at the top of every page; None while nothing can be read."""
        try:
            now = self.lookout.now(fresh_s=_BAR_FRESH_S)
            alerts = self.lookout.alerts()
        except (RedisError, BackendUnavailable):
            return None
        return {"now": now, "alerts": alerts}


_BAR_FRESH_S: Final = 5.0


async def posted(request: Request) -> FormData:
    """Return the fields of the form that was sent; read once, however many ask."""
    return await request.form()


Posted = Annotated[FormData, Depends(posted)]


async def _sent(request: Request) -> FormData | None:
    return await request.form() if request.method == "POST" else None


def visitor(scope: Scope) -> Callable[..., Visitor]:
    """Return the dependency of a page that only keys of this scope, or a greater one, may see or send.

    A form is taken only from our own pages: its origin must be ours, and it must carry the token of the session.
    """

    def found(
        *,
        request: Request,
        door: TheDoor,
        look: TheLook,
        lookout: TheLookout,
        form: Annotated[FormData | None, Depends(_sent)],
    ) -> Visitor:
        session = door.backends.sessions.find(request.cookies.get(COOKIE, ""))
        if session is None:
            raise NotLoggedIn
        try:
            key = door.backends.api_keys.get(session.key_id)
        except NotFound:
            raise NotLoggedIn from None
        if not key.valid_at(door.backends.clock.now()):
            raise NotLoggedIn
        if form is not None:
            check_origin(request, public_url=door.backends.settings.public_url)
            if not hmac.compare_digest(str(form.get(TOKEN, "")).encode(), session.form_token.encode()):
                raise Refused("this form was not made for your session: load the page again, then send it")
        if not key.scope.covers(scope):
            raise Forbidden(scope)
        return Visitor(key=key, session=session, look=look, lookout=lookout, request=request)

    return found


def check_origin(request: Request, *, public_url: str | None) -> None:
    """Raise Refused unless a form comes from one of our own pages; every browser says where a form comes from."""
    origin = request.headers.get("origin")
    ours = {f"{request.url.scheme}://{request.headers.get('host', '')}"}
    if public_url:
        ours.add("/".join(public_url.split("/")[:3]))
    if origin not in ours:
        raise Refused("this form comes from another site: nothing was changed")


def back_to(text: str) -> str:
    """Return a path of the console to go back to, given by a browser; the overview if it is none of ours."""
    return text if is_ours(text) else f"{PREFIX}/"


Reader = Annotated[Visitor, Depends(visitor(Scope.READ))]
OperatorVisitor = Annotated[Visitor, Depends(visitor(Scope.OPERATE))]
AdminVisitor = Annotated[Visitor, Depends(visitor(Scope.ADMIN))]
