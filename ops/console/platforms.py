"""The platforms: the board of all, one of them, and a person's hand on their gates."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from backends.dead import DeadFilter
from ops.api.door import Door, TheDoor
from ops.console import scoreboard
from ops.console.asking import integer_of, number_of, reason_of, text_of
from ops.console.listing import as_file, listing, wanted_file
from ops.console.live import live
from ops.console.visitor import OperatorVisitor, Posted, Reader
from ops.operator import Operator, Turned
from ops.when import parse_ahead
from schemas.errors import InputError

router = APIRouter(prefix="/platforms")
VERBS: Final = ("pause", "resume", "suspend", "probe", "limit", "unlimit")
_PER_PAGE: Final = 300
_ACTIONS_SHOWN: Final = 8


@router.get("")
def scores(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show how every platform does."""
    lines = scoreboard.board(door.catalogue, visitor.lookout.healths())
    filters = {name: request.query_params.get(name, "") for name in ("q", "category", "state")}
    found = listing(
        request, lines, columns=scoreboard.COLUMNS, filters=filters, fits=lambda line: line.fits(filters),
        per_page=_PER_PAGE,
    )  # fmt: skip
    if kind := wanted_file(request):
        rows = (line.row() for line in lines if line.fits(filters))
        return as_file(rows, fields=scoreboard.FIELDS, name="platforms", kind=kind)
    return visitor.page(
        "platforms.html.j2", listing=found, states=scoreboard.states(lines), verbs=scoreboard.verbs,
        gate_choices=scoreboard.CHOICES, categories=sorted({platform.category for platform in door.catalogue}),
    )  # fmt: skip


@router.get("/act")
def ask(request: Request, visitor: OperatorVisitor, door: TheDoor) -> Response:
    """Show what a change would do, and ask for the reason."""
    verb, keys = _asked(request.query_params.get("verb", ""), request.query_params.getlist("key"))
    return visitor.page("platforms_act.html.j2", **_preview(door, verb, keys), problem="", given={})


@router.post("/act")
def act(visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Change the gates; what is wrong with the form is said on the form."""
    verb, keys = _asked(text_of(form, "verb"), [str(key) for key in form.getlist("key")])
    try:
        turned = _turn(Operator(door.backends, door.catalogue, who=visitor.who), verb, keys, form=form)
    except InputError as error:
        given = {name: text_of(form, name) for name in ("for", "calls_per_s", "in_flight", "reason")}
        return visitor.page(
            "platforms_act.html.j2", status=400, **_preview(door, verb, keys), problem=str(error), given=given
        )
    visitor.lookout.forget()
    to = f"/platforms/{keys[0]}" if len(keys) == 1 else "/platforms"
    return visitor.after(to, f"platforms.{verb}", n=len(keys), hurried=sum(each.hurried for each in turned))


@router.get("/{key}")
def one(key: str, visitor: Reader, door: TheDoor) -> Response:
    """Show everything that is known of one platform."""
    platform = door.catalogue.get(key)
    actions = door.backends.actions.list(target=platform.key, limit=_ACTIONS_SHOWN)[::-1]
    groups = door.backends.dead.groups(DeadFilter(platforms=frozenset({platform.key})))
    return visitor.page(
        "platform.html.j2", platform=platform, groups=groups, actions=actions, verbs=scoreboard.verbs,
        **_now(visitor, key),
    )  # fmt: skip


@router.get("/{key}/live")
def one_live(key: str, visitor: Reader, door: TheDoor) -> Response:
    """Send how one platform does, again and again."""
    platform = door.catalogue.get(key)
    return live(visitor, lambda: visitor.piece("platform_now.html.j2", platform=platform, **_now(visitor, key)))


def _now(visitor: Reader, key: str) -> dict[str, Any]:
    (health,) = [health for health in visitor.lookout.healths() if health.key == key]
    return {"health": health, "counters": visitor.lookout.now().counters[key]}


def _asked(verb: str, keys: Sequence[str]) -> tuple[str, list[str]]:
    if verb not in VERBS:
        raise InputError(f"verb: expected one of {', '.join(VERBS)}")
    if not keys:
        raise InputError("key: choose at least one platform")
    return verb, list(dict.fromkeys(keys))


def _preview(door: Door, verb: str, keys: list[str]) -> dict[str, Any]:
    """Return the gates as they are, and as they would be; what limits would do depends on what is typed."""
    dry = Operator(door.backends, door.catalogue, dry_run=True)
    turns = {"pause": dry.pause, "resume": dry.resume, "suspend": dry.suspend, "unlimit": dry.clear_limits}
    would = turns[verb](keys, reason="–") if verb in turns else dry.probe(keys)
    platforms = [door.catalogue.get(key) for key in keys]
    return {"verb": verb, "keys": keys, "would": would, "platforms": platforms}


def _turn(operator: Operator, verb: str, keys: list[str], *, form: Posted) -> list[Turned]:
    if verb == "probe":
        return operator.probe(keys, reason=text_of(form, "reason"))
    reason = reason_of(form)
    if verb == "pause":
        ends = text_of(form, "for")
        until = parse_ahead(ends, option="for", now=operator.now) if ends else None
        return operator.pause(keys, reason=reason, until=until)
    if verb == "limit":
        return operator.limit(
            keys, reason=reason, calls_per_s=number_of(form, "calls_per_s"), in_flight=integer_of(form, "in_flight")
        )
    turns = {"resume": operator.resume, "suspend": operator.suspend, "unlimit": operator.clear_limits}
    return turns[verb](keys, reason=reason)
