"""Replays: what one would be, begin it, see it go on, stop it and let it go on."""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from backends.admission import GateState
from ops.api.door import Door, TheDoor
from ops.console.asking import agreed, integer_of, reason_of, text_of
from ops.console.choosing import Choice
from ops.console.listing import Column, as_file, listing, wanted_file
from ops.console.live import live
from ops.console.visitor import OperatorVisitor, Posted, Reader
from ops.dead_letters import DeadDesk
from ops.replay_desk import ReplayDesk
from ops.replay_report import LIST_FIELDS
from schemas.errors import InputError
from schemas.state import State

router = APIRouter(prefix="/dead")
_COLUMNS: Final = (
    Column(name="replay"),
    Column(name="asked"),
    Column(name="phase"),
    Column(name="progress", wide=True),
    Column(name="settled_jobs", numeric=True),
    Column(name="failed_again", numeric=True),
    Column(name="skipped", numeric=True, wide=True),
)
_CLOSED: Final = frozenset({GateState.PAUSED, GateState.SUSPENDED, GateState.BROKEN})
CANARY: Final = 10
_CANARY_MAX: Final = 1000


@router.get("/replay")
def ask(request: Request, visitor: OperatorVisitor, door: TheDoor) -> Response:
    """Show what a replay would be; nothing is changed."""
    choice = Choice.asked(request.query_params).pinned(now=door.backends.clock.now())
    return visitor.page("dead_replay.html.j2", **_preview(visitor, door, choice, canary=CANARY), problem="", given="")


@router.post("/replay")
def begin(visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Begin a replay, if it is exactly as many jobs as were typed."""
    choice, canary = Choice.said(form), _canary(form)
    jobs = _jobs(door, choice)
    reason, problem = agreed(form, len(jobs), look=visitor.look)
    if problem or not jobs:
        seen, given = _preview(visitor, door, choice, canary=canary), text_of(form, "reason")
        return visitor.page("dead_replay.html.j2", status=409, **seen, problem=problem, given=given)
    wanted = choice.filter(now=door.backends.clock.now())
    desk = ReplayDesk(door.backends, who=visitor.who)
    ident = desk.ask(jobs, reason=reason, wanted=wanted, state=State.DEAD, canary=canary)
    visitor.lookout.forget()
    return visitor.after(f"/dead/replays/{ident}", "replay.begun", n=len(jobs))


@router.get("/replays")
def replays(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show every replay, the newest first."""
    rows = list(ReplayDesk(door.backends).rows())
    if kind := wanted_file(request):
        return as_file(rows, fields=LIST_FIELDS, name="replays", kind=kind)
    return visitor.page("replays.html.j2", listing=listing(request, rows, columns=_COLUMNS, filters={}))


@router.get("/replays/{ident}")
def one(ident: str, visitor: Reader, door: TheDoor) -> Response:
    """Show how far a replay is; the page goes on from there."""
    return visitor.page("replay.html.j2", **_now(door, ident), problem="")


@router.get("/replays/{ident}/live")
def one_live(ident: str, visitor: Reader, door: TheDoor) -> Response:
    """Send the same, again and again."""
    _now(door, ident)
    return live(visitor, lambda: visitor.piece("replay_now.html.j2", **_now(door, ident)))


@router.post("/replays/{ident}/stop")
def stop(*, ident: str, visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Send no more of it; what was sent goes on by itself."""
    ReplayDesk(door.backends, who=visitor.who).stop(ident, reason=reason_of(form))
    return visitor.after(f"/dead/replays/{ident}", "replay.stopped")


@router.post("/replays/{ident}/resume")
def resume(*, ident: str, visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Go on with it, by a canary again where it had stopped by itself."""
    ReplayDesk(door.backends, who=visitor.who).resume(ident, reason=reason_of(form))
    return visitor.after(f"/dead/replays/{ident}", "replay.resumed")


def _jobs(door: Door, choice: Choice) -> list[str]:
    # The first to die goes first.
    return [letter.job for letter in reversed(choice.letters(DeadDesk(door.backends, door.catalogue)))]


def _preview(visitor: OperatorVisitor, door: Door, choice: Choice, *, canary: int) -> dict[str, Any]:
    found = ReplayDesk(door.backends).preview(_jobs(door, choice), door.catalogue, canary=canary)
    gates = visitor.lookout.now().gates
    closed = any(gates[row["platform"]].state in _CLOSED for row in found["platforms"] if row["platform"] in gates)
    return {"choice": choice, "found": found, "gates": gates, "closed": closed}


def _now(door: Door, ident: str) -> dict[str, Any]:
    found = ReplayDesk(door.backends).figures(ident)
    return {"replay": found, "no_scheduler": not door.backends.heartbeats.alive("scheduler")}


def _canary(form: Posted) -> int:
    canary = integer_of(form, "canary") or CANARY
    if canary > _CANARY_MAX:
        raise InputError(f"canary: expected at most {_CANARY_MAX}")
    return canary
