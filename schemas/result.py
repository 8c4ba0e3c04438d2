"""The message on the results queue: a CloudEvents 1.0 event for each attempt at a batch, and for later answers.

No attribute and no field holds a number (requirement 22, CloudEvents 1.0 privacy considerations).
"""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from schemas.batch import JOBS_MAX, Spans
from schemas.ids import BatchId, CaseId, PlatformKey
from schemas.message import Message
from schemas.outcome import Outcome, Reason
from schemas.state import State

ATTEMPTED: Final = "renewal.attempted.v1"
ANSWERED: Final = "renewal.answered.v1"
DETAIL_CHARS_MAX = 200
# Upper bounds in milliseconds of the latency histogram that counters keep; the last bucket is open.
LATENCY_BOUNDS_MS: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000)


class JobResult(BaseModel):
    """What the attempt made of one job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: CaseId
    state: State
    outcome: Outcome | None = None
    reason: Reason | None = None
    reference: Annotated[str, StringConstraints(max_length=DETAIL_CHARS_MAX)] | None = None
    detail: Annotated[str, StringConstraints(max_length=DETAIL_CHARS_MAX)] | None = None
    http_status: Annotated[int, Field(ge=100, le=999)] | None = None


class Alike(BaseModel):
    """Jobs that came to one and the same result, word for word: `cases`, or `spans` of the attempt's manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State
    outcome: Outcome | None = None
    reason: Reason | None = None
    detail: Annotated[str, StringConstraints(max_length=DETAIL_CHARS_MAX)] | None = None
    http_status: Annotated[int, Field(ge=100, le=999)] | None = None
    cases: Annotated[tuple[CaseId, ...], Field(max_length=JOBS_MAX)] = ()
    spans: Spans | None = None

    @model_validator(mode="after")
    def _names_its_jobs_once(self) -> Self:
        if bool(self.cases) == bool(self.spans):
            raise ValueError("cases: expected at least one, or else spans")
        return self


class AttemptData(BaseModel):
    """One attempt at one batch. `attempt` is the number of attempts that its jobs have spent, this one included.

    A call that failed for its platform's fault, or for another job's, spends none: the jobs keep the number they had.
    Each job stands in `jobs` or in `alike`.

    Of an answer that came later (`renewal.answered.v1`) `batch` and `run` are both a name of the message that brought
    it, `worker` is the way by which it came, `attempt` and `generation` are those that its jobs had.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: BatchId
    run: BatchId
    platform: PlatformKey
    attempt: Annotated[int, Field(ge=0)]
    generation: Annotated[int, Field(ge=0, le=255)] = 0
    started_at: AwareDatetime
    ended_at: AwareDatetime
    worker: str
    calls: Annotated[int, Field(ge=0)]
    http_statuses: dict[str, int] = {}
    latencies: Annotated[
        tuple[int, ...],
        Field(
            min_length=len(LATENCY_BOUNDS_MS) + 1,
            max_length=len(LATENCY_BOUNDS_MS) + 1,
            description="calls by latency, one count for each bound and one above the last",
        ),
    ]
    faults: dict[str, int] = {}
    retry_at: AwareDatetime | None = None
    closes: Annotated[bool, Field(description="whether the batch is in nobody's hands once this is recorded")] = True
    manifest: BatchId | None = None
    alike: Annotated[tuple[Alike, ...], Field(max_length=500)] = ()
    jobs: Annotated[tuple[JobResult, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _has_a_job(self) -> Self:
        if not self.jobs and not self.alike:
            raise ValueError("jobs: expected at least one, here or in alike")
        if self.manifest is None and any(group.spans for group in self.alike):
            raise ValueError("manifest: expected the one that spans are places of")
        return self


class ResultEvent(Message):
    """A CloudEvents 1.0 envelope. A re-sent event keeps its id.

    `renewal.attempted.v1` is one attempt; `renewal.answered.v1` is what a platform said later, by callback or poll: it
    counts as no attempt and no call, and ends nobody's custody.
    """

    called: ClassVar[str] = "result event"

    specversion: Literal["1.0"] = "1.0"
    type: Literal["renewal.attempted.v1", "renewal.answered.v1"] = ATTEMPTED
    source: str = "/renewal/workers"
    id: BatchId
    time: AwareDatetime
    subject: PlatformKey
    datacontenttype: Literal["application/json"] = "application/json"
    data: AttemptData
