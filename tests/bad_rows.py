"""Input files in which some rows are bad, each in a known way and at a known place."""

import csv
import io
import random
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import orjson

from producers.lines import LINE_CHARS_MAX
from producers.rows import COLUMNS

CUTOFF: Final = "2026-12-02T00:00:00+08:00"


class Bad(NamedTuple):
    """One way in which a row can be bad: the field that must be named, and what stands in it."""

    name: str
    field: str
    values: dict[str, str]


# Every rule of a row once at least, in the order of the columns.
KINDS: Final = (
    Bad("no number", "number", {"number": ""}),
    Bad("blank number", "number", {"number": "  "}),
    Bad("letters", "number", {"number": "1380000I234"}),
    Bad("too short", "number", {"number": "1380000123"}),
    Bad("too long", "number", {"number": "138000012345"}),
    Bad("fixed line", "number", {"number": "010-62781234"}),
    Bad("Hong Kong", "number", {"number": "+852 9123 4567"}),
    Bad("United States", "number", {"number": "+1 202 555 0143"}),
    Bad("privacy number", "number", {"number": "70012345678"}),
    Bad("a text", "number", {"number": "x" * 60}),
    Bad("an extension", "number", {"number": "13800001234;ext=5"}),
    Bad("no cut-off", "cutoff_at", {"cutoff_at": ""}),
    Bad("no such day", "cutoff_at", {"cutoff_at": "2026-02-30"}),
    Bad("no offset", "cutoff_at", {"cutoff_at": "2026-12-02T00:00:00"}),
    Bad("odd offset", "cutoff_at", {"cutoff_at": "2026-12-02T00:00:00+08:00:30"}),
    Bad("far offset", "cutoff_at", {"cutoff_at": "2026-12-02T00:00:00+15:00"}),
    Bad("no date", "cutoff_at", {"cutoff_at": "tomorrow evening"}),
    Bad("old year", "cutoff_at", {"cutoff_at": "1999-12-31"}),
    Bad("far year", "cutoff_at", {"cutoff_at": "2100-01-01"}),
    Bad("long reference", "reference", {"reference": "r" * 65}),
    Bad("unprintable reference", "reference", {"reference": "a\u200bb\u0007"}),
    Bad("a number as reference", "reference", {"reference": "tel 138-0000-1234"}),
    Bad("unknown basis", "basis", {"basis": "owner_says_so"}),
    Bad("no such deactivation", "deactivated_on", {"deactivated_on": "2026-13-01"}),
    Bad("an instant as day", "deactivated_on", {"deactivated_on": CUTOFF}),
    Bad("cycle with a space", "cycle", {"cycle": "first time"}),
    Bad("long cycle", "cycle", {"cycle": "c" * 41}),
    Bad("a number as cycle", "cycle", {"cycle": "13800001234"}),
    Bad("unknown platform", "platforms", {"platforms": "acme;nobody"}),
)
# Ways that only text has: a whole line that is no row.
RAW_CSV: Final = {
    "a field too few": "13800001234,2026-01-31",
    "a field too many": ",".join(["x"] * (len(COLUMNS) + 1)),
    "an open quote": '"13800001234,2026-01-31,,,,,',
    "text behind a quote": '"13800001234"x,2026-01-31,,,,,',
    "NUL bytes": "1380000\x001234,2026-01-31,,,,,",
    "a line without end": "1" * (LINE_CHARS_MAX + 1),
}
RAW_JSON: Final = {
    "not JSON": '{"number": ',
    "not an object": "[1, 2]",
    "an unknown name": '{"number": "13800001234", "cutoff_at": "2026-01-31", "colour": "red"}',
    "a number as cut-off": '{"number": "13800001234", "cutoff_at": 20260131}',
    "an empty list": '{"number": "13800001234", "cutoff_at": "2026-01-31", "platforms": []}',
    "a name twice": '{"number": "13800001234", "Number": "13800001234", "cutoff_at": "2026-01-31"}',
    "NUL bytes": '{"number": "\x00"}',
    "a line without end": "1" * (LINE_CHARS_MAX + 1),
}


class Made(NamedTuple):
    """A row as it was made; `kind` is empty for a good one. `field` is None where only the line can be named."""

    values: dict[str, str]
    kind: str
    field: str | None
    raw: str


def rows(count: int, *, seed: int, raw: dict[str, str], share: float = 0.01) -> Iterator[Made]:
    """Yield rows of which a share is bad; the first bad ones are one of each kind, whatever the share."""
    chance = random.Random(seed)
    kinds: list[Bad | str] = [*KINDS, *raw]
    places = chance.sample(range(count), max(len(kinds), int(count * share)))
    chosen = {place: kinds[turn % len(kinds)] for turn, place in enumerate(places)}
    for index in range(count):
        good = {
            "number": f"13{chance.randrange(10)}{index:08d}",
            "cutoff_at": chance.choice([CUTOFF, "2026-12-02", "2026-12-01T16:00:00Z"]),
            "reference": chance.choice(["", f"NR-{index}"]),
            "basis": chance.choice(["", "planned_release", "new_owner_activation"]),
            "deactivated_on": chance.choice(["", "2026-09-02"]),
            "cycle": chance.choice(["", f"c{index}"]),
            "platforms": chance.choice(["", "acme", "acme;globex"]),
        }
        kind = chosen.get(index)
        if kind is None:
            yield Made(good, "", None, "")
        elif isinstance(kind, Bad):
            yield Made(good | kind.values, kind.name, kind.field, "")
        else:
            yield Made({}, kind, None, raw[kind])


def csv_line(made: Made) -> str:
    """Return a row as a line of CSV."""
    if made.raw:
        return made.raw
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([made.values[name] for name in COLUMNS])
    return text.getvalue()


def json_line(made: Made) -> str:
    """Return a row as a JSON line."""
    return made.raw or orjson.dumps(made.values).decode()


def text_of(made: list[Made], line_of: Callable[[Made], str], *, head: str = "") -> bytes:
    """Return a whole file."""
    return (head + "".join(f"{line_of(row)}\n" for row in made)).encode()
