"""Dead letters: by cause, one by one, what one went through; and giving them up."""

from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from backends.dead import DeadFilter
from ops.api.door import Door, TheDoor
from ops.console.asking import agreed, text_of
from ops.console.choosing import SINCE, Choice
from ops.console.folding import folded
from ops.console.listing import Column, as_file, listing, wanted_file
from ops.console.visitor import OperatorVisitor, Posted, Reader
from ops.dead_letters import GROUP_FIELDS, ROW_FIELDS, DeadDesk
from ops.replay_desk import ReplayDesk
from schemas.state import State

router = APIRouter(prefix="/dead")
_GROUPS: Final = (
    Column(name="cause", key=lambda row: (row["platform"], row["reason"] or "")),
    Column(name="letters", numeric=True, key=lambda row: row["count"], falling=True),
    Column(name="first_died", wide=True, key=lambda row: row["first_at"]),
    Column(name="last_died", wide=True, key=lambda row: row["last_at"], falling=True),
    Column(name="sample", wide=True),
    Column(name=""),
)
_LETTERS: Final = (
    Column(name="masked"),
    Column(name="cause"),
    Column(name="died", key=lambda letter: letter.died_ms, falling=True),
    Column(name="tries", numeric=True, wide=True),
    Column(name="answer", wide=True),
)
_SAMPLE: Final = 10
_REPLAYS_SHOWN: Final = 3


@router.get("")
def groups(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show the causes, the largest first: a person mends causes."""
    desk, filters = _desk(door), _filters(request, "platform", "reason", "since")
    wanted = Choice.asked(request.query_params).filter(now=desk.now)
    rows = desk.groups(wanted)
    if kind := wanted_file(request):
        return as_file(rows, fields=GROUP_FIELDS, name="dead-groups", kind=kind)
    every = rows if wanted.is_empty else desk.groups(DeadFilter())
    found = replace(listing(request, rows, columns=_GROUPS, filters=filters), known=len(every))
    newest = [row for row, _ in zip(ReplayDesk(door.backends).rows(), range(_REPLAYS_SHOWN), strict=False)]
    return visitor.page(
        "dead_groups.html.j2", listing=found, every=every, total=sum(row["count"] for row in rows), since=SINCE,
        replays=newest,
    )  # fmt: skip


@router.get("/letters")
def letters(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show letters one by one, the newest first."""
    desk, filters = _desk(door), _filters(request, "platform", "reason", "since", "run")
    choice = Choice.asked(request.query_params)
    every = choice.letters(desk)
    if kind := wanted_file(request):
        return as_file(desk.rows(every), fields=ROW_FIELDS, name="dead-letters", kind=kind)
    page = listing(request, every, columns=_LETTERS, filters=filters)
    return visitor.page(
        "dead_letters.html.j2", listing=replace(page, known=visitor.lookout.now().dead_total or page.found),
        shown={row["job"]: row for row in desk.rows(page.rows)}, groups=desk.groups(DeadFilter()), since=SINCE,
        all_of_them=urlencode(list(choice.fields())),
    )  # fmt: skip


@router.get("/jobs/{job}")
def letter(job: str, visitor: Reader, door: TheDoor) -> Response:
    """Show what one job went through, dead or not, and what may be done about it."""
    facts = _desk(door).show(job)
    return visitor.page(
        "dead_letter.html.j2", facts=facts, folds=folded(facts["steps"]), dead=facts["state"] is State.DEAD
    )


@router.get("/discard")
def ask(request: Request, visitor: OperatorVisitor, door: TheDoor) -> Response:
    """Show what would be given up, and ask for the reason and the count."""
    return visitor.page(
        "dead_discard.html.j2", **_chosen(door, Choice.asked(request.query_params)), problem="", given=""
    )


@router.post("/discard")
def discard(visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Give letters up for good, if they are exactly as many as were typed."""
    desk, choice = DeadDesk(door.backends, door.catalogue, who=visitor.who), Choice.said(form)
    chosen = choice.letters(desk)
    reason, problem = agreed(form, len(chosen), look=visitor.look)
    if problem:
        seen = _chosen(door, choice)
        given = text_of(form, "reason")
        return visitor.page("dead_discard.html.j2", status=409, **seen, problem=problem, given=given)
    changed = desk.discard(chosen, reason=reason)
    visitor.lookout.forget()
    return visitor.after("/dead", "dead.discard", n=changed, of=len(chosen))


def _chosen(door: Door, choice: Choice) -> dict[str, Any]:
    desk = _desk(door)
    pinned = choice.pinned(now=desk.now)
    found = pinned.letters(desk)
    return {
        "choice": pinned,
        "count": len(found),
        "sample": list(desk.rows(found[:_SAMPLE])),
        "platforms": sorted({letter.platform for letter in found}),
    }


def _filters(request: Request, *names: str) -> dict[str, str]:
    return {name: request.query_params.get(name, "") for name in names}


def _desk(door: Door) -> DeadDesk:
    return DeadDesk(door.backends, door.catalogue)
