"""The whole at one moment: what is wrong, how much is where, which processes live."""

import time
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ops.alerts import AlertCode, Severity
from ops.alerts import alerts as judged
from ops.api.access import Reader
from ops.api.door import Door, TheDoor
from ops.api.problems import documented
from ops.snapshot import Snapshot, take
from ops.watch import queue_rows, worker_rows

router = APIRouter(prefix="/v1", tags=["the whole"], responses=documented())


class Alert(BaseModel):
    """One thing that is wrong. `subject` is a platform or a sweep, null where it concerns the system."""

    severity: Severity
    code: AlertCode
    subject: str | None
    text: str
    runbook: str


class QueueRow(BaseModel):
    """How much of one thing there is."""

    what: str
    name: str
    count: int
    oldest_s: float | None
    meaning: str


class WorkerRow(BaseModel):
    """One process."""

    role: str
    name: str
    state: str
    since: str | None
    last_sign_s: float
    running: int | None
    platforms: str | None
    done: int | None
    unit: str | None
    client: str | None


class Whole(BaseModel):
    """The system at one moment. `jobs_settled` and `calls` count since ever: their growth is the speed."""

    at: str
    jobs_settled: int
    calls: int
    dead: int
    alive: Annotated[dict[str, int], Field(description="living processes by role")]
    queues: list[QueueRow]
    alerts: list[Alert]


@router.get("/snapshot", summary="The system at one moment")
def snapshot(door: TheDoor, _: Reader) -> Whole:
    """Return queues, alerts and counters of one look."""
    now = _look(door)
    alive: dict[str, int] = {}
    for beat in now.processes:
        alive[beat.role] = alive.get(beat.role, 0) + beat.alive
    return Whole(
        at=now.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        jobs_settled=now.settled,
        calls=now.calls,
        dead=now.dead_total,
        alive=alive,
        queues=_queues(now, door),
        alerts=_alerts(now),
    )


@router.get("/alerts", summary="What is wrong, the most severe first")
def alerts(door: TheDoor, _: Reader) -> list[Alert]:
    """Return what a person should know without asking; `runbook` is the page that says what to do."""
    return _alerts(_look(door))


@router.get("/queues", summary="How much is where")
def queues(door: TheDoor, _: Reader) -> list[QueueRow]:
    """Count queues, custody, waiting set, and what a person has to look through."""
    return _queues(_look(door), door)


@router.get("/workers", summary="Every process, the living first")
def workers(door: TheDoor, _: Reader) -> list[WorkerRow]:
    """Return since when each lives, what it does now, and its last sign of life."""
    return [WorkerRow.model_validate(row) for row in worker_rows(door.backends.heartbeats.every())]


def _look(door: Door) -> Snapshot:
    return take(door.backends, door.catalogue, taken_s=time.monotonic())


def _alerts(now: Snapshot) -> list[Alert]:
    return [Alert.model_validate(alert.row()) for alert in judged(now)]


def _queues(now: Snapshot, door: Door) -> list[QueueRow]:
    return [QueueRow.model_validate(row) for row in queue_rows(now, door.backends.figures.whys())]
