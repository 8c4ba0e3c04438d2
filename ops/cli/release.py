"""May a number be sold again: all numbers of a run as a list, or one number as one answer."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.consent import ReasonOption, needs_reason
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say
from ops.release import Level

if TYPE_CHECKING:
    from ops.release import Release
    from ops.release_list import ReleaseList

app = typer.Typer(help="Which numbers may be sold again, and what stands against the others.", no_args_is_help=True)
LevelOption = Annotated[
    Level, typer.Option("--level", help="What is good enough: CLEAN, or also CLEAN_WITH_EXCEPTIONS.")
]
_TABLE_FIELDS = ("reference", "number", "verdict", "open", "exceptions", "against", "as_of")
_TABLE_ROWS = 50
_OBSTACLES_SHOWN = 5
_MAY_NOT = 6


@app.command("list")
def list_releases(
    *,
    run: Annotated[
        list[str] | None, typer.Option(help="Run id; may be given again. The newest when not given.")
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="The newest night of this sweep, or that of --day.")] = None,
    day: Annotated[str | None, typer.Option(help="Every run begun on this day, Shanghai time.")] = None,
    level: LevelOption = Level.CLEAN,
    file: Annotated[Path | None, typer.Option(help="Write to this file, whole or not at all; csv if no -o.")] = None,
    with_numbers: Annotated[
        bool, typer.Option("--with-numbers", help="Full numbers, only into a --file; needs --reason.")
    ] = False,
    reason: ReasonOption = "",
    sandbox: SandboxOption = False,
    output: Annotated[Format | None, typer.Option("-o", "--output", help="How to print; table if no --file.")] = None,
) -> None:
    """List every number with its verdict, whether it may be sold, and what stands against it; masked.

    A table shows some of those that may not; json, jsonl and csv hold all numbers.
    """
    from schemas.errors import InputError

    if run and (day or sweep):
        raise InputError("give --run, or --sweep, or --day")
    if with_numbers:
        needs_reason(reason)
        if file is None:
            raise InputError("--with-numbers: full numbers go into a --file only")
    if file is not None and output is Format.TABLE:
        raise InputError("--file: -o csv, jsonl or json")
    with _opened(level, sandbox=sandbox) as releases:
        runs = _runs(releases, run=run or [], sweep=sweep, day=day)
        if file is not None:
            lines = (output or Format.CSV).value
            count = releases.write(file, runs, lines=lines, with_numbers=with_numbers, reason=reason)
            say(f"{count.yes} numbers may be sold, {count.no} may not ({level}): {file}")
            return
        _print(releases, runs, output=output or Format.TABLE)


def _runs(releases: "ReleaseList", *, run: list[str], sweep: str | None, day: str | None) -> list[str]:
    from ops.when import parse_date

    chosen = parse_date(day, option="--day") if day is not None else None
    if sweep is not None:
        return [releases.run_of_sweep(sweep, chosen)]
    if chosen is not None:
        return releases.runs_of_day(chosen)
    return run or [releases.newest_run()]


def _print(releases: "ReleaseList", runs: Sequence[str], *, output: Format) -> None:
    from ops.release import LIST_FIELDS

    if output is not Format.TABLE:
        flat = output is Format.CSV
        rows = (each.flat_row() if flat else each.row() for each in releases.releases(runs))
        emit(rows, fields=LIST_FIELDS, output=output)
        return
    may = [0, 0]

    def counted() -> Iterator[dict[str, Any]]:
        for release in releases.releases(runs):
            may[release.may_be_sold] += 1
            if not release.may_be_sold:
                yield release.flat_row(obstacles_max=_OBSTACLES_SHOWN)

    held = counted()
    shown = emit(islice(held, _TABLE_ROWS), fields=_TABLE_FIELDS, output=output)
    for _ in held:
        pass
    say(f"{may[True]} numbers may be sold, {may[False]} may not" + (f"; {shown} are shown" if shown else ""))


@app.command()
def check(
    *,
    number: Annotated[
        str | None, typer.Option(help="The number, in any usual spelling; `-` reads it from stdin.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Your own row id.")] = None,
    case: Annotated[str | None, typer.Option(help="The case id; its number's newest case is what counts.")] = None,
    level: LevelOption = Level.CLEAN,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Say whether one number may be sold: exit 0 only if it may, 6 if it may not, 5 if it was never renewed here."""
    from schemas.errors import InputError, NotFound

    if sum(value is not None for value in (number, reference, case)) != 1:
        raise InputError("give one of --number, --reference, --case")
    if output not in {Format.TABLE, Format.JSON}:
        raise InputError("-o: expected table or json")
    with _opened(level, sandbox=sandbox) as releases:
        try:
            found = _asked(releases, number=number, reference=reference, case=case)
        except NotFound:
            if output is Format.JSON:
                # Whoever reads only the answer must not take its absence for a yes.
                print(json.dumps({"verdict": None, "may_be_sold": False, "level": level, "why": [{"missing": "case"}]}))
            raise
        _say(found, output=output)
    if not found.may_be_sold:
        raise typer.Exit(_MAY_NOT)


def _asked(releases: "ReleaseList", *, number: str | None, reference: str | None, case: str | None) -> "Release":
    if number is not None:
        # An argument can be read by every user of the machine; standard input cannot.
        return releases.of_number(typer.get_text_stream("stdin").readline().strip() if number == "-" else number)
    return releases.of_reference(reference) if reference is not None else releases.of_case(case or "")


def _say(found: "Release", *, output: Format) -> None:
    answer = found.answer()
    if output is Format.JSON:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    print(f"{answer['number']}  {'may be sold' if found.may_be_sold else 'may NOT be sold'}  {found.verdict}")
    print(
        f"  case {answer['case']}, cycle {answer['cycle']}, reference {answer['reference'] or '–'}, {answer['as_of']}"
    )
    print(f"  {answer['jobs']} platforms asked: {answer['clean']} clean, {answer['open']} open,"
          f" {answer['exceptions']} exceptions; {len(answer['not_asked'])} of the catalogue not asked")  # fmt: skip
    for obstacle in found.obstacles:
        print(f"  {obstacle.text}")


@contextmanager
def _opened(level: Level, *, sandbox: bool) -> "Iterator[ReleaseList]":
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        from ops.release_list import ReleaseList

        yield ReleaseList(backends, catalogue, level=level)
