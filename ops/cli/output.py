"""How rows reach the reader: a table for people, stable fields for programs. Data on stdout, all else on stderr."""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from textwrap import indent
from typing import Annotated, Any

import typer

_PIPE_COLUMNS = 200


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


OutputOption = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]
SandboxOption = Annotated[bool, typer.Option("--sandbox", help="Look at what sandbox runs left.")]


def emit(rows: Iterable[dict[str, Any]], *, fields: Sequence[str], output: Format, title: str = "") -> int:
    """Print rows; returns how many. The field names and their order are part of the interface."""
    if output is Format.TABLE:
        return _table(rows, fields=fields, title=title)
    if output is Format.JSON:
        return _json(rows, fields=fields)
    if output is Format.JSONL:
        count = 0
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the last value is the answer
            print(json.dumps(_chosen(row, fields), ensure_ascii=False))
        return count
    return _csv(rows, fields=fields)


def say(text: str) -> None:
    """Print something for a person, out of the way of the data."""
    print(text, file=sys.stderr)


def _chosen(row: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in fields}


def _json(rows: Iterable[dict[str, Any]], *, fields: Sequence[str]) -> int:
    """Print a list row by row: a run may have millions."""
    count = 0
    for count, row in enumerate(rows, start=1):
        body = json.dumps(_chosen(row, fields), ensure_ascii=False, indent=2)
        print("[" if count == 1 else ",")
        print(indent(body, "  "), end="")
    print("\n]" if count else "[]")
    return count


def _csv(rows: Iterable[dict[str, Any]], *, fields: Sequence[str]) -> int:
    from ops.report import harmless

    writer = csv.DictWriter(sys.stdout, fieldnames=list(fields), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007 - the last value is the answer
        cells = {name: "" if row.get(name) is None else row[name] for name in fields}
        # A number may be below nought; only text can be a formula.
        writer.writerow({name: harmless(cell) if isinstance(cell, str) else cell for name, cell in cells.items()})
    return count


def _table(rows: Iterable[dict[str, Any]], *, fields: Sequence[str], title: str) -> int:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in fields:
        table.add_column(name.replace("_", " "), overflow="fold")
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007 - the last value is the answer
        table.add_row(*(Text("" if row.get(name) is None else str(row[name])) for name in fields))
    # Beyond a terminal nobody is helped by columns that are folded to eighty characters.
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)
    console.print(table if count else Text("Nothing to show."))
    return count
