"""The message on the jobs queue: 1…n jobs for one platform, their numbers sealed as one blob."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from schemas.ids import BatchId, CaseId, PlatformKey, derive, job_id
from schemas.message import Message

JOBS_MAX = 1000
SEALED_BYTES_MAX = 128 * 1024
ATTEMPT_MAX = 10_000


class Lane(StrEnum):
    """Whether a person waits."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Basis(StrEnum):
    """What the cut-off rests on (requirement 2)."""

    PLANNED_RELEASE = "planned_release"
    NEW_OWNER_ACTIVATION = "new_owner_activation"


class Job(BaseModel):
    """One case at the batch's platform. Its idempotency key is derived: `schemas.ids.job_id`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: CaseId
    cutoff_at: Annotated[str, StringConstraints(min_length=20, max_length=35)]
    basis: Basis


class Batch(Message):
    """1…n jobs that travel together; the sealed blob holds their numbers in the same order.

    `attempt` is the number of the attempt that this message asks for, from 1. A batch that was not admitted keeps
    it; a retry has the next. `generation` rises with each replay by a person; attempt numbers go on, and
    `first_attempt` is the one with which this generation began.
    """

    called: ClassVar[str] = "batch"

    schema_version: Literal[1] = 1
    id: BatchId
    run: BatchId
    platform: PlatformKey
    lane: Lane = Lane.BULK
    attempt: Annotated[int, Field(ge=1, le=ATTEMPT_MAX)] = 1
    first_attempt: Annotated[int, Field(ge=1, le=ATTEMPT_MAX)] = 1
    generation: Annotated[int, Field(ge=0, le=255)] = 0
    deadline: AwareDatetime
    jobs: Annotated[tuple[Job, ...], Field(min_length=1, max_length=JOBS_MAX)]
    sealed: Annotated[str, StringConstraints(min_length=1, max_length=SEALED_BYTES_MAX)]

    def key_of(self, job: Job) -> str:
        """Return the job id, which is also its idempotency key."""
        return job_id(job.case, self.platform)

    def child(self, label: str, *, jobs: tuple[Job, ...], sealed: str, attempt: int) -> "Batch":
        """Return the batch that carries on with `jobs`. The same label gives the same id, whoever asks."""
        ident = derive("child", self.id, label, str(attempt), *(job.case for job in jobs))
        return self.model_copy(update={"id": ident, "jobs": jobs, "sealed": sealed, "attempt": attempt})


def seal_context(cases: tuple[str, ...] | list[str]) -> bytes:
    """Return what a batch's blob is bound to: exactly these cases in this order."""
    return ("renewal/batch/" + derive(*cases)).encode()


def root_batch_id(*, platform: str, cases: list[str]) -> str:
    """Name a batch as it leaves intake: submitting the same rows again gives the same name."""
    return derive("batch", platform, *cases)
