"""How results are shown: tables for people, one JSON document for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.bench import Result
from benchmarks.quiet import Load
from benchmarks.rounds import Spread
from benchmarks.wants import Want

_COLUMNS_WIDE = 160
_WHOLE_FROM = 100


def number(value: float | None) -> str:
    """Return a figure with as many digits as it is worth."""
    if value is None:
        return "-"
    if abs(value) >= _WHOLE_FROM or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bounds(want: Want) -> tuple[str, str]:
    """Return how must and aim of a want are written."""
    sign = "≤" if want.at_most else "≥"
    return f"{sign} {number(want.must)}", "" if want.aim is None else f"{sign} {number(want.aim)}"


def want_rows(result: Result) -> list[tuple[str, ...]]:
    """Return a row for each want: what, value, unit, must, aim, verdict."""
    return [
        (want.text, number(value), want.unit, *bounds(want), verdict.value) for want, value, verdict in result.verdicts
    ]


def figure_rows(spreads: Mapping[str, Spread]) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of the figures: those named `who/what` as a row for each who, others a row each."""
    grouped = {name: each for name, each in spreads.items() if "/" in name}
    if not grouped:
        return ["figure", "median (low-high)"], [[name, _ranged(each)] for name, each in spreads.items()]
    whats = list(dict.fromkeys(name.partition("/")[2] for name in grouped))
    rows = [
        [who, *(_ranged(grouped[f"{who}/{what}"]) if f"{who}/{what}" in grouped else "-" for what in whats)]
        for who in dict.fromkeys(name.partition("/")[0] for name in grouped)
    ]
    return ["who", *(what.replace("_", " ") for what in whats)], rows


def _ranged(each: Spread) -> str:
    if len(each.rounds) == 1 or each.low == each.high:
        return number(each.median)
    return f"{number(each.median)} ({number(each.low)}-{number(each.high)})"


def load_line(loads: Sequence[Load]) -> str:
    """Return what others did before and during each turn, those that they disturbed marked."""
    return "others used, in cores, before/during: " + ", ".join(
        f"{load.turn} {load.before_cores:.2f}/{load.during_cores:.2f}{'' if load.quiet else ' DISTURBED'}"
        for load in loads
    )


def show(result: Result, console: Console) -> None:
    """Print one scenario for people."""
    scenario = result.scenario
    console.print(Text(f"{scenario.name}: {scenario.about}", style="bold"))
    wants = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("what", "value", "unit", "must", "aim", "verdict"):
        wants.add_column(column, overflow="fold")
    for row in want_rows(result):
        wants.add_row(*map(Text, row))
    console.print(wants)
    columns, rows = figure_rows(result.spreads)
    figures = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        figures.add_column(column, overflow="fold")
    for cells in rows:
        figures.add_row(*map(Text, cells))
    console.print(figures)
    for problem in result.problems:
        console.print(Text(f"PROBLEM: {problem}", style="bold red"))
    console.print(Text(load_line(result.loads)))


def as_json(result: Result) -> dict[str, Any]:
    """Return one scenario for programs. The field names are part of the interface."""
    return {
        "name": result.scenario.name,
        "about": result.scenario.about,
        "holds": result.holds,
        "wants": [
            {**asdict(want), "value": value, "verdict": verdict.value} for want, value, verdict in result.verdicts
        ],
        "figures": {name: asdict(each) for name, each in result.spreads.items()},
        "concluded": result.concluded,
        "loads": [{**asdict(load), "quiet": load.quiet} for load in result.loads],
        "problems": result.problems,
    }


def console() -> Console:
    """Return where tables go: as wide as the terminal, and wide enough on a pipe."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=_COLUMNS_WIDE)
