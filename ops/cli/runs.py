"""Run a file, submit a file, keep the system up."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.bench import bench
from ops.cli.output import say

if TYPE_CHECKING:
    from ops.run import RunEnd

FileArgument = Annotated[str, typer.Argument(help="CSV or JSONL, also .gz; `-` is standard input.")]
EncodingOption = Annotated[str, typer.Option(help="Encoding of the file, e.g. gb18030.")]
CatalogueOption = Annotated[Path | None, typer.Option(help="Folder of platforms; the sample when not given.")]
PlatformsOption = Annotated[str | None, typer.Option(help="Only these platforms, keys joined by commas.")]


class Faults(StrEnum):
    """How badly simulated platforms behave."""

    NONE = "none"
    NORMAL = "normal"
    STORM = "storm"


class RunOutput(StrEnum):
    """How `renewal run` says what came of it."""

    TABLE = "table"
    JSON = "json"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Renew")(run)
    app.command(rich_help_panel="Renew")(submit)
    app.command(rich_help_panel="Renew")(up)
    app.command(rich_help_panel="Renew")(bench)


def run(
    file: FileArgument,
    *,
    encoding: EncodingOption = "utf-8",
    catalogue: CatalogueOption = None,
    platforms: PlatformsOption = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Ask simulated platforms instead of the real ones.")
    ] = False,
    faults: Annotated[Faults, typer.Option(help="How badly simulated platforms behave.")] = Faults.NORMAL,
    seed: Annotated[int, typer.Option(help="Of the simulated world.")] = 7,
    report: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes to start.")] = 2,
    max_seconds: Annotated[float | None, typer.Option(min=1, help="Stop watching after this long.")] = None,
    output: Annotated[RunOutput, typer.Option("-o", "--output", help="How to print the end.")] = RunOutput.TABLE,
) -> None:
    """Renew every number of a file: start what is missing, wait for the end, report, stop what was started.

    Example: renewal run examples/recycled-numbers.csv --sandbox --report report
    """
    from rich.console import Console

    from ops.lifeline import stop_on_signals
    from ops.live import LiveView
    from ops.run import Run
    from ops.run_folder import RunOptions

    options = RunOptions(
        file=file,
        encoding=encoding,
        catalogue=catalogue,
        platforms=tuple(key for key in (platforms or "").replace(";", ",").split(",") if key.strip()),
        sandbox=sandbox,
        faults=faults,
        seed=seed,
        report=report,
        workers=workers,
        max_seconds=max_seconds,
    )
    stop = stop_on_signals()
    try:
        with LiveView(Console(stderr=True), title=f"renewal run {Path(file).name}") as view:
            end = Run(options, watch=view.update, stop=stop).execute()
    except KeyboardInterrupt:
        # Said here: typer turns the exception into a silent exit.
        say("renewal: interrupted" + ("" if file == "-" else "; the same command takes the run up again"))
        raise typer.Exit(130) from None
    _say_end(end, output=output, sandbox=sandbox)
    raise typer.Exit(_exit_code(end, sandbox=sandbox))


def _exit_code(end: "RunEnd", *, sandbox: bool) -> int:
    if end.open_jobs:
        return 7
    ledger = end.summary.ledger
    if sandbox:
        return 0 if ledger is not None and ledger.agrees else 1
    return 3 if end.dead or end.rejected else 0


def _say_end(end: "RunEnd", *, output: RunOutput, sandbox: bool) -> None:
    if output is RunOutput.JSON:
        print(end.summary.model_dump_json(indent=2, exclude_none=True))
    else:
        from ops.verdict import print_verdict

        print_verdict(end.summary, open_jobs=end.open_jobs, sandbox=sandbox)
    sys.stdout.flush()


def submit(
    file: FileArgument,
    *,
    encoding: EncodingOption = "utf-8",
    catalogue: CatalogueOption = None,
    platforms: PlatformsOption = None,
    rejected: Annotated[Path | None, typer.Option(help="File for the rows that were refused.")] = None,
) -> None:
    """Put a file on the jobs queue and return; workers elsewhere do the rest."""
    from ops.submission import submit_file

    code = submit_file(
        file,
        encoding=encoding,
        catalogue=catalogue,
        platforms=[key for key in (platforms or "").replace(";", ",").split(",") if key.strip()],
        rejected=rejected,
        say=say,
    )
    raise typer.Exit(code)


def up(workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2) -> None:
    """Keep the whole system running on this machine until Ctrl-C."""
    from ops.lifeline import stop_on_signals
    from ops.up import keep_up

    keep_up(workers=workers, stop=stop_on_signals(), say=say)
