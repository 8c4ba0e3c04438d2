"""Values as people read them on a page: counts, times, shares, and the tone of a state. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from backends.admission import GateState
from ops.console.words import said
from schemas.number import mask_text
from schemas.state import STATES, Holder, State

WALL: Final = ZoneInfo("Asia/Shanghai")
_UNITS: Final = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
_SHORT: Final = ((1_000_000, "M"), (1000, "k"))
_WHOLE_FROM: Final = 100
_SECOND_MS: Final = 1000
_NOW_S: Final = 1
_GATE_TONES: Final[Mapping[str, str]] = {
    GateState.FLOWING: "clean",
    GateState.RAMPING: "open",
    GateState.PROBING: "exception",
    GateState.PAUSED: "paused",
    GateState.SUSPENDED: "person",
    GateState.BROKEN: "person",
}
_SHARE_MAX_PCT: Final = 99.9


def masked(text: str | None) -> str:
    """Return a stored text without anything that looks like a number, whoever wrote it; empty for none."""
    return mask_text(text or "")


def count(number: int) -> str:
    """Return a count with its thousands apart."""
    return f"{number:,}"


def short(number: float) -> str:
    """Return a count that fits in a narrow column: 1.2k, 88k, 1.4M; exact below 10,000."""
    if abs(number) < 10 * _SECOND_MS:
        return f"{number:,.0f}"
    for size, letter in _SHORT:
        if abs(number) >= size:
            part = number / size
            return f"{part:.0f}{letter}" if part >= _WHOLE_FROM else f"{part:.1f}{letter}"
    return f"{number:,.0f}"


def share(pct: float | None) -> str:
    """Return a share; never 100 % while something is missing from it."""
    if pct is None:
        return "–"
    if _SHARE_MAX_PCT < pct < 100:  # noqa: PLR2004 - per cent
        pct = _SHARE_MAX_PCT
    return f"{pct:.0f} %" if pct in {0, 100} else f"{pct:.1f} %"


def latency(milliseconds: float | None) -> str:
    """Return a latency: milliseconds, or seconds from one on."""
    if milliseconds is None:
        return "–"
    if milliseconds < _SECOND_MS:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / _SECOND_MS:.1f} s"


def clock(instant: datetime | float | None) -> str:
    """Return an instant (or seconds since 1970) on the wall clock of the operator, UTC+8."""
    return "–" if instant is None else f"{_instant(instant).astimezone(WALL):%Y-%m-%d %H:%M:%S}"


def iso(instant: datetime | float) -> str:
    """Return an instant (or seconds since 1970) as machines read it, UTC."""
    return f"{_instant(instant).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def instant(text: str) -> datetime:
    """Return an instant that a desk has written down as a text; without an offset it is the operator's wall clock."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=WALL)


def duration(seconds: float, *, language: str) -> str:
    """Return a duration in its greatest unit, with the next one while it is short: `3 min`, `2 h 5 min`, `4 d`."""
    whole = max(0, round(seconds))
    for place, (size, unit) in enumerate(_UNITS):
        if whole >= size:
            text = said(language, f"unit.{unit}", n=whole // size)
            rest = whole % size // _UNITS[place + 1][0] if place + 1 < len(_UNITS) else 0
            if rest and whole // size < 10:  # noqa: PLR2004 - two digits say enough
                text += " " + said(language, f"unit.{_UNITS[place + 1][1]}", n=rest)
            return text
    return said(language, "unit.seconds", n=0)


def ago(instant: datetime | float, now: datetime, *, language: str) -> str:
    """Return how far an instant is from now."""
    seconds = (now - _instant(instant)).total_seconds()
    if abs(seconds) < _NOW_S:
        return said(language, "time.now")
    return said(language, "time.ago" if seconds > 0 else "time.ahead", span=duration(abs(seconds), language=language))


def line(values: Sequence[float], *, width: int = 96, height: int = 24) -> str:
    """Return the points of a curve in a box, from nought to its greatest value; empty below two values."""
    if len(values) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    top = max(*values, 1e-9)
    step = width / (len(values) - 1)
    return " ".join(
        f"{place * step:.1f},{height - 1 - (height - 2) * value / top:.1f}" for place, value in enumerate(values)
    )


def tone(state: str) -> str:
    """Return how a job's state looks: clean, open, platform, person or exception; its word says it too."""
    rule = STATES[State(state)]
    if rule.clean:
        return "clean"
    return {
        Holder.DISPATCHER: "open", Holder.PLATFORM: "platform", Holder.OPERATOR: "person", Holder.NOBODY: "exception",
    }[rule.holder]  # fmt: skip


def gate_tone(state: str) -> str:
    """Return how a platform's state looks: clean, open, paused, exception or person."""
    return _GATE_TONES.get(state, "paused")


def _instant(instant: datetime | float) -> datetime:
    return instant if isinstance(instant, datetime) else datetime.fromtimestamp(instant, UTC)
