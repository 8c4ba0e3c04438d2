"""What needs somebody, and what somebody did: alerts and the actions log."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from backends.actions import Recorded, What
from ops.alerts import ALERT_FIELDS
from ops.api.door import TheDoor
from ops.console.listing import Column, as_file, listing, wanted_file
from ops.console.live import live
from ops.console.overview import grouped
from ops.console.shown import iso
from ops.console.visitor import Reader
from ops.when import parse_ago

router = APIRouter()
_NEWEST: Final = 1000
_FIELDS: Final = ("at", "who", "what", "target", "reason", "before", "after", "id")
_COLUMNS: Final = (
    Column(name="at"),
    Column(name="who"),
    Column(name="what"),
    Column(name="target"),
    Column(name="reason"),
    Column(name="change", wide=True),
)


@router.get("/alerts")
def alerts(request: Request, visitor: Reader) -> Response:
    """Show what is wrong, and what to do about it."""
    found = visitor.lookout.alerts()
    if kind := wanted_file(request):
        return as_file((alert.row() for alert in found), fields=ALERT_FIELDS, name="alerts", kind=kind)
    return visitor.page("alerts.html.j2", groups=grouped(found))


@router.get("/alerts/live")
def alerts_live(visitor: Reader) -> Response:
    """Send the same, again and again."""
    return live(visitor, lambda: visitor.piece("alerts_now.html.j2", groups=grouped(visitor.lookout.alerts())))


@router.get("/actions")
def actions(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show what people changed, the newest first."""
    filters = {name: request.query_params.get(name, "") for name in ("q", "what", "since")}
    since = parse_ago(filters["since"], option="since", now=door.backends.clock.now()) if filters["since"] else None
    every = door.backends.actions.list(since=since, limit=_NEWEST)[::-1]
    if kind := wanted_file(request):
        rows = (_row(each) for each in every if _fits(each, filters))
        return as_file(rows, fields=_FIELDS, name="actions", kind=kind)
    found = listing(request, every, columns=_COLUMNS, filters=filters, fits=lambda each: _fits(each, filters))
    return visitor.page("actions.html.j2", listing=found, whats=[what.value for what in What], newest=_NEWEST)


def _fits(each: Recorded, filters: Mapping[str, str]) -> bool:
    action = each.action
    text = f"{action.who} {action.target} {action.reason}".casefold()
    return filters["what"] in {"", action.what.value} and all(word in text for word in filters["q"].casefold().split())


def _row(each: Recorded) -> dict[str, Any]:
    action = each.action
    return {
        "at": iso(each.at),
        "who": action.who,
        "what": action.what.value,
        "target": action.target,
        "reason": action.reason,
        "before": action.before,
        "after": action.after,
        "id": each.id,
    }
