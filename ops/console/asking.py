"""What a form said, read strictly: an error names the field and what was expected, and repeats nothing."""

import math
from typing import Final

from starlette.datastructures import FormData

from schemas.errors import InputError, Refused

REASON_CHARS_MAX: Final = 200
_TEXT_CHARS_MAX: Final = 500


def text_of(form: FormData, name: str) -> str:
    """Return a field without its outer spaces; empty where it was not sent. Raises InputError for a file."""
    value = form.get(name, "")
    if not isinstance(value, str) or len(value) > _TEXT_CHARS_MAX:
        raise InputError(f"{name}: expected at most {_TEXT_CHARS_MAX} characters of text")
    return value.strip()


def reason_of(form: FormData) -> str:
    """Return why somebody does it. Raises InputError where they do not say."""
    reason = text_of(form, "reason")
    if not reason:
        raise InputError("reason: say why; it is kept in the actions log")
    if len(reason) > REASON_CHARS_MAX:
        raise InputError(f"reason: expected at most {REASON_CHARS_MAX} characters")
    return reason


def integer_of(form: FormData, name: str) -> int | None:
    """Return a whole number; None where nothing was typed. Raises InputError."""
    text = text_of(form, name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):  # noqa: PLR2004 - below a billion
        raise InputError(f"{name}: expected a whole number")
    return int(text)


def number_of(form: FormData, name: str) -> float | None:
    """Return a number; None where nothing was typed. Raises InputError."""
    text = text_of(form, name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name}: expected a number")
    return value


def expect_count(form: FormData, count: int, *, what: str) -> None:
    """Return only if somebody typed how many it is. Raises Refused: then nothing was changed."""
    typed = integer_of(form, "expected")
    if typed != count:
        raise Refused(f"{count} {what}, and not as many as were typed: nothing was changed")
