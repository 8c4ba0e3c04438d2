"""What requests have in common: a reason, an expected count, an instant.

What a schema can say is refused with 422; what it cannot is an InputError, which becomes 400.
"""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Path
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from schemas.errors import InputError, Refused
from schemas.ids import ID_PATTERN, PLATFORM_PATTERN

_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,60}$"


def _in_our_time(instant: datetime) -> datetime:
    if not _FIRST <= instant < _LAST:
        raise InputError("expected an instant from 2000 to 2199")
    return instant


Instant = Annotated[AwareDatetime, AfterValidator(_in_our_time)]
Reason = Annotated[
    str,
    StringConstraints(pattern=r"\S", max_length=500),
    Field(description="why; kept in the actions log"),
]
ExpectCount = Annotated[int, Field(ge=0, le=1 << 53, description="nothing is changed unless it is exactly this many")]
Identifier = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
PlatformName = Annotated[str, StringConstraints(pattern=PLATFORM_PATTERN)]
IdentifierPath = Annotated[str, Path(pattern=ID_PATTERN)]
PlatformPath = Annotated[str, Path(pattern=PLATFORM_PATTERN)]


class Asked(BaseModel):
    """A body; what is not known in it is refused, so that no typing error goes unseen."""

    model_config = ConfigDict(extra="forbid")


class Change(Asked):
    """Something that is changed."""

    reason: Reason


class Done(BaseModel):
    """What a change did, in words."""

    done: str


def agree(count: int, *, expect: int, what: str) -> None:
    """Return only if this many are meant. Raises Refused."""
    if count != expect:
        raise Refused(f"{count} {what}, not {expect}: nothing was changed")
