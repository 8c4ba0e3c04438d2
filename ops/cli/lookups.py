"""What became of a number, and the results of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.store import CaseView
    from ops.inspector import Inspector

results_app = typer.Typer(help="Results of runs.", no_args_is_help=True)
_CASE_FIELDS = ("case", "number", "reference", "verdict", "cutoff_at", "basis", "cycle", "run", "jobs")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Look")(status)
    app.add_typer(results_app, name="results", rich_help_panel="Look")


def status(
    *,
    number: Annotated[
        str | None, typer.Option(help="The number, in any usual spelling; `-` reads it from stdin.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Your own row id.")] = None,
    case: Annotated[str | None, typer.Option(help="The case id.")] = None,
    sandbox: SandboxOption = False,
    every: Annotated[bool, typer.Option("--all", help="Every platform, not only those that are not clean.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show where a number's renewal stands, platform by platform."""
    from ops.case_desk import CaseDesk
    from schemas.errors import InputError

    if sum(value is not None for value in (number, reference, case)) != 1:
        raise InputError("give one of --number, --reference, --case")
    with _inspector(sandbox=sandbox) as inspector:
        if number is not None:
            # An argument can be read by every user of the machine; standard input cannot.
            text = typer.get_text_stream("stdin").readline().strip() if number == "-" else number
            found = inspector.cases_of_number(text)
        elif reference is not None:
            found = inspector.cases_of_reference(reference)
        else:
            found = [inspector.case(case or "")]
        if output is Format.TABLE:
            for view in found:
                _show(inspector, view, every=every)
        else:
            emit((CaseDesk(inspector).row(view) for view in found), fields=_CASE_FIELDS, output=output)


def _show(inspector: "Inspector", view: "CaseView", *, every: bool) -> None:
    from collections import Counter

    from ops.case_desk import JOB_FIELDS, CaseDesk
    from schemas.state import STATES

    counts = Counter(view.record(platform).state for platform in view.platforms)
    print(f"{view.mask}  case {view.id}  {view.verdict}")
    print(f"  cut-off {view.cutoff_at} ({view.basis}), cycle {view.cycle}, reference {view.reference or '–'}")
    print(f"  run {view.run}")
    print("  " + ", ".join(f"{state} {n}" for state, n in counts.most_common()))
    rows = [row for row in CaseDesk(inspector).jobs(view) if every or not STATES[row["state"]].clean]
    if rows:
        emit(rows, fields=JOB_FIELDS, output=Format.TABLE)


@results_app.command()
def export(
    *,
    run: Annotated[str | None, typer.Option(help="Run id; the newest when not given.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only these states; may be given again.")] = None,
    platform: Annotated[list[str] | None, typer.Option(help="Only these platforms; may be given again.")] = None,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.CSV,
) -> None:
    """Print one row for each job of a run; the same columns as results.csv."""
    from ops.case_desk import CaseDesk
    from ops.report import RESULTS_FIELDS
    from schemas.errors import InputError, NotFound
    from schemas.state import State

    unknown = set(state or ()) - set(State)
    if unknown:
        raise InputError(f"--state {', '.join(sorted(unknown))}: expected one of {', '.join(State)}")
    with _inspector(sandbox=sandbox) as inspector:
        chosen = run or next(inspector.runs(), None)
        if chosen is None:
            raise NotFound("no run yet" + ("" if sandbox else "; for what a sandbox run left, add --sandbox"))
        rows = CaseDesk(inspector).results(chosen, states=state or (), platforms=platform or ())
        count = emit(rows, fields=RESULTS_FIELDS, output=output)
        say(f"{count} jobs of run {chosen}")


@contextmanager
def _inspector(*, sandbox: bool) -> "Iterator[Inspector]":
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        from ops.inspector import Inspector

        yield Inspector(backends, catalogue)
