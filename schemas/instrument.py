"""The document on which a bulk run rests: a regulator's notice, a contract, a statutory duty (requirement 8)."""

from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, model_validator

INSTRUMENT_PATTERN = r"^[a-z][a-z0-9._-]{0,39}$"
InstrumentKey = Annotated[str, StringConstraints(pattern=INSTRUMENT_PATTERN)]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class Instrument(BaseModel):
    """One instrument. `approver` is who in the operator's house answers for its use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: InstrumentKey
    title: _Text
    document_number: _Text
    approver: _Text
    valid_from: AwareDatetime
    valid_until: AwareDatetime

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.valid_until <= self.valid_from:
            raise ValueError("valid_until: expected an instant after valid_from")
        return self
