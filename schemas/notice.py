"""What the operator's own systems are told: one CloudEvents 1.0 event for each thing that happened.

No attribute and no field holds a number (requirement 22): who wants to know more asks the API by the case's id.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from schemas.ids import BatchId, CaseId, PlatformKey
from schemas.message import Message
from schemas.state import Verdict

SOURCE: Final = "/renewal"
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
_Count = Annotated[int, Field(ge=0)]


class NoticeType(StrEnum):
    """Everything that is told. A subscriber may ask for some of them only."""

    CASE_SETTLED = "renewal.case_settled.v1"
    PLATFORM_SUSPENDED = "renewal.platform_suspended.v1"
    PLATFORM_RESUMED = "renewal.platform_resumed.v1"
    SWEEP_FINISHED = "renewal.sweep_finished.v1"
    DEADLINE_AT_RISK = "renewal.deadline_at_risk.v1"
    TEST = "renewal.test.v1"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    type: ClassVar[NoticeType]
    about: ClassVar[tuple[str, ...]]

    @property
    def subject(self) -> str:
        """What it is about."""
        return "/".join(str(getattr(self, name)) for name in self.about)


class CaseSettled(_Data):
    """Every job of a case has its end. Told again if a contradiction changes the verdict: the newest one counts."""

    type: ClassVar[NoticeType] = NoticeType.CASE_SETTLED
    about: ClassVar[tuple[str, ...]] = ("case",)
    case: CaseId
    run: BatchId
    verdict: Literal[Verdict.CLEAN, Verdict.CLEAN_WITH_EXCEPTIONS]


class PlatformSuspended(_Data):
    """A platform is called no more, by its own answers (`reason` is the fault) or by a person's wish."""

    type: ClassVar[NoticeType] = NoticeType.PLATFORM_SUSPENDED
    about: ClassVar[tuple[str, ...]] = ("platform",)
    platform: PlatformKey
    reason: Annotated[str, StringConstraints(max_length=200)]


class PlatformResumed(_Data):
    """A platform that was suspended is called again."""

    type: ClassVar[NoticeType] = NoticeType.PLATFORM_RESUMED
    about: ClassVar[tuple[str, ...]] = ("platform",)
    platform: PlatformKey


class SweepFinished(_Data):
    """A night has ended: `sent` of its `planned` numbers were handed in. Their answers come later."""

    type: ClassVar[NoticeType] = NoticeType.SWEEP_FINISHED
    about: ClassVar[tuple[str, ...]] = ("sweep", "day")
    sweep: _Name
    day: date
    run: BatchId
    ending: Literal["completed", "overtaken", "failed", "skipped"]
    planned: _Count
    sent: _Count


class DeadlineAtRisk(_Data):
    """So many jobs of a platform will soon be late; told once a platform and day."""

    type: ClassVar[NoticeType] = NoticeType.DEADLINE_AT_RISK
    about: ClassVar[tuple[str, ...]] = ("platform",)
    platform: PlatformKey
    day: date
    jobs: Annotated[int, Field(ge=1)]


class Ping(_Data):
    """Nothing happened: `renewal events test` wants to know whether the subscriber listens."""

    type: ClassVar[NoticeType] = NoticeType.TEST
    about: ClassVar[tuple[str, ...]] = ("subscriber",)
    subscriber: _Name


NoticeData = CaseSettled | PlatformSuspended | PlatformResumed | SweepFinished | DeadlineAtRisk | Ping
DATA_OF: Final[dict[NoticeType, type[NoticeData]]] = {
    data.type: data for data in (CaseSettled, PlatformSuspended, PlatformResumed, SweepFinished, DeadlineAtRisk, Ping)
}


class Notice(Message):
    """A CloudEvents 1.0 envelope. Sent again it keeps its id."""

    called: ClassVar[str] = "notice"

    specversion: Literal["1.0"] = "1.0"
    type: NoticeType
    source: str = SOURCE
    id: BatchId
    time: AwareDatetime
    subject: Annotated[str, StringConstraints(max_length=60)]
    datacontenttype: Literal["application/json"] = "application/json"
    data: NoticeData

    @model_validator(mode="after")
    def _is_of_its_type(self) -> Self:
        if self.data.type is not self.type or self.data.subject != self.subject:
            raise ValueError("data: expected those of the type and the subject")
        return self

    @classmethod
    def of(cls, data: NoticeData, *, ident: str, time: AwareDatetime) -> Self:
        """Put data into their envelope."""
        return cls(type=data.type, id=ident, time=time, subject=data.subject, data=data)
