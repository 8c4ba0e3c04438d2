"""A manifest: cases that travel together, written down once for all the platforms that are asked about them.

A batch of a manifest's cases names it and their places, so its size does not depend on how many they are.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from schemas.batch import SEALED_BYTES_MAX, Job
from schemas.ids import BatchId, derive
from schemas.message import Message

MANIFEST_JOBS_MAX = 1000


class Manifest(Message):
    """The jobs of any platform for these cases; `sealed` holds their numbers in the same order.

    `run` brought the cases, and all of them are renewed at the platforms of the list `wanted`.
    """

    called: ClassVar[str] = "manifest"

    schema_version: Literal[1] = 1
    run: BatchId
    wanted: BatchId
    jobs: Annotated[tuple[Job, ...], Field(min_length=1, max_length=MANIFEST_JOBS_MAX)]
    sealed: Annotated[str, StringConstraints(min_length=1, max_length=SEALED_BYTES_MAX)]

    @property
    def id(self) -> str:
        """Its name: the same cases on the same terms give the same one."""
        return derive(
            "manifest", self.run, self.wanted, *(f"{job.case} {job.cutoff_at} {job.basis}" for job in self.jobs)
        )
