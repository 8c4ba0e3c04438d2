"""Coming in with a key, going out, and choosing language and theme."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backends.keys import SESSION_TTL_S
from ops.api.access import OF_BAD_KEYS, address_of
from ops.api.door import TheDoor
from ops.console.drawing import draw
from ops.console.look import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, TheLook
from ops.console.place import PREFIX
from ops.console.visitor import COOKIE, Posted, Reader, back_to, check_origin
from ops.console.words import LANGUAGES

router = APIRouter()
_YEAR_S = 365 * 86_400


@router.get("/login")
def ask(request: Request, look: TheLook, next: str = "") -> Response:  # noqa: A002 - the name in the address
    """Ask for a key."""
    return HTMLResponse(draw("login.html.j2", look=look, request=request, back=back_to(next), problem=""))


@router.post("/login")
def begin(*, request: Request, door: TheDoor, look: TheLook, form: Posted) -> Response:
    """Begin a session with a key; the cookie is not the key."""
    check_origin(request, public_url=door.backends.settings.public_url)
    back = back_to(str(form.get("next", "")))
    key = door.backends.api_keys.find(str(form.get("key", "")).strip(), now=door.backends.clock.now())
    if key is None:
        # The pace of wrong keys is one, whether they are tried here or at the API.
        known = door.backends.paces.take(OF_BAD_KEYS, address_of(request)).allowed
        problem = look.say("login.wrong" if known else "login.often")
        page = draw("login.html.j2", look=look, request=request, back=back, problem=problem)
        return HTMLResponse(page, 401 if known else 429)
    cookie, _ = door.backends.sessions.begin(key.id)
    answer = RedirectResponse(back, 303)
    answer.set_cookie(
        COOKIE, cookie, max_age=SESSION_TTL_S, path=PREFIX, httponly=True, samesite="strict",
        secure=_by_https(request, door.backends.settings.public_url),
    )  # fmt: skip
    return answer


@router.post("/logout")
def end(request: Request, door: TheDoor, _: Reader) -> Response:
    """End the session, here and in the store."""
    door.backends.sessions.end(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse(f"{PREFIX}/login", 303)
    answer.delete_cookie(COOKIE, path=PREFIX)
    return answer


@router.post("/look")
def choose(request: Request, door: TheDoor, form: Posted) -> Response:
    """Keep the language and the theme that were chosen; anybody may."""
    check_origin(request, public_url=door.backends.settings.public_url)
    answer = RedirectResponse(back_to(str(form.get("back", ""))), 303)
    for name, cookie, known in (("language", LANGUAGE_COOKIE, LANGUAGES), ("theme", THEME_COOKIE, THEMES)):
        value = str(form.get(name, ""))
        if value in known:
            answer.set_cookie(cookie, value, max_age=_YEAR_S, path=PREFIX, httponly=True, samesite="lax")
    return answer


def _by_https(request: Request, public_url: str | None) -> bool:
    return request.url.scheme == "https" or (public_url or "").startswith("https:")
