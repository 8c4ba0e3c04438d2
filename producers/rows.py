"""The rules of one input row: seven texts become a Row, or one problem that names its field."""

import re
import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Final, NamedTuple

from schemas.batch import Basis
from schemas.number import NumberProblem, normalise

COLUMNS: Final = ("number", "cutoff_at", "reference", "basis", "deactivated_on", "cycle", "platforms")
REQUIRED: Final = ("number", "cutoff_at")
SHOWN_CHARS_MAX: Final = 40
Values = tuple[str, str, str, str, str, str, str]

_REFERENCE_CHARS_MAX = 64
# What is cached is short, but for a list of platforms: a whole line long at worst.
_CACHED_MAX = 4096
_LISTS_CACHED_MAX = 256
_YEAR_MIN, _YEAR_MAX = 2000, 2099
_SHANGHAI_OFFSET = timedelta(hours=8)
_SHANGHAI = timezone(_SHANGHAI_OFFSET)
_OFFSET_MAX = timedelta(hours=14)
_BARE_DATE_CHARS_MAX = len("2024-01-31")
_CYCLE = re.compile(r"[A-Za-z0-9._:-]{1,40}")
_BASES = {"": Basis.PLANNED_RELEASE} | {basis.value: basis for basis in Basis}

_MOBILE_DIGITS = 11
_PLAIN_MOBILE = re.compile(r"1[3-9][0-9]{9}")
_DIGITS_AND_SIGNS = re.compile(r"\d[\d\W_]*")
_DIALLED_MOBILE = re.compile(r"(?:(?:00)?86)?(?:0|1(?:[12]\d|79)\d\d)?1[3-9]\d{9}")  # 0: trunk; 17951 and such: carrier
_BOUNDED_MOBILE = re.compile(r"(?<!\d)(?:(?:00)?86[\W_]{0,2})?1[3-9]\d[\W_]{0,2}\d{4}[\W_]{0,2}\d{4}(?!\d)")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")

_SECRET_DIGITS_MIN = 7
_EXAMINED_CHARS_MAX = 200
# Starts with 20, which no spelling of a mobile number does, so it may be shown whole.
_DATE_LIKE = re.compile(
    r"20\d\d[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d{1,2}:\d\d(?::\d\d(?:\.\d{1,6})?)?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?",
    re.ASCII,
)


