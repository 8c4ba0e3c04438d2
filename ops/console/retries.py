"""Retries: what waits, until when and why; and letting it be due now, or taking it out."""

from dataclasses import replace
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.datastructures import ImmutableMultiDict
from starlette.responses import Response

from backends.waiting import Why
from backends.waiting_view import WaitingBatch, WaitingFilter
from ops.api.door import TheDoor
from ops.console.asking import agreed, text_of
from ops.console.listing import Column, as_file, listing, wanted_file
from ops.console.visitor import OperatorVisitor, Posted, Reader
from ops.retries import JOB_FIELDS, ROW_FIELDS, Retries
from schemas.errors import InputError

router = APIRouter(prefix="/retries")
GROUP_FIELDS: Final = ("platform", "why", "batches", "jobs", "first_due_at")
VERBS: Final = ("run_now", "cancel")
# A body is read for each: the first ones to be due say what holds things up.
_LOOKED_AT: Final = 2000
_LISTED: Final = 1000
_SAMPLE: Final = 10
_GROUPS: Final = (
    Column(name="platform", key=lambda row: row["platform"]),
    Column(name="why", key=lambda row: row["why"]),
    Column(name="batches", numeric=True, key=lambda row: row["batches"], falling=True),
    Column(name="jobs", numeric=True, key=lambda row: row["jobs"], falling=True),
    Column(name="first_due", key=lambda row: row["first_due_at"]),
    Column(name=""),
)
_BATCHES: Final = (
    Column(name="due", key=lambda waiting: waiting.due_ms),
    Column(name="platform", key=lambda waiting: waiting.platform),
    Column(name="why", key=lambda waiting: waiting.why),
    Column(name="jobs", numeric=True, wide=True, key=lambda waiting: len(waiting.cases), falling=True),
    Column(name="attempt", numeric=True, wide=True, key=lambda waiting: waiting.attempt, falling=True),
    Column(name="run_of", wide=True),
)
_JOBS: Final = (
    Column(name="masked"),
    Column(name="standing"),
    Column(name="reason", wide=True),
    Column(name="tries", numeric=True),
)


@router.get("")
def groups(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show what waits, by platform and why."""
    filters = {name: request.query_params.get(name, "") for name in ("platform", "why")}
    rows = Retries(door.backends).groups(_wanted(request.query_params), at_most=_LOOKED_AT)
    if kind := wanted_file(request):
        return as_file(rows, fields=GROUP_FIELDS, name="retries", kind=kind)
    figures = visitor.lookout.now().waiting
    total = figures.due + figures.later
    found = replace(listing(request, rows, columns=_GROUPS, filters=filters), known=max(total, len(rows)))
    return visitor.page(
        "retries.html.j2", listing=found, figures=figures, whys=list(Why), looked_at=_LOOKED_AT, total=total,
        platforms=sorted(key for key, n in figures.by_platform.items() if n),
    )  # fmt: skip


@router.get("/batches")
def batches(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show batches one by one, the first due first."""
    desk, wanted = Retries(door.backends), _wanted(request.query_params)
    filters = {name: request.query_params.get(name, "") for name in ("platform", "why", "run")}
    if kind := wanted_file(request):
        rows = (desk.row(waiting) for waiting in desk.select(wanted))
        return as_file(rows, fields=ROW_FIELDS, name="retries", kind=kind)
    every = list(islice(desk.select(wanted), _LISTED))
    figures = visitor.lookout.now().waiting
    found = replace(
        listing(request, every, columns=_BATCHES, filters=filters), known=max(len(every), figures.due + figures.later)
    )
    return visitor.page(
        "retries_batches.html.j2", listing=found, whys=list(Why), listed=_LISTED,
        all_of_them=urlencode([(name, value) for name, value in filters.items() if value]),
        platforms=sorted(key for key, n in figures.by_platform.items() if n),
    )  # fmt: skip


@router.get("/batches/{batch}")
def one(*, batch: str, request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show one batch that waits, with its jobs."""
    found = Retries(door.backends).show(batch)
    if kind := wanted_file(request):
        return as_file(found["cases"], fields=JOB_FIELDS, name=f"batch-{found['batch']}", kind=kind)
    return visitor.page(
        "retries_batch.html.j2", batch=found, listing=listing(request, found["cases"], columns=_JOBS, filters={})
    )


@router.get("/act")
def ask(request: Request, visitor: OperatorVisitor, door: TheDoor) -> Response:
    """Show what would be changed, and ask for the reason and the count."""
    said = request.query_params
    chosen = _chosen(Retries(door.backends), said)
    seen = _seen(_verb(said.get("verb", "")), said, chosen)
    return visitor.page("retries_act.html.j2", **seen, problem="", given="")


@router.post("/act")
def act(visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Change exactly as many batches as were typed, or none."""
    desk, verb = Retries(door.backends, who=visitor.who), _verb(text_of(form, "verb"))
    chosen = _chosen(desk, form)
    reason, problem = agreed(form, len(chosen), look=visitor.look)
    if problem:
        seen, given = _seen(verb, form, chosen), text_of(form, "reason")
        return visitor.page("retries_act.html.j2", status=409, **seen, problem=problem, given=given)
    turned = {"run_now": desk.run_now, "cancel": desk.cancel}[verb](chosen, reason=reason)
    visitor.lookout.forget()
    return visitor.after("/retries", f"retries.{verb}", n=turned.batches, jobs=turned.jobs, busy=len(turned.busy))


def _verb(verb: str) -> str:
    if verb not in VERBS:
        raise InputError(f"verb: expected one of {', '.join(VERBS)}")
    return verb


def _wanted(said: ImmutableMultiDict[str, Any]) -> WaitingFilter:
    why = str(said.get("why", ""))
    if why not in {"", *Why}:
        raise InputError(f"why: expected one of {', '.join(Why)}")
    return WaitingFilter(
        platforms=frozenset({str(said.get("platform", ""))} - {""}),
        whys=frozenset({Why(why)} if why else ()),
        batches=frozenset(map(str, said.getlist("batch"))),
        run=str(said.get("run", "")) or None,
    )


def _chosen(desk: Retries, said: ImmutableMultiDict[str, Any]) -> list[WaitingBatch]:
    return desk.choose(_wanted(said), everything="everything" in said)


def _seen(verb: str, said: ImmutableMultiDict[str, Any], chosen: list[WaitingBatch]) -> dict[str, Any]:
    kept = ("platform", "why", "run", "batch", "everything")
    return {
        "verb": verb,
        "fields": [(name, str(value)) for name, value in said.multi_items() if name in kept and value],
        "count": len(chosen),
        "jobs": sum(len(waiting.cases) for waiting in chosen),
        "sample": chosen[:_SAMPLE],
    }
