"""Dead letters: what needs a person, by cause and one by one; and giving them up."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli import replays
from ops.cli.consent import DryRunOption, ExpectOption, ReasonOption, agree, needs_reason
from ops.cli.letters import (
    AllOption,
    CaseOption,
    CauseOption,
    NumberOption,
    PlatformOption,
    RunOption,
    SinceOption,
    UntilOption,
    opened_desk,
    sample,
    wanted_of,
)
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from ops.dead_letters import DeadDesk

app = typer.Typer(help="Dead letters: jobs that need a person.", no_args_is_help=True)


class ExportFormat(StrEnum):
    """What `dead export -o` takes."""

    CSV = "csv"
    JSONL = "jsonl"


@app.command()
def groups(
    *,
    platform: PlatformOption = None,
    cause: CauseOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    case: CaseOption = None,
    number: NumberOption = None,
    run: RunOption = None,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show the causes, the largest first: platform, reason, how many, one of them, and what to do."""
    from ops.dead_letters import GROUP_FIELDS

    with opened_desk(sandbox=sandbox) as (desk, inspector):
        wanted = wanted_of(
            desk, inspector, platform=platform, cause=cause, since=since, until=until, case=case, number=number, run=run
        )
        rows = desk.groups(wanted)
        if output is Format.TABLE:
            # A sentence in a narrow column is read by nobody.
            emit(rows, fields=GROUP_FIELDS[:-1], output=output)
            for row in rows:
                print(f"{row['platform']}, {row['reason']}: {row['next_step']}")
        else:
            emit(rows, fields=GROUP_FIELDS, output=output)
        say(f"{sum(row['count'] for row in rows)} dead letters in {len(rows)} groups")


@app.command("list")
def list_letters(
    *,
    platform: PlatformOption = None,
    cause: CauseOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    case: CaseOption = None,
    number: NumberOption = None,
    run: RunOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 50,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List dead letters, the newest first."""
    from ops.dead_letters import ROW_FIELDS

    with opened_desk(sandbox=sandbox) as (desk, inspector):
        wanted = wanted_of(
            desk, inspector, platform=platform, cause=cause, since=since, until=until, case=case, number=number, run=run
        )
        found = desk.select(wanted)
        shown = emit(desk.rows(found[:limit]), fields=ROW_FIELDS, output=output)
        say(f"{shown} of {len(found)} dead letters")


@app.command()
def export(
    *,
    platform: PlatformOption = None,
    cause: CauseOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    case: CaseOption = None,
    number: NumberOption = None,
    run: RunOption = None,
    sandbox: SandboxOption = False,
    output: Annotated[ExportFormat, typer.Option("-o", "--output", help="How to print.")] = ExportFormat.CSV,
) -> None:
    """Print every dead letter that fits, with the columns of `dead list`."""
    from ops.dead_letters import ROW_FIELDS

    with opened_desk(sandbox=sandbox) as (desk, inspector):
        wanted = wanted_of(
            desk, inspector, platform=platform, cause=cause, since=since, until=until, case=case, number=number, run=run
        )
        count = emit(desk.rows(desk.select(wanted)), fields=ROW_FIELDS, output=Format(output.value))
        say(f"{count} dead letters")


@app.command()
def show(
    job: Annotated[str, typer.Argument(help="The job id, as `dead list` shows it.")],
    *,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the number itself; needs --reason.")] = False,
    reason: ReasonOption = "",
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one job: every attempt, what was answered, who has it now, and what to do."""
    if reveal:
        needs_reason(reason)
    with opened_desk(sandbox=sandbox) as (desk, _):
        if reveal:
            # To standard output and nowhere else; the actions log has who asked, and why.
            print(desk.reveal(job, reason=reason))
            return
        _print_job(desk, job, output=output)


def _print_job(desk: "DeadDesk", job: str, *, output: Format) -> None:
    import json

    from ops.dead_letters import STEP_FIELDS

    found: dict[str, Any] = desk.show(job)
    if output is Format.JSON:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    if output is Format.TABLE:
        print(f"{found['number']}  case {found['case']}  at {found['platform']}")
        print(f"  {found['state']} {found['reason'] or ''}, {found['attempts']} attempts,"
              f" generation {found['generation']}, held by: {found['held_by']}")  # fmt: skip
        print(f"  cut-off {found['cutoff_at']}, run {found['run']}")
        if found["next_step"]:
            print(f"  next: {found['next_step']}")
    emit(found["steps"], fields=STEP_FIELDS, output=output)


@app.command()
def discard(
    *,
    reason: ReasonOption = "",
    platform: PlatformOption = None,
    cause: CauseOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    case: CaseOption = None,
    number: NumberOption = None,
    run: RunOption = None,
    everything: AllOption = False,
    expect_count: ExpectOption = None,
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Give dead letters up: they become CANCELLED, and that is final."""
    with opened_desk(sandbox=sandbox) as (desk, inspector):
        wanted = wanted_of(
            desk, inspector, platform=platform, cause=cause, since=since, until=until, case=case, number=number, run=run
        )
        letters = desk.choose(wanted, everything=everything)
        if dry_run:
            sample(desk, letters, output=output)
            return
        needs_reason(reason, not_a_cause=True)
        agree(len(letters), what="dead letters to be given up for good", expect=expect_count)
        changed = desk.discard(letters, reason=reason)
        say(f"{changed} of {len(letters)} jobs are CANCELLED")


replays.add_to(app)
