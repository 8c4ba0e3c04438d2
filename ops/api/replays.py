"""Replays: dead letters are sent again in mass, a canary first. A scheduler does it; this asks, looks and stops."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from backends.replays import Phase
from ops.api.access import OperatorCaller, Reader
from ops.api.asking import Asked, Change, Done, ExpectCount, IdentifierPath, agree
from ops.api.dead_letters import DeadChoice, not_a_cause
from ops.api.door import Door, TheDoor
from ops.api.idempotency import KEY_NEEDED, KEY_TAKEN, OnceRoute
from ops.api.paging import Page, Part
from ops.api.problems import documented
from ops.dead_letters import DeadDesk
from ops.replay_desk import ReplayDesk, jobs_to_replay
from schemas.ids import derive

router = APIRouter(prefix="/v1/replays", tags=["replays"], route_class=OnceRoute, responses=documented(404))


class ReplayRow(BaseModel):
    """A replay, in figures. `pending` jobs are out; `total` less all others is still to be sent."""

    replay: str
    asked_at: str
    who: str
    state: Phase
    total: int
    sent: int
    settled: int
    failed: int
    skipped: int
    pending: int
    why: str | None
    reason: str


class ReplayPlatform(BaseModel):
    """How far a replay is at one platform."""

    platform: str
    state: Phase
    total: int
    sent: int
    settled: int
    failed: int
    skipped: int
    pending: int
    why: str | None


class ReplayReport(ReplayRow):
    """All of a replay. `now` counts its jobs by what they are at this moment."""

    wanted: str
    canary: int
    settled_by_state: dict[str, int]
    failed_by_reason: dict[str, int]
    skipped_by_why: dict[str, int]
    now: dict[str, int]
    platforms: list[ReplayPlatform]


class PreviewPlatform(BaseModel):
    """What a replay would be at one platform."""

    platform: str
    jobs: int
    canary: int
    least_s: Annotated[float, Field(description="how long it takes at least, by the limits of the catalogue")]
    skipped_for: str | None


class Preview(BaseModel):
    """What a replay would be; nothing was changed."""

    jobs: int
    canary: int
    skipped: int
    least_s: float
    platforms: list[PreviewPlatform]


class PreviewAsked(Asked):
    """Which letters; PENDING_REVIEW takes what a platform answered in a code nobody knew."""

    choice: DeadChoice
    state: Literal["DEAD", "PENDING_REVIEW"] = "DEAD"
    canary: Annotated[int, Field(ge=1, le=1000, description="jobs of each platform that are tried first")] = 10


class ReplayAsked(PreviewAsked, Change):
    """A replay that is to begin."""

    expect_count: ExpectCount


@router.post("/preview", summary="What a replay would be", dependencies=[KEY_TAKEN])
def preview(asked: PreviewAsked, door: TheDoor, _: Reader) -> Preview:
    """Count the jobs, the platforms and the time; nothing is changed."""
    jobs = _jobs(asked, door)
    found = ReplayDesk(door.backends).preview(jobs, door.catalogue, canary=asked.canary, state=asked.state)
    return Preview.model_validate(found)


@router.post(
    "", status_code=202, summary="Send dead letters again", responses=documented(404, 409), dependencies=[KEY_NEEDED]
)
def start(
    *, asked: ReplayAsked, door: TheDoor, caller: OperatorCaller, request: Request, response: Response
) -> ReplayRow:
    """Begin a replay, if it is exactly the expected number of jobs. `Location` says where to look after it."""
    not_a_cause(asked.reason)
    desk = ReplayDesk(door.backends, who=caller.who)
    # Named by the key: whatever died in between, asked again it is this one.
    ident = derive("replay", caller.key_id, request.headers["idempotency-key"])
    if not door.backends.replays.exists(ident):
        jobs = _jobs(asked, door)
        agree(len(jobs), expect=asked.expect_count, what="jobs to be sent again")
        desk.ask(
            jobs, reason=asked.reason, wanted=asked.choice.filter(door), state=asked.state, canary=asked.canary,
            ident=ident,
        )  # fmt: skip
    response.headers["Location"] = f"/v1/replays/{ident}"
    return ReplayRow.model_validate(desk.report(ident))


@router.get("", summary="Replays, the newest first")
def replays(door: TheDoor, _: Reader, part: Part) -> Page[ReplayRow]:
    """Return a part of them."""
    after = part.after(str)
    rows = ReplayDesk(door.backends).rows(after=after[0] if after else None)
    return part.page(rows, place=lambda row: (row["replay"],), shown=ReplayRow.model_validate)


@router.get("/{replay}", summary="One replay, platform by platform")
def replay_report(replay: IdentifierPath, door: TheDoor, _: Reader) -> ReplayReport:
    """Return what has come of it, and how its jobs stand now."""
    return ReplayReport.model_validate(ReplayDesk(door.backends).report(replay))


@router.post(
    "/{replay}/stop", summary="Send no more of a replay", responses=documented(404, 409), dependencies=[KEY_TAKEN]
)
def stop(*, replay: IdentifierPath, asked: Change, door: TheDoor, caller: OperatorCaller) -> Done:
    """Stop it; what was sent goes on by itself."""
    return Done(done=ReplayDesk(door.backends, who=caller.who).stop(replay, reason=asked.reason))


@router.post(
    "/{replay}/resume", summary="Go on with a replay", responses=documented(404, 409), dependencies=[KEY_TAKEN]
)
def resume(*, replay: IdentifierPath, asked: Change, door: TheDoor, caller: OperatorCaller) -> Done:
    """Go on with what has not been sent, by a canary again where it had stopped by itself."""
    return Done(done=ReplayDesk(door.backends, who=caller.who).resume(replay, reason=asked.reason))


def _jobs(asked: PreviewAsked, door: Door) -> list[str]:
    desk, wanted = DeadDesk(door.backends, door.catalogue), asked.choice.filter(door)
    return jobs_to_replay(desk, door.inspector, wanted, everything=asked.choice.everything, state=asked.state)
