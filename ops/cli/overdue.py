"""Promises: open jobs that are late or nearly so, and the calendar by which that is counted."""

from typing import Annotated, Any

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

app = typer.Typer(help="Open jobs beyond the promised time, and the calendar of working days.", no_args_is_help=True)
PlatformOption = Annotated[list[str] | None, typer.Option(help="Only this platform; may be given again.")]
RiskOption = Annotated[bool, typer.Option("--at-risk", help="Those too that have less than a working day left.")]
_YEAR_FIELDS = ("year", "document", "number", "issued_on", "version", "days_off", "working_weekends")
_UNSEEN = "not covered: what is with the broker or a worker at this moment"


@app.command()
def groups(
    *,
    platform: PlatformOption = None,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Count what is late and at risk by platform, the most first, each with the job that is due first."""
    from ops.overdue import GROUP_FIELDS, OverdueDesk
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        desk = OverdueDesk(backends, catalogue)
        rows = desk.groups(platform or ())
        emit(rows, fields=GROUP_FIELDS, output=output)
        late, risk = sum(row["overdue"] for row in rows), sum(row["at_risk"] for row in rows)
        say(f"{late} jobs overdue, {risk} at risk; {_not_covered(desk.for_review(platform or ()))}")


@app.command("list")
def list_jobs(
    *,
    platform: PlatformOption = None,
    at_risk: RiskOption = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 50,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List open jobs that are overdue, the first due first."""
    from ops.overdue import JOB_FIELDS, OverdueDesk
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        desk = OverdueDesk(backends, catalogue)
        found = desk.select(platform or (), at_risk=at_risk, at_most=limit)
        shown = emit(desk.rows(found), fields=JOB_FIELDS, output=output)
        total = sum(row["overdue"] + (row["at_risk"] if at_risk else 0) for row in desk.groups(platform or ()))
        say(f"{shown} of {total} jobs; {_not_covered(desk.for_review(platform or ()))}")


@app.command()
def calendar(*, output: OutputOption = Format.TABLE) -> None:
    """Show the years whose working days are known, and the document that each is taken from."""
    from platforms.calendar import WorkingDays

    rows = [
        {
            "year": year.year,
            "document": year.source.document,
            "number": year.source.number,
            "issued_on": year.source.issued_on.isoformat(),
            "version": year.version,
            "days_off": sum(len(list(holiday.days)) for holiday in year.holidays),
            "working_weekends": len(year.working_weekends),
        }
        for year in WorkingDays.load().years
    ]
    emit(rows, fields=_YEAR_FIELDS, output=output)
    say("any other year is Monday to Friday, and what is due in it is provisional")


@app.command()
def due(
    start: Annotated[str, typer.Argument(help="When the clock starts: an instant or a date of Asia/Shanghai.")],
    *,
    working_days: Annotated[int, typer.Option(min=0, max=60, help="How many; 0 is the same day.")] = 5,
    output: OutputOption = Format.TABLE,
) -> None:
    """Say when so many working days are over."""
    from backends.clock import SystemClock
    from ops.when import parse_ago
    from platforms.calendar import WorkingDays

    started = parse_ago(start, option="START", now=SystemClock().now())
    found = WorkingDays.load().due(started, working_days)
    row: dict[str, Any] = {
        "started_at": started.isoformat(),
        "working_days": working_days,
        "due_at": found.at.isoformat(),
        "provisional": found.provisional,
    }
    emit([row], fields=tuple(row), output=output)


def _not_covered(for_review: int) -> str:
    return f"{_UNSEEN}, and {for_review} answers for review"
