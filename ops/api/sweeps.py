"""Sweeps: the nightly runs over the numbers that are about to be released."""

from datetime import date
from threading import Event
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel

from ops.api.access import OperatorCaller, Reader
from ops.api.asking import NAME_PATTERN, Change, Done
from ops.api.door import Door, TheDoor
from ops.api.idempotency import KEY_TAKEN, OnceRoute
from ops.api.problems import Problem, documented
from ops.sweep_desk import SweepDesk, night_row
from schemas.errors import ConfigurationError

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"], route_class=OnceRoute, responses=documented(404))
NamePath = Annotated[str, Path(pattern=NAME_PATTERN)]


class SweepRow(BaseModel):
    """One sweep: when it runs, where it stands, what its last night brought."""

    name: str
    at: str
    zone: str
    standing: str
    next: str | None
    last_day: str | None
    last_ending: str | None
    planned: int | None
    accepted: int | None
    why: str


class Night(BaseModel):
    """One night of a sweep."""

    day: str
    ending: str
    begun_at: str
    ended_at: str | None
    late: bool
    who: str
    source: str
    rows: int
    rejected: int
    planned: int
    refused: dict[str, int]
    sent: int
    accepted: int
    known: int
    stopped: dict[str, int]
    let_go: int
    why: str
    run: str


class Sweep(SweepRow):
    """A sweep with its definition and its nights, the newest first."""

    definition: dict[str, Any]
    nights: list[Night]


class Foreseen(BaseModel):
    """What was foreseen of a night at one platform, beside what happened."""

    platform: str
    jobs: int
    forecast_done_at: str | None
    done_at: str | None
    late_s: float | None
    forecast_spill: int
    spill: int


class NightReport(Night):
    """A night: what was planned and foreseen, and what has become of it."""

    planned_by_release: dict[str, int]
    planned_jobs: int
    left: int
    cases: int
    jobs: int
    jobs_by_state: dict[str, int]
    verdicts: dict[str, int]
    forecast: list[Foreseen] | None


class RunNow(Change):
    """A night that is to begin now: that of a day, or the one that is due."""

    day: date | None = None


@router.get("", summary="Sweeps")
def sweeps(door: TheDoor, _: Reader) -> list[SweepRow]:
    """Return every sweep; none where no folder of them is set."""
    if door.backends.settings.sweeps is None:
        return []
    return [SweepRow.model_validate(row) for row in _desk(door).rows()]


@router.get("/{name}", summary="One sweep and its nights")
def sweep(name: NamePath, door: TheDoor, _: Reader) -> Sweep:
    """Return it, with its definition."""
    return Sweep.model_validate(_desk(door).show(name))


@router.get("/{name}/nights/{day}", summary="One night", responses=documented(404, 409))
def night(*, name: NamePath, day: date, door: TheDoor, _: Reader) -> NightReport:
    """Return what was planned and foreseen beside what became of it. Reads every case of the night."""
    desk = _desk(door)
    found, seen = desk.report(name, day=day), desk.look_back(name, day=day)
    return NightReport.model_validate(found | {"forecast": list(seen.rows()) if seen else None})


@router.post("/{name}/pause", summary="Begin and send nothing more of a sweep", dependencies=[KEY_TAKEN])
def pause(*, name: NamePath, asked: Change, door: TheDoor, caller: OperatorCaller) -> Done:
    """Pause it; what was sent goes on by itself."""
    _desk(door, caller.who).pause(name, reason=asked.reason)
    return Done(done=f"{name} is paused")


@router.post("/{name}/resume", summary="Let a sweep go on", dependencies=[KEY_TAKEN])
def resume(*, name: NamePath, asked: Change, door: TheDoor, caller: OperatorCaller) -> Done:
    """Resume it; for nights that were missed its catch-up rule holds."""
    _desk(door, caller.who).resume(name, reason=asked.reason)
    return Done(done=f"{name} goes on")


@router.post(
    "/{name}/run", status_code=202, summary="Begin a night now", responses=documented(404, 409),
    dependencies=[KEY_TAKEN],
)  # fmt: skip
def run_now(*, name: NamePath, asked: RunNow, door: TheDoor, caller: OperatorCaller, response: Response) -> Night:
    """Read its inventory and begin; the scheduler goes on with it. `Location` says where to look after it."""
    begun = Event()
    found = _desk(door, caller.who).run(
        name, day=asked.day, reason=asked.reason, stop=begun, progress=lambda _: begun.set()
    )
    response.headers["Location"] = f"/v1/sweeps/{name}/nights/{found.day}"
    return Night.model_validate(night_row(found))


def _desk(door: Door, who: str = "") -> SweepDesk:
    if door.backends.settings.sweeps is None:
        raise Problem(404, "no sweeps are set here")
    desk = SweepDesk(door.backends, door.catalogue, who=who)
    try:
        # Read now, so that a file that is wrong is told as what it is.
        desk.definitions  # noqa: B018 - it is read once and kept
    except ConfigurationError:
        raise Problem(503, "the definitions of sweeps cannot be read: see the alerts") from None
    return desk
