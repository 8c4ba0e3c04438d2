"""Routes of the owner's page: no login, no cookie, no script. Who has the link may look, and may withdraw."""

from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from backends.pace import Pace
from ops.api.access import address_of, limit_headers
from ops.api.door import Door, TheDoor
from ops.owner.html import OwnerHtml, as_data
from ops.owner.view import OwnerView, owner_view
from ops.owner.words import chosen
from platforms.calendar import WorkingDays
from producers.authorisation_end import AuthorisationEnd
from schemas.errors import NotFound

# A family behind one address, with reloads; who tries links one by one needs longer than there is time.
OF_LOOKS: Final = Pace(name="owner", per_s=0.5, burst=60)
_WHO: Final = "owner, by link"
_html, _calendar = OwnerHtml(), WorkingDays.load()
_HEADERS: Final = {
    "Content-Security-Policy": _html.policy,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Language",
}
# It is no part of the API: there is nothing to be called by a program that has no link.
router = APIRouter(prefix="/o", include_in_schema=False)


def _language(request: Request, lang: Annotated[str | None, Query()] = None) -> str:
    return chosen(request.headers.get("accept-language", ""), lang)


Language = Annotated[str, Depends(_language)]


@router.get("/{token}.json")
def data(token: str, *, door: TheDoor, request: Request, language: Language) -> Response:
    """Return what the page says, as data."""
    if (refused := _too_fast(door, request, language)) is not None:
        return refused
    view = _view(door, token)
    if view is None:
        return _gone(language)
    return Response(orjson.dumps(as_data(view, language=language)), headers=_HEADERS, media_type="application/json")


@router.get("/{token}")
def page(token: str, *, door: TheDoor, request: Request, language: Language) -> Response:
    """Show how far a request is."""
    if (refused := _too_fast(door, request, language)) is not None:
        return refused
    view = _view(door, token)
    if view is None:
        return _gone(language)
    return HTMLResponse(_html.page(view, language=language, token=token), headers=_HEADERS)


@router.post("/{token}/withdraw")
def withdraw(
    token: str, *, door: TheDoor, request: Request, language: Language,
    given: Annotated[str, Form(alias="token")] = "", sure: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Withdraw the authorisation, if the form says so, and show the page again."""
    if (refused := _too_fast(door, request, language)) is not None:
        return refused
    case = door.backends.owner_links.follow(token) if given == token else None
    if case is None:
        return _gone(language)
    if sure == "yes" and door.backends.authorisations.of(case) is not None:
        AuthorisationEnd(door.backends, who=_WHO).withdraw(case, reason="withdrawn on the owner's page")
    return RedirectResponse(f"/o/{token}?lang={language}", status_code=303, headers=_HEADERS)


def _view(door: Door, token: str) -> OwnerView | None:
    """Return what a link leads to; None alike for one that never was, has ended or was revoked."""
    case = door.backends.owner_links.follow(token)
    if case is None:
        return None
    try:
        view = door.backends.store.case(case)
    except NotFound:
        return None
    return owner_view(
        view,
        door.catalogue,
        given=door.backends.authorisations.of(case),
        calendar=_calendar,
        now=door.backends.clock.now(),
    )


def _gone(language: str) -> Response:
    return HTMLResponse(_html.said("gone", language=language), status_code=404, headers=_HEADERS)


def _too_fast(door: Door, request: Request, language: str) -> Response | None:
    paced = door.backends.paces.take(OF_LOOKS, door.backends.vault.token(address_of(request)))
    if paced.allowed:
        return None
    headers = {**_HEADERS, **limit_headers(OF_LOOKS, paced), "Retry-After": str(max(1, round(paced.next_s + 0.5)))}
    return HTMLResponse(_html.said("slow", language=language), status_code=429, headers=headers)
