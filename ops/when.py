"""How people say a time: an instant, or how far from now."""

import re
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from schemas.errors import InputError

# A time without an offset is the operator's wall clock, as in input files.
_WALL: Final = ZoneInfo("Asia/Shanghai")
_DISTANCE: Final = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_ago(text: str, *, option: str, now: datetime) -> datetime:
    """Read `2h`, or an instant: something that has been. Raises InputError that names the option."""
    return _parse(text, option=option, now=now, sign=-1)


def parse_ahead(text: str, *, option: str, now: datetime) -> datetime:
    """Read `2h`, or an instant: something that is to come. Raises InputError that names the option."""
    return _parse(text, option=option, now=now, sign=1)


def _parse(text: str, *, option: str, now: datetime, sign: int) -> datetime:
    if distance := _DISTANCE.fullmatch(text.strip()):
        return now + timedelta(seconds=sign * int(distance[1]) * _SECONDS[distance[2]])
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"{option}: expected e.g. 30m, 2h, 3d or 2026-12-02T08:00:00+08:00") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=_WALL)


def parse_date(text: str, *, option: str) -> date:
    """Read a date of the operator's calendar. Raises InputError that names the option."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"{option}: expected a date, e.g. 2026-12-02") from None


def iso(ms: int) -> str:
    """Return a stored time as people and programs read it: UTC, to the second."""
    return datetime.fromtimestamp(ms / 1000, ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ")


def said(instant: datetime) -> str:
    """Return an instant as `iso` says it."""
    return iso(int(instant.timestamp() * 1000))
