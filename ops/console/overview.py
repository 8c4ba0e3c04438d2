"""The first page: how the whole stands now, and what needs somebody."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from ops.console.live import live
from ops.console.visitor import Reader

router = APIRouter()


@router.get("/")
def overview(visitor: Reader) -> Response:
    """Show the whole at one moment; the page goes on from there."""
    return visitor.page("overview.html.j2", **_seen(visitor))


@router.get("/live/overview")
def overview_live(visitor: Reader) -> Response:
    """Send the same, again and again."""
    return live(visitor, lambda: visitor.piece("overview_now.html.j2", **_seen(visitor)))


def _seen(visitor: Reader) -> dict[str, Any]:
    lookout = visitor.lookout
    now = lookout.now()
    return {"now": now, "alerts": lookout.alerts(), "rates": lookout.rates(), "healths": lookout.healths()}
