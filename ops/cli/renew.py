"""Renew: run a file, submit a file, keep the system up."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.bench import bench
from ops.cli.output import say

if TYPE_CHECKING:
    from ops.dry_run import Tally
    from ops.run import RunEnd
    from ops.run_folder import RunOptions
    from ops.submission import Submission

FileArgument = Annotated[str, typer.Argument(help="CSV or JSONL, also .gz, or Parquet; `-` is standard input.")]
EncodingOption = Annotated[str, typer.Option(help="Encoding of the file, e.g. gb18030.")]
CatalogueOption = Annotated[Path | None, typer.Option(help="Folder of platforms; the sample when not given.")]
PlatformsOption = Annotated[str | None, typer.Option(help="Only these platforms, keys joined by commas.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Read and check the whole file; send and store nothing. Needs no Redis.")
]
InstrumentOption = Annotated[
    str, typer.Option(help="Key of the legal instrument on which the run rests; it must be valid.")
]
RejectedOption = Annotated[Path | None, typer.Option(help="File for all rows that were refused.")]


class Faults(StrEnum):
    """How badly simulated platforms behave."""

    NONE = "none"
    NORMAL = "normal"
    STORM = "storm"


class LaneName(StrEnum):
    """Who waits for the answers; the same as `schemas.batch.Lane`, which would take long to import for `--help`."""

    BULK = "bulk"
    INTERACTIVE = "interactive"


class RunOutput(StrEnum):
    """How a command says what came of it."""

    TABLE = "table"
    JSON = "json"


RunOutputOption = Annotated[RunOutput, typer.Option("-o", "--output", help="How to print the end.")]

_NAMED_MAX = 12


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
    instrument: InstrumentOption = "",
    dry_run: DryRunOption = False,
    output: RunOutputOption = RunOutput.TABLE,
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
        platforms=_keys(platforms),
        sandbox=sandbox,
        faults=faults,
        seed=seed,
        report=report,
        workers=workers,
        max_seconds=max_seconds,
        instrument=instrument,
    )
    if dry_run:
        _dry_run(options, rejected=None, output=output)
    stop = stop_on_signals()
    try:
        with LiveView(Console(stderr=True), title=f"renewal run {Path(file).name}") as view:
            end = Run(options, watch=view.update, say=view.say, stop=stop).execute()
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
    lane: Annotated[LaneName, typer.Option(help="interactive overtakes bulk: for few numbers, a person waits.")] = (
        LaneName.BULK
    ),
    instrument: InstrumentOption = "",
    rejected: RejectedOption = None,
    dry_run: DryRunOption = False,
    output: RunOutputOption = RunOutput.TABLE,
) -> None:
    """Put a file on the jobs queue and return; workers elsewhere do the rest.

    A submission that ended early, even by a kill, is taken up where it was by the same command.
    """
    from rich.console import Console

    from ops.lifeline import stop_on_signals
    from ops.run_folder import RunOptions
    from ops.submission import submit_file
    from schemas.batch import Lane

    options = RunOptions(
        file=file, encoding=encoding, catalogue=catalogue, platforms=_keys(platforms), lane=Lane(lane),
        instrument=instrument,
    )  # fmt: skip
    if dry_run:
        _dry_run(options, rejected=rejected, output=output)
    end = submit_file(options, rejected=rejected, stop=stop_on_signals(), console=Console(stderr=True))
    _say_submitted(end, file=file, rejected=rejected, output=output)
    raise typer.Exit(130 if not end.whole else 3 if end.rejected else 0)


def _keys(platforms: str | None) -> tuple[str, ...]:
    return tuple(key for key in (platforms or "").replace(";", ",").split(",") if key.strip())


def _say_submitted(end: "Submission", *, file: str, rejected: Path | None, output: RunOutput) -> None:
    if end.taken_up_after_line:
        say(f"taken up after line {end.taken_up_after_line:,}")
    say(
        f"run {end.run}: {end.accepted} cases accepted, {end.duplicate} known already, {end.rejected} rows"
        f" refused, {end.batches} batches queued"
    )
    if not end.whole:
        say("interrupted" + ("" if file == "-" else "; the same command goes on from here"))
    if not end.workers_alive:
        say("no worker runs yet: `renewal up` starts the whole system")
    for row in end.examples:
        say(f"line {row.line}: {row.field}: {row.problem}")
    if end.rejected > len(end.examples):
        more = "" if rejected else "; `--rejected FILE` keeps them all"
        say(f"… and {end.rejected - len(end.examples)} more{more}")
    if output is RunOutput.JSON:
        from dataclasses import asdict
        from json import dumps

        print(dumps({name: value for name, value in asdict(end).items() if name != "examples"}, indent=2))


def _dry_run(options: "RunOptions", *, rejected: Path | None, output: RunOutput) -> None:
    """Say what a file holds, and end the command."""
    from json import dumps

    from ops.dry_run import check_file

    tally = check_file(options, rejected=rejected)
    if output is RunOutput.JSON:
        print(dumps(tally.report(), ensure_ascii=False, indent=2))
    else:
        _say_tally(tally, name=Path(options.file).name)
    if tally.problem:
        say(f"renewal: {tally.problem}")
    raise typer.Exit(2 if tally.problem else 3 if tally.rejected else 0)


def _say_tally(tally: "Tally", *, name: str) -> None:
    found = tally.by_platform
    print(f"{name}: {tally.rows:,} rows; nothing was sent: --dry-run")
    print(f"  {tally.cases:,} cases, {tally.duplicate:,} more rows of the same, {tally.rejected.total():,} refused")
    print(f"  {sum(found.values()):,} jobs")
    alike: dict[int, list[str]] = {}
    for key, jobs in found.items():
        alike.setdefault(jobs, []).append(key)
    for jobs in sorted(alike, key=lambda jobs: -len(alike[jobs])):
        keys = alike[jobs]
        named = ", ".join(keys) if len(keys) <= _NAMED_MAX else f"each of {len(keys)} platforms"
        print(f"  {jobs:,} at {named}")
    for field, count in tally.rejected.most_common():
        print(f"  {count:,} refused by {field}")
        for row in tally.examples[field]:
            print(f"    line {row.line}: {row.problem}" + (f" ({row.value})" if row.value else ""))


def up(workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2) -> None:
    """Keep the whole system running on this machine until Ctrl-C."""
    from ops.lifeline import stop_on_signals
    from ops.up import keep_up

    keep_up(workers=workers, stop=stop_on_signals(), say=say)
