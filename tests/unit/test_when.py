"""Times as people say them."""

from datetime import UTC, datetime, timedelta

import pytest

from ops.when import iso, parse_ago, parse_ahead
from schemas.errors import InputError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), (" 2h ", 7200), ("3d", 259_200)])
def test_a_distance_counts_from_now(text: str, seconds: int) -> None:
    """`--since 2h` is what a person means; back for what has been, ahead for what is to come."""
    assert NOW - timedelta(seconds=seconds) == parse_ago(text, option="--since", now=NOW)
    assert NOW + timedelta(seconds=seconds) == parse_ahead(text, option="--due-before", now=NOW)


@pytest.mark.parametrize(
    "text", ["2026-11-01T08:00:00+08:00", "2026-11-01T00:00:00Z", "2026-11-01T08:00", "2026-11-01 08:00"]
)
def test_an_instant_without_an_offset_is_the_operators_wall_clock(text: str) -> None:
    """As in input files: a person in Beijing who types eight o'clock means eight o'clock there."""
    assert datetime(2026, 11, 1, tzinfo=UTC) == parse_ago(text, option="--since", now=NOW)


@pytest.mark.parametrize("text", ["", "2", "h", "2w", "-2h", "yesterday"])
def test_anything_else_is_an_error_that_names_the_option(text: str) -> None:
    """A wrong time must not be taken for another one."""
    with pytest.raises(InputError, match=r"^--since: "):
        parse_ago(text, option="--since", now=NOW)


def test_a_stored_time_is_shown_in_utc() -> None:
    """One spelling everywhere, that programs read and that sorts."""
    assert "2026-11-01T12:00:00Z" == iso(int(NOW.timestamp() * 1000))
