"""One job with every attempt, whose turn it was, how the promise about it stands, and what can be done."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ops.api.access import Reader
from ops.api.asking import IdentifierPath, PlatformPath
from ops.api.dead_letters import JobView
from ops.api.door import TheDoor
from ops.api.problems import documented
from ops.job_view import JobDesk
from ops.turns import Because
from platforms.promise import Standing
from platforms.remedies import Remedy
from schemas.ids import job_id
from schemas.state import Holder

router = APIRouter(prefix="/v1", tags=["cases"], responses=documented(404))
Party = Literal[Holder.OPERATOR, Holder.DISPATCHER, Holder.PLATFORM, Holder.USER]


class Turn(BaseModel):
    """Who had the job, from when until when, and what began it; `until` is null while that lasts."""

    holder: Party
    since: str
    until: str | None
    s: Annotated[float, Field(description="seconds")]
    why: Because
    attempt: int | None
    http_status: int | None
    reason: str | None
    batch: str | None


class Promise(BaseModel):
    """Until when an answer was promised. `provisional`: the date may move with a calendar that is not published yet."""

    started_at: str
    due_at: str
    provisional: bool
    standing: Standing


class JobCourse(JobView):
    """Everything that is known of one job, and how it went."""

    promise: Promise | None
    late_party: Annotated[Party | None, Field(description="held it for most of the time beyond the promise")]
    held_s: Annotated[dict[Party, float], Field(description="seconds by party; together the whole life of the job")]
    turns: list[Turn]
    remedy: Annotated[Remedy | None, Field(description="what can be done about a refusal")]


@router.get("/cases/{case}/jobs/{platform}", summary="One job with every attempt, and whose turn it was")
def show_job(*, case: IdentifierPath, platform: PlatformPath, door: TheDoor, _: Reader) -> JobCourse:
    """Return what the job went through, whose turn it was and is, whether it is late, and what can be done.

    For a platform that another one settles too it is that one's job.
    """
    view = JobDesk(door.backends, door.catalogue).show(job_id(case, platform))
    return JobCourse.model_validate(view.as_dict())
