"""Runs: files that were handed in, and how far each is."""

import csv
import io
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from ops.api.access import OperatorCaller, Reader
from ops.api.asking import Change, ExpectCount, IdentifierPath, PlatformName, agree
from ops.api.door import Door, TheDoor
from ops.api.idempotency import KEY_TAKEN, OnceRoute
from ops.api.paging import Page, Part
from ops.api.problems import documented
from ops.audit import audit, audit_rows
from ops.cancelling import finish_cancels
from ops.case_desk import CaseDesk
from ops.report import RESULTS_FIELDS, harmless
from ops.run_desk import RunDesk, RunState
from schemas.ids import job_id
from schemas.state import State

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=OnceRoute, responses=documented(404))
_EXAMPLES_MAX: Final = 100


class RunRow(BaseModel):
    """One run, in figures."""

    run: str
    file: str
    started_at: str | None
    state: RunState
    cases: int
    jobs: int
    settled: int
    waiting: int
    dead: int
    done_pct: float | None


class Run(RunRow):
    """All that is counted of a run. `line` is how far its file was read."""

    line: int
    read_at: str | None
    waits: str | None
    cancelled: str | None
    rejected: int
    duplicate: int
    other_runs: list[str]
    by_state: dict[str, int]
    by_outcome: dict[str, int]
    verdicts: dict[str, int]
    attempts: int
    calls: int
    http_statuses: dict[str, int]
    faults: dict[str, int]
    p50_ms: float | None
    p95_ms: float | None


class RunPlatform(BaseModel):
    """The jobs of a run at one platform."""

    platform: str
    jobs: int
    settled: int
    queued: int
    waiting: int
    dead: int
    states: dict[str, int]


class Hands(BaseModel):
    """Who has how many jobs of what was accepted."""

    what: str
    name: str
    accepted: int
    final: int = 0
    with_platform: int = 0
    for_review: int = 0
    dead: int = 0
    waiting: int = 0
    queued: int = 0
    in_flight: int = 0
    nobody: int = 0


class Proof(BaseModel):
    """Whether every accepted job is final or in somebody's hands, and some of those that are not."""

    adds_up: bool
    hands: list[Hands]
    nobody: list[str]


class Cancel(Change):
    """A run that is to end before its end; `expect_count` are its open jobs."""

    expect_count: ExpectCount


class Lines(StrEnum):
    """How results are written."""

    CSV = "csv"
    JSONL = "jsonl"


_MEDIA: Final = {Lines.CSV: "text/csv", Lines.JSONL: "application/jsonl"}
_AS_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "one row for each job, the columns of results.csv",
        "content": {media: {"schema": {"type": "string"}} for media in _MEDIA.values()},
    }
}


@router.get("", summary="Runs, the newest first")
def runs(door: TheDoor, _: Reader, part: Part) -> Page[RunRow]:
    """Return a part of them."""
    after = part.after(str)
    rows = _desk(door).rows(limit=part.limit + 1, after=after[0] if after else None)
    return part.page(rows, place=lambda row: (row["run"],), shown=RunRow.model_validate)


@router.get("/{run}", summary="One run")
def show_run(run: IdentifierPath, door: TheDoor, _: Reader) -> Run:
    """Return how far its file was read, and what its jobs are counted as."""
    return Run.model_validate(_desk(door).show(run))


@router.get("/{run}/platforms", summary="One run, platform by platform")
def run_platforms(run: IdentifierPath, door: TheDoor, _: Reader) -> list[RunPlatform]:
    """Count its jobs by platform. Reads every case of it: some seconds for a million jobs."""
    return [RunPlatform.model_validate(row) for row in _desk(door).platforms(run)]


@router.get("/{run}/audit", summary="Proof that nothing of a run is lost")
def run_audit(run: IdentifierPath, door: TheDoor, _: Reader) -> Proof:
    """Say in whose hands its jobs are. Reads every case of it."""
    found = audit(door.backends, run=run)
    hands = [Hands.model_validate(row) for row in audit_rows(found)]
    lost = [job_id(case, platform) for case, platform in found.nobody[:_EXAMPLES_MAX]]
    return Proof(adds_up=found.adds_up, hands=hands, nobody=lost)


@router.get("/{run}/results", summary="Results of a run as a file", response_class=Response, responses=_AS_TEXT)
def results(
    *,
    run: IdentifierPath,
    door: TheDoor,
    _: Reader,
    lines: Annotated[Lines, Query(alias="format")] = Lines.CSV,
    state: Annotated[list[State] | None, Query()] = None,
    platform: Annotated[list[PlatformName] | None, Query()] = None,
) -> Response:
    """Stream one row for each job. In CSV no cell is run by a spreadsheet; JSON lines hold each text as it is."""
    _desk(door).facts(run)
    rows = CaseDesk(door.inspector).results(run, states=state or (), platforms=platform or ())
    text = csv_lines(rows) if lines is Lines.CSV else (orjson.dumps(row) + b"\n" for row in rows)
    name = f'attachment; filename="results-{run}.{lines}"'
    return StreamingResponse(text, media_type=_MEDIA[lines], headers={"Content-Disposition": name})


@router.post(
    "/{run}/cancel", status_code=202, summary="End a run before its end", responses=documented(404, 409),
    dependencies=[KEY_TAKEN],
)  # fmt: skip
def cancel(*, run: IdentifierPath, asked: Cancel, door: TheDoor, caller: OperatorCaller, response: Response) -> RunRow:
    """Read its file no further, and let every job that was not sent become CANCELLED, behind this answer.

    What is in flight is waited for, and its answer counts. `Location` says where to look after it.
    """
    desk = RunDesk(door.backends, door.inspector, who=caller.who)
    agree(desk.facts(run).counters.held, expect=asked.expect_count, what="open jobs to be cancelled")
    desk.begin_cancel(run, reason=asked.reason)
    finish_cancels(door.backends, door.catalogue, [run])
    response.headers["Location"] = f"/v1/runs/{run}"
    return RunRow.model_validate(desk.show(run))


def _desk(door: Door) -> RunDesk:
    return RunDesk(door.backends, door.inspector)


def csv_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines, the first rows of each some hundred together: a line by itself costs more than its text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(RESULTS_FIELDS)
    for count, row in enumerate(rows, start=1):
        writer.writerow([_cell(row[name]) for name in RESULTS_FIELDS])
        if count % _TOGETHER == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


_TOGETHER: Final = 500


def _cell(value: Any) -> str:
    return "" if value is None else harmless(str(value))
