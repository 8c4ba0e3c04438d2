"""A subscriber number: one spelling, and the mask that people see (requirements 5 and 22)."""

import re
from typing import Final

import phonenumbers

_USUAL = re.compile(r"(?:\+86|0086|86)?(1[3-9][0-9]{9})")
# phonenumbers would read a letter as its key on a telephone (O as 6) and drop an extension: both give another number.
_NOT_DIALLED = re.compile(r"[^\W\d_]|[#;,*]")
_NOISE = str.maketrans("", "", " \t-()\u00a0\u2009\u3000\u2013")
_FULL_WIDTH = str.maketrans("０１２３４５６７８９＋", "0123456789+")
_PRIVACY = re.compile(r"(?:\+?86|0086)?700\d{8,12}")
_MAINLAND = 86
_LONGEST = 40
_LOOKS_LIKE_NUMBER = re.compile(r"(?<!\d)1[ -]?[3-9](?:[ -]?\d){9}(?!\d)|\d{7,}")
MASK: Final = re.compile(r"\d{3}\*{4}\d{4}")


class NumberProblem(ValueError):
    """Says what was expected; never repeats the number."""


def normalise(text: str) -> str:
    """Return the E.164 spelling of a mainland mobile number.

    Raises NumberProblem for anything that is not one: fixed lines, foreign numbers, 700 privacy numbers, noise.
    """
    if len(text) > _LONGEST:
        raise NumberProblem("expected a mobile number, got a text of more than 40 characters")
    compact = text.translate(_NOISE).translate(_FULL_WIDTH)
    if usual := _USUAL.fullmatch(compact):
        return f"+86{usual[1]}"
    if _PRIVACY.fullmatch(compact):
        raise NumberProblem("a 700 privacy number is not a subscriber number")
    return _normalise_unusual(compact)


def _normalise_unusual(compact: str) -> str:
    if _NOT_DIALLED.search(compact):
        raise NumberProblem("not a phone number: it holds a letter or an extension; expected 11 digits as in 138…")
    try:
        parsed = phonenumbers.parse(compact, "CN")
    except phonenumbers.NumberParseException:
        raise NumberProblem("not a phone number; expected 11 digits as in 138…") from None
    if parsed.country_code != _MAINLAND:
        raise NumberProblem(f"country code +{parsed.country_code}: expected a mainland China mobile number")
    kind = phonenumbers.number_type(parsed)
    if kind == phonenumbers.PhoneNumberType.FIXED_LINE:
        raise NumberProblem("a fixed line; expected a mobile number")
    if kind != phonenumbers.PhoneNumberType.MOBILE:
        raise NumberProblem("not a valid mainland China mobile number")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def mask(e164: str) -> str:
    """Return the form shown to people: `138****1234`."""
    national = e164.removeprefix("+86")
    return f"{national[:3]}****{national[-4:]}"


def mask_text(text: str) -> str:
    """Return `text` with every mobile number, also one in groups, and every run of seven or more digits cut short."""
    return _LOOKS_LIKE_NUMBER.sub(lambda found: f"{found[0][:3]}****{found[0][-2:]}", text)
