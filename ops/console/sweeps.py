"""Sweeps: when each runs, where it stands, its nights, and a person's hand on it; and what platforms must be told."""

from datetime import date
from threading import Event
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from backends.withdrawals import BY_HAND, Stage
from ops.api.asking import NAME_PATTERN
from ops.api.door import Door, TheDoor
from ops.console.asking import agreed, reason_of, text_of
from ops.console.listing import Column, as_file, listing, wanted_file
from ops.console.visitor import OperatorVisitor, Posted, Reader
from ops.sweep_desk import LIST_FIELDS, NIGHT_FIELDS, WITHDRAWAL_FIELDS, SweepDesk
from schemas.errors import InputError, NotFound

router = APIRouter()
Name = Annotated[str, Path(pattern=NAME_PATTERN)]
_SWEEPS: Final = (
    Column(name="sweep", key=lambda row: row["name"]),
    Column(name="stands"),
    Column(name="next_night", key=lambda row: row["next"] or ""),
    Column(name="last_night", wide=True, key=lambda row: row["last_day"] or "", falling=True),
    Column(name="planned", numeric=True, wide=True),
    Column(name="taken_in", numeric=True),
)
_NIGHTS: Final = (
    Column(name="night", key=lambda row: row["day"], falling=True),
    Column(name="ending", key=lambda row: row["ending"]),
    Column(name="lasted", wide=True),
    Column(name="planned", numeric=True, key=lambda row: row["planned"], falling=True),
    Column(name="taken_in", numeric=True, key=lambda row: row["accepted"], falling=True),
    Column(name="known", numeric=True, wide=True),
    Column(name="stopped", numeric=True, wide=True),
)
_WITHDRAWALS: Final = (
    Column(name="masked"),
    Column(name="platform", key=lambda row: row["platform"]),
    Column(name="stage", key=lambda row: row["stage"]),
    Column(name="requested", key=lambda row: row["requested_at"]),
    Column(name="tries", numeric=True, wide=True),
    Column(name="details", wide=True),
)


@router.get("/sweeps")
def sweeps(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show every sweep."""
    rows = SweepDesk(door.backends, door.catalogue).rows() if door.backends.settings.sweeps else []
    if kind := wanted_file(request):
        return as_file(rows, fields=LIST_FIELDS, name="sweeps", kind=kind)
    found = listing(request, rows, columns=_SWEEPS, filters={})
    by_hand = sum(visitor.lookout.now().by_hand.values())
    return visitor.page("sweeps.html.j2", listing=found, by_hand=by_hand)


@router.get("/sweeps/{name}")
def one(*, name: Name, request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show one sweep and its nights, the newest first."""
    found = _desk(door).show(name)
    if kind := wanted_file(request):
        return as_file(found["nights"], fields=NIGHT_FIELDS, name=f"sweep-{name}", kind=kind)
    page = listing(request, found["nights"], columns=_NIGHTS, filters={})
    return visitor.page("sweep.html.j2", sweep=found, listing=page)


@router.get("/sweeps/{name}/nights/{day}")
def night(*, name: Name, day: date, request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show one night beside its forecast; what happened is compared only where somebody asks: it reads every case."""
    desk = _desk(door)
    found, foreseen = desk.report(name, day=day), desk.foreseen(name, day=day)
    seen = desk.look_back(name, day=day) if "compare" in request.query_params else None
    return visitor.page("night.html.j2", name=name, night=found, foreseen=foreseen, seen=seen)


@router.post("/sweeps/{name}/pause")
def pause(*, name: Name, visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Begin and send nothing more of it; what was sent goes on by itself."""
    _desk(door, visitor.who).pause(name, reason=reason_of(form))
    return visitor.after(f"/sweeps/{name}", "sweep.paused")


@router.post("/sweeps/{name}/resume")
def resume(*, name: Name, visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Let it go on; for nights that were missed its catch-up rule holds."""
    _desk(door, visitor.who).resume(name, reason=reason_of(form))
    return visitor.after(f"/sweeps/{name}", "sweep.resumed")


@router.post("/sweeps/{name}/run")
def run_now(*, name: Name, visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Read its inventory and begin the night that is due, or today's; the scheduler goes on with it."""
    begun, reason = Event(), reason_of(form)
    found = _desk(door, visitor.who).run(name, day=None, reason=reason, stop=begun, progress=lambda _: begun.set())
    return visitor.after(f"/sweeps/{name}/nights/{found.day}", "sweep.begun", day=found.day)


@router.get("/withdrawals")
def withdrawals(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show what platforms are to be told, and were told, of numbers that were taken back."""
    filters = {name: request.query_params.get(name, "") for name in ("stage", "platform")}
    if filters["stage"] not in {"", *Stage}:
        raise InputError(f"stage: expected one of {', '.join(Stage)}")
    every = SweepDesk(door.backends, door.catalogue).withdrawals(stage=None)

    def fits(row: dict[str, Any]) -> bool:
        return filters["stage"] in {"", row["stage"]} and filters["platform"] in {"", row["platform"]}

    if kind := wanted_file(request):
        return as_file((row for row in every if fits(row)), fields=WITHDRAWAL_FIELDS, name="withdrawals", kind=kind)
    return visitor.page(
        "withdrawals.html.j2", listing=listing(request, every, columns=_WITHDRAWALS, filters=filters, fits=fits),
        stages=list(Stage), by_hand=BY_HAND, platforms=sorted({row["platform"] for row in every}),
    )  # fmt: skip


@router.get("/withdrawals/told")
def ask(request: Request, visitor: OperatorVisitor, door: TheDoor) -> Response:
    """Ask how the platforms were told of these."""
    jobs = _jobs(request.query_params.getlist("job"))
    rows = [row for row in SweepDesk(door.backends, door.catalogue).withdrawals(stage=None) if row["job"] in jobs]
    return visitor.page("withdrawals_told.html.j2", rows=rows, problem="", given="")


@router.post("/withdrawals/told")
def told(visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Note that a person has told the platforms of these, all or none."""
    jobs, desk = _jobs(form.getlist("job")), SweepDesk(door.backends, door.catalogue, who=visitor.who)
    reason, problem = agreed(form, len(jobs), look=visitor.look)
    if problem:
        rows = [row for row in desk.withdrawals(stage=None) if row["job"] in jobs]
        given = text_of(form, "reason")
        return visitor.page("withdrawals_told.html.j2", status=409, rows=rows, problem=problem, given=given)
    desk.told(jobs, reason=reason)
    return visitor.after("/withdrawals", "sweep.told", n=len(jobs))


def _jobs(said: list[Any]) -> list[str]:
    jobs = list(dict.fromkeys(map(str, said)))
    if not jobs:
        raise InputError("job: choose at least one")
    return jobs


def _desk(door: Door, who: str = "") -> SweepDesk:
    if door.backends.settings.sweeps is None:
        raise NotFound("no sweeps are set here")
    return SweepDesk(door.backends, door.catalogue, who=who)
