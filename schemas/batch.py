"""The message on the jobs queue: 1…n jobs for one platform.

It carries its jobs, with their numbers sealed as one blob; or it names a part of a manifest, which holds both once for
all the platforms that are asked about the same cases.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from schemas.ids import BatchId, CaseId, PlatformKey, derive
from schemas.message import Message

JOBS_MAX = 1000
SEALED_BYTES_MAX = 128 * 1024
ATTEMPT_MAX = 10_000

Place = Annotated[int, Field(ge=0, le=1_000_000)]


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


def _ascending(spans: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    ends = [place for span in spans for place in span]
    size = sum(end - start for start, end in spans)
    if any(start >= end for start, end in spans) or ends != sorted(ends) or size > JOBS_MAX:
        raise ValueError(f"expected places that ascend, of at most {JOBS_MAX} jobs")
    return spans


# Places of a manifest: from each start up to, and without, its end.
Spans = Annotated[tuple[tuple[Place, Place], ...], Field(min_length=1, max_length=JOBS_MAX), AfterValidator(_ascending)]


def spans_of(places: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return places that ascend as spans."""
    spans: list[list[int]] = []
    for place in places:
        if spans and spans[-1][1] == place:
            spans[-1][1] += 1
        else:
            spans.append([place, place + 1])
    return tuple((start, end) for start, end in spans)


class ManifestPart(BaseModel):
    """Jobs of a manifest by their places."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: BatchId
    spans: Spans

    @property
    def size(self) -> int:
        """How many jobs it names."""
        return sum(end - start for start, end in self.spans)


class Batch(Message):
    """1…n jobs that travel together: `jobs` and their `sealed` numbers in the same order, or a part of a `manifest`.

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
    jobs: Annotated[tuple[Job, ...], Field(max_length=JOBS_MAX)] = ()
    sealed: Annotated[str, StringConstraints(max_length=SEALED_BYTES_MAX)] = ""
    manifest: ManifestPart | None = None

    @model_validator(mode="after")
    def _says_its_jobs_once(self) -> Self:
        carried = bool(self.jobs), bool(self.sealed)
        if carried != ((False, False) if self.manifest else (True, True)):
            raise ValueError("jobs: expected jobs and sealed, or else manifest")
        return self

    @property
    def size(self) -> int:
        """How many jobs it has."""
        return self.manifest.size if self.manifest else len(self.jobs)

    def child(
        self, label: str, *, cases: Iterable[str], attempt: int, jobs: tuple[Job, ...] = (), sealed: str = "",
        manifest: ManifestPart | None = None,
    ) -> "Batch":  # fmt: skip
        """Return the batch that carries on with these cases. The same label gives the same id, whoever asks."""
        ident = derive("child", self.id, label, str(attempt), *cases)
        return self.model_copy(
            update={"id": ident, "jobs": jobs, "sealed": sealed, "manifest": manifest, "attempt": attempt}
        )


def seal_context(cases: Iterable[str]) -> bytes:
    """Return what a batch's blob is bound to: exactly these cases in this order."""
    return ("renewal/batch/" + derive(*cases)).encode()


def root_batch_id(platform: str, part: ManifestPart) -> str:
    """Name a batch as it leaves intake: submitting the same rows again gives the same name."""
    return derive("batch", platform, part.id, *(f"{start} {end}" for start, end in part.spans))