class Row(NamedTuple):
    """One case that is asked for. `platforms` is None when all of them are meant."""

    line: int
    number: str
    cutoff_at: str
    reference: str
    basis: Basis
    cycle: str
    platforms: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One row that was refused. `value` is masked and at most 40 characters; no field ever holds a full number."""

    line: int
    field: str
    problem: str
    value: str


class RowProblem(ValueError):
    """One field of one row is wrong. `value` is raw: show it only through `shown`."""

    def __init__(self, field: str, problem: str, value: str) -> None:
        super().__init__(field)
        self.field = field
        self.problem = problem
        self.value = value


class RowRules:
    """Turns values into rows; remembers a bounded number of the texts that repeat from row to row."""

    def __init__(self, known_platforms: Container[str]) -> None:
        self._known = known_platforms
        self._platforms = lru_cache(_LISTS_CACHED_MAX)(self._selected)
        self._near = lru_cache(_CACHED_MAX)(partial(near, names=_names(known_platforms)))

    def row(self, line: int, values: Values) -> Row:
        """Return the row. Raises RowProblem for the first field that is wrong, in the order of COLUMNS."""
        number_text, cutoff_text, reference, basis_text, deactivated_text, cycle_text, platforms_text = values
        number = f"+86{number_text}" if _PLAIN_MOBILE.fullmatch(number_text) else _number(number_text)
        cutoff_at, cutoff_day = _instant(cutoff_text)
        reference = _reference(reference.strip(), number) if reference else ""
        basis = _BASES.get(basis_text) or _basis(basis_text)
        deactivated_on = _day(deactivated_text) if deactivated_text else ""
        cycle = _cycle(cycle_text.strip(), number) if cycle_text else ""
        platforms = self._platforms(platforms_text) if platforms_text else None
        # By position, in the order of Row: by name it takes twice as long, and a file has millions of rows.
        return Row(line, number, cutoff_at, reference, basis, cycle or deactivated_on or cutoff_day, platforms)

    def _selected(self, text: str) -> tuple[str, ...] | None:
        keys = tuple(dict.fromkeys(key for part in text.split(";") if (key := part.strip())))
        for key in keys:
            if key not in self._known:
                hint = self._near(key[:SHOWN_CHARS_MAX])
                raise RowProblem("platforms", f"unknown platform {shown(key)}{hint}", text)
        return keys or None


def _number(text: str) -> str:
    if not text.strip():
        raise RowProblem("number", "missing", text)
    try:
        return normalise(text)
    except NumberProblem as problem:
        raise RowProblem("number", str(problem), text) from None


@lru_cache(_CACHED_MAX)
def _instant(text: str) -> tuple[str, str]:
    """Return the instant and its day in Shanghai."""
    text = text.strip()
    if not text:
        raise RowProblem("cutoff_at", "missing", text)
    if len(text) <= _BARE_DATE_CHARS_MAX:
        day = _iso_day("cutoff_at", text)
        return f"{day}T00:00:00+08:00", day
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise RowProblem("cutoff_at", "expected a date or an instant as in 2024-01-31T00:00:00+08:00", text) from None
    offset = instant.utcoffset()
    if offset is None:
        raise RowProblem("cutoff_at", "a time without its offset; expected one as in 2024-01-31T00:00:00+08:00", text)
    if abs(offset) > _OFFSET_MAX or offset.seconds % 60 or offset.microseconds:
        raise RowProblem("cutoff_at", "the offset from UTC must be whole minutes and at most 14 hours", text)
    _check_year("cutoff_at", instant, text)
    # Fractions are cut, not rounded: an earlier cut-off can only spare a binding, never take the new owner's.
    cutoff_at = instant.isoformat(timespec="seconds")
    local = cutoff_at if offset == _SHANGHAI_OFFSET else instant.astimezone(_SHANGHAI).isoformat()
    return cutoff_at, local[: len("2024-01-31")]


@lru_cache(_CACHED_MAX)
def _day(text: str) -> str:
    return _iso_day("deactivated_on", day) if (day := text.strip()) else ""


def _iso_day(field: str, text: str) -> str:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise RowProblem(field, "expected a date as in 2024-01-31", text) from None
    _check_year(field, day, text)
    return day.isoformat()


def _check_year(field: str, day: date, text: str) -> None:
    if not _YEAR_MIN <= day.year <= _YEAR_MAX:
        raise RowProblem(field, f"expected a year from {_YEAR_MIN} to {_YEAR_MAX}", text)


def _basis(text: str) -> Basis:
    basis = _BASES.get(text.strip())
    if basis is None:
        raise RowProblem("basis", f"expected {' or '.join(Basis)}", text)
    return basis


def _reference(text: str, number: str) -> str:
    if len(text) > _REFERENCE_CHARS_MAX or not text.isprintable():
        raise RowProblem("reference", f"expected at most {_REFERENCE_CHARS_MAX} printable characters", text)
    # A reference is echoed in every result and report.
    if len(text) >= _MOBILE_DIGITS and _holds_number(text, number):
        raise RowProblem("reference", "a reference must not hold a phone number", text)
    return text


def _cycle(text: str, number: str) -> str:
    if text and not _CYCLE.fullmatch(text):
        raise RowProblem("cycle", "expected at most 40 of A-Z a-z 0-9 . _ : -", text)
    if _holds_number(text, number):
        raise RowProblem("cycle", "a cycle must not hold a phone number", text)
    return text


def _holds_number(text: str, own: str) -> bool:
    """Whether `text` is or holds a mobile number.

    The row's own number is found wherever its digits stand. Of other numbers, those that are a whole run of digits,
    whatever signs part them: inside a longer run nearly every second serial number of 19 digits would look like one.
    """
    if len(text) < _MOBILE_DIGITS:
        return False
    plain = text if text.isascii() else "".join(str(unicodedata.digit(char, char)) for char in text)
    digits = _digits(plain)
    if not _PLAIN_MOBILE.search(digits):
        return False
    if own.removeprefix("+86") in digits:
        return True
    if _UUID.fullmatch(plain):
        return False
    runs = (_digits(run) for run in _DIGITS_AND_SIGNS.findall(plain))
    return any(map(_DIALLED_MOBILE.fullmatch, runs)) or bool(_BOUNDED_MOBILE.search(plain))


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _names(known: Container[str]) -> tuple[str, ...]:
    """Return the keys where `known` can list them; a catalogue lists entries that hold their key."""
    return tuple(str(getattr(entry, "key", entry)) for entry in known) if isinstance(known, Iterable) else ()


def near(name: str, names: tuple[str, ...]) -> str:
    """Return `; did you mean …?`, or nothing where no name comes near."""
    found = get_close_matches(name[:SHOWN_CHARS_MAX], names, n=1)
    return f"; did you mean {found[0]}?" if found else ""


def shown(value: str) -> str:
    """Return what a person may see of a value: at most 40 printable characters, and never a full number.

    Of seven or more digits in all, in any script and whatever stands between them, only the first three and the last
    two stay. A date is shown whole.
    """
    text = "".join(char if char.isprintable() else "·" for char in value.strip()[:_EXAMINED_CHARS_MAX])
    if not _DATE_LIKE.fullmatch(text):
        text = _hide_digits(text)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[: SHOWN_CHARS_MAX - 1]}…"


def _hide_digits(text: str) -> str:
    places = [place for place, char in enumerate(text) if char.isnumeric()]
    if len(places) < _SECRET_DIGITS_MIN:
        return text
    chars = list(text)
    for place in places[3:-2]:
        chars[place] = "*"
    return re.sub(r"\*{4,}", "****", "".join(chars))
