"""Runs: files that were handed in, how far each is, what came of it, and ending one before its end."""

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from ops.api.door import Door, TheDoor
from ops.api.runs import csv_lines
from ops.cancelling import finish_cancels
from ops.case_desk import CaseDesk
from ops.console.asking import reason_of
from ops.console.listing import Column, as_file, listing, wanted_file
from ops.console.live import live
from ops.console.visitor import OperatorVisitor, Posted, Reader
from ops.run_desk import LIST_FIELDS, PLATFORM_FIELDS, RunDesk, RunState

router = APIRouter(prefix="/runs")
_NEWEST: Final = 500
_COLUMNS: Final = (
    Column(name="file", key=lambda row: row["file"]),
    Column(name="run_state", key=lambda row: row["state"]),
    Column(name="started", key=lambda row: row["started_at"] or "", falling=True),
    Column(name="progress", wide=True, key=lambda row: row["done_pct"] or 0),
    Column(name="cases", numeric=True, key=lambda row: row["cases"], falling=True),
    Column(name="jobs", numeric=True, wide=True, key=lambda row: row["jobs"], falling=True),
    Column(name="dead", numeric=True, key=lambda row: row["dead"], falling=True),
)
_PLATFORMS: Final = (
    Column(name="platform", key=lambda row: row["platform"]),
    Column(name="jobs", numeric=True, key=lambda row: row["jobs"], falling=True),
    Column(name="settled_jobs", numeric=True, key=lambda row: row["settled"], falling=True),
    Column(name="waiting", numeric=True, wide=True, key=lambda row: row["waiting"], falling=True),
    Column(name="dead", numeric=True, key=lambda row: row["dead"], falling=True),
    Column(name="progress", wide=True),
)
_PER_PAGE: Final = 300


@router.get("")
def runs(request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Show runs, the newest first."""
    filters = {name: request.query_params.get(name, "") for name in ("q", "state")}
    rows = list(_desk(door).rows(limit=_NEWEST))

    def fits(row: dict[str, Any]) -> bool:
        text = f"{row['file']} {row['run']}".casefold()
        return filters["state"] in {"", row["state"]} and all(word in text for word in filters["q"].casefold().split())

    if kind := wanted_file(request):
        return as_file((row for row in rows if fits(row)), fields=LIST_FIELDS, name="runs", kind=kind)
    found = listing(request, rows, columns=_COLUMNS, filters=filters, fits=fits)
    return visitor.page("runs.html.j2", listing=found, states=list(RunState), newest=_NEWEST)


@router.get("/{run}")
def one(run: str, visitor: Reader, door: TheDoor) -> Response:
    """Show how far a run is; the page goes on from there."""
    desk = _desk(door)
    return visitor.page("run.html.j2", run=desk.show(run), rejected=desk.rejected(run))


@router.get("/{run}/live")
def one_live(run: str, visitor: Reader, door: TheDoor) -> Response:
    """Send the same, again and again."""
    desk = _desk(door)
    desk.facts(run)
    return live(visitor, lambda: visitor.piece("run_now.html.j2", run=desk.show(run)))


@router.get("/{run}/platforms")
def platforms(*, run: str, request: Request, visitor: Reader, door: TheDoor) -> Response:
    """Count the jobs of a run by platform. Reads every case of it, so only where somebody asks."""
    desk = _desk(door)
    found, filters = desk.show(run), {"q": request.query_params.get("q", "")}
    rows = [row | {"rest": _rest(row)} for row in desk.platforms(run)]

    def fits(row: dict[str, Any]) -> bool:
        names = door.catalogue.get(row["platform"]).name if row["platform"] in door.catalogue else None
        text = f"{row['platform']} {names.zh} {names.en}" if names else row["platform"]
        return filters["q"].casefold() in text.casefold()

    if kind := wanted_file(request):
        return as_file(
            (row for row in rows if fits(row)), fields=PLATFORM_FIELDS, name=f"run-{found['run']}", kind=kind
        )
    page = listing(request, rows, columns=_PLATFORMS, filters=filters, fits=fits, per_page=_PER_PAGE)
    return visitor.page("run_platforms.html.j2", run=found, listing=page)


@router.get("/{run}/results")
def results(*, run: str, request: Request, _: Reader, door: TheDoor) -> Response:
    """Send one row for each job, as they are read: CSV that no spreadsheet runs, or JSON lines."""
    found = _desk(door).facts(run)
    rows = CaseDesk(door.inspector).results(found.run)
    if wanted_file(request) == "json":
        lines, kind, media = (orjson.dumps(row) + b"\n" for row in rows), "jsonl", "application/jsonl"
        return _sent(StreamingResponse(lines, media_type=media), found.run, kind)
    return _sent(StreamingResponse(csv_lines(rows), media_type="text/csv"), found.run, "csv")


@router.get("/{run}/cancel")
def ask(run: str, visitor: OperatorVisitor, door: TheDoor) -> Response:
    """Say what cancelling does, and ask for the reason."""
    return visitor.page("run_cancel.html.j2", run=_desk(door).show(run))


@router.post("/{run}/cancel")
def cancel(*, run: str, visitor: OperatorVisitor, door: TheDoor, form: Posted) -> Response:
    """Read its file no further and take out what was not sent, behind this answer."""
    desk = RunDesk(door.backends, door.inspector, who=visitor.who)
    desk.begin_cancel(run, reason=reason_of(form))
    finish_cancels(door.backends, door.catalogue, [run])
    return visitor.after(f"/runs/{run}", "run.cancelled")


def _rest(row: dict[str, Any]) -> int:
    return int(row["jobs"] - row["settled"] - row["waiting"])


def _sent(answer: Response, run: str, kind: str) -> Response:
    answer.headers["Content-Disposition"] = f'attachment; filename="results-{run}.{kind}"'
    return answer


def _desk(door: Door) -> RunDesk:
    return RunDesk(door.backends, door.inspector)
