"""Runs: which there are, how far each is, their reports, and ending one."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.consent import DryRunOption, ExpectOption, ReasonOption, YesOption, agree, needs_reason
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from ops.run_desk import RunDesk

app = typer.Typer(help="Runs: files that were handed in, and how far each is.", no_args_is_help=True)

RunArgument = Annotated[str, typer.Argument(help="The run, as `runs list` shows it.")]
TargetOption = Annotated[Path | None, typer.Option("--report", help="Folder for it; beside the run when not given.")]
_INTERRUPTED = 130
_UNWELL = 3
_LOOK_S = 1.0
_SAMPLES_KEPT = 60


@app.command("list")
def list_runs(
    *,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List runs, the newest first."""
    from ops.run_desk import LIST_FIELDS

    with _opened(sandbox=sandbox) as desk:
        shown = emit(desk.rows(limit=limit), fields=LIST_FIELDS, output=output)
        if shown == limit:
            say(f"the newest {limit}; --limit shows more")


@app.command()
def show(
    run: RunArgument,
    *,
    platforms: Annotated[
        bool, typer.Option("--platforms", help="Also by platform: reads every case of the run.")
    ] = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one run: how far its file was read, and what its jobs are counted as."""
    import json

    from ops.run_desk import PLATFORM_FIELDS

    with _opened(sandbox=sandbox) as desk:
        found = desk.show(run)
        rows = desk.platforms(run) if platforms else []
    if output is Format.JSON:
        print(json.dumps(found | ({"platforms": rows} if platforms else {}), ensure_ascii=False, indent=2))
        return
    if output is Format.TABLE:
        _print_run(found)
    elif not platforms:
        emit([found], fields=tuple(found), output=output)
    if platforms:
        emit(({**row, "states": _counts(row["states"])} for row in rows), fields=PLATFORM_FIELDS, output=output)


def _print_run(found: dict[str, Any]) -> None:
    print(f"run {found['run']}: {found['file']}, {found['state']}, started {found['started_at']}")
    if found["cancelled"]:
        print(f"  cancelled: {found['cancelled']}")
    print(f"  read up to line {found['line']:,}" + (f" at {found['read_at']}" if found["read_at"] else ""))
    if found["waits"]:
        print(f"  waits: {found['waits']}")
    rest = f"{found['duplicate']:,} known already, {found['rejected']:,} refused"
    print(f"  rows: {found['cases']:,} cases accepted, {rest}")
    done = "" if found["done_pct"] is None else f", {found['done_pct']} % settled"
    print(f"  {found['jobs']:,} jobs{done}: {_counts(found['by_state'])}")
    print(f"  cases: {_counts(found['verdicts'])}")
    print(f"  {found['calls']:,} calls, {found['attempts']:,} attempts" + _speed(found))
    for what in ("http_statuses", "faults"):
        if found[what]:
            print(f"  {what.replace('_', ' ')}: {_counts(found[what])}")
    if found["other_runs"]:
        print(f"  cases of the file that other runs own: {', '.join(found['other_runs'])}")


def _speed(found: dict[str, Any]) -> str:
    from ops.progress import latency_text

    if found["p50_ms"] is None:
        return ""
    return f"; half of them within {latency_text(found['p50_ms'])}, 95 of 100 within {latency_text(found['p95_ms'])}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items() if n) or "–"


@app.command()
def watch(run: RunArgument, *, sandbox: SandboxOption = False) -> None:
    """Say how far a run is until all of its jobs are settled. Ctrl-C ends only the watching.

    Exit code 0, or 3 if jobs are dead or rows were refused.
    """
    import time

    from rich.console import Console

    from ops.live import LiveView
    from ops.run_desk import RunState

    started_s, samples = time.monotonic(), []
    try:
        with _opened(sandbox=sandbox) as desk, LiveView(Console(stderr=True), title=f"run {run}") as view:
            while True:
                progress, state = desk.progress(run, at_s=time.monotonic() - started_s)
                samples.append(progress.sample())
                del samples[:-_SAMPLES_KEPT]
                view.update(progress, samples)
                if state is RunState.DONE or (state is RunState.CANCELLED and not progress.open):
                    break
                time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        say("not watched any more; the run goes on")
        raise typer.Exit(_INTERRUPTED) from None
    say(f"run {run}: {state}")
    raise typer.Exit(_UNWELL if progress.dead or progress.cases_rejected else 0)


@app.command()
def cancel(
    run: RunArgument,
    *,
    reason: ReasonOption = "",
    expect_count: ExpectOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
) -> None:
    """Read the file of a run no further, and cancel every job of it that was not sent yet.

    What is in flight is waited for, and its answer counts. Ended in the middle, the same command goes on. A cancelled
    job is final: to renew such a number after all, hand it in with another `cycle`. Exit code 7 if jobs are left open.
    """
    from rich.console import Console

    from ops.live import LiveLine

    with _opened(sandbox=sandbox) as desk:
        count = desk.facts(run).counters.held
        if dry_run:
            say(f"{count} open jobs of run {run} would be cancelled; nothing was: --dry-run")
            return
        needs_reason(reason)
        agree(count, what=f"open jobs of run {run} to be cancelled", expect=expect_count, yes=yes)
        with LiveLine(Console(stderr=True), title=f"cancelling {run}") as line:
            end = desk.cancel(run, reason=reason, tell=line.update)
        say(f"run {run} is cancelled: {end.jobs} jobs were taken out")
        if end.left:
            say(f"{end.left} jobs are still open; the same command again looks after them")
            raise typer.Exit(7)


@app.command()
def report(
    run: RunArgument,
    *,
    target: Annotated[
        Path | None, typer.Option("--report", help="Folder for it; beside the run when not given.")
    ] = None,
    sandbox: SandboxOption = False,
) -> None:
    """Write report.html, report.json, results.csv and, where the file was read, rejected.csv of any run."""
    with _opened(sandbox=sandbox) as desk:
        summary = desk.report(run, target=target, sandbox=sandbox)
    for path in summary.files.values():
        print(path)
    sys.stdout.flush()


@contextlib.contextmanager
def _opened(*, sandbox: bool) -> "Iterator[RunDesk]":
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        from ops.inspector import Inspector
        from ops.run_desk import RunDesk

        yield RunDesk(backends, Inspector(backends, catalogue))
