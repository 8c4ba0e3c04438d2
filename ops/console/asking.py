"""What a form said, read strictly: an error names the field and what was expected, and repeats nothing."""

import math
from typing import Final

from starlette.datastructures import FormData

from ops.console.look import Look
from schemas.errors import InputError

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


def agreed(form: FormData, count: int, *, look: Look) -> tuple[str, str]:
    """Return why somebody does it, and what is to be said on the form again where that or the count is not right."""
    try:
        reason = reason_of(form)
        right = integer_of(form, "expected") == count
    except InputError as error:
        return "", str(error)
    return reason, "" if right else look.say("act.expected_wrong", n=count)
