"""What the owner of a number allowed the operator to do, as the operator recorded it (requirement 7).

It names no person: who gave it is known by the case it belongs to. Fields that are not listed here are refused.
"""

import re
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from schemas.ids import PlatformKey

PLATFORMS_MAX: Final = 1000
_MOBILE: Final = re.compile(r"(?<!\d)(?:86)?1[3-9]\d{9}(?!\d)")


class Method(StrEnum):
    """How the operator made sure that it was the owner who spoke."""

    APP_LOGIN = "app_login"  # logged in to the operator's app, number and real name verified there
    SMS_CODE = "sms_code"
    COUNTER = "counter"  # in a shop, with a document shown
    HOTLINE = "hotline"  # by telephone, with the service password


def _each_once(keys: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(keys)) != len(keys):
        raise ValueError("the same platform twice")
    return keys


def _no_number(text: str) -> str:
    if _MOBILE.search(text):
        raise ValueError("must not hold a phone number")
    return text


Platforms = Annotated[
    tuple[PlatformKey, ...],
    Field(min_length=1, max_length=PLATFORMS_MAX, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_each_once),
]
NoticeVersion = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"), AfterValidator(_no_number)
]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$")]


class Authorisation(BaseModel):
    """One authorisation. `platforms` are all that may be asked; nothing is implied by one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    platforms: Platforms
    notice_version: NoticeVersion
    language: Language  # of the notice that was shown, as BCP 47 writes it
    method: Method
    given_at: AwareDatetime
    expires_at: AwareDatetime
