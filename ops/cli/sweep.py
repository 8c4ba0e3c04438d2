"""Sweeps: what a night would bring, what it brought, and what a person changes about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.consent import DryRunOption, ReasonOption, needs_reason
from ops.cli.forecast import say_forecast, say_hindsight
from ops.cli.output import Format, OutputOption, emit, say

if TYPE_CHECKING:
    from backends.bootstrap import Backends
    from backends.sweeps import Night
    from ops.sweep_desk import SweepDesk
    from producers.forecast import Forecast
    from producers.inventory import Change
    from producers.sweep_plan import Plan

app = typer.Typer(help="Sweeps: the nightly run over the numbers that are about to be released.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of the sweep.")]
DayOption = Annotated[str | None, typer.Option("--day", help="The night of this day, as 2026-11-30.")]
ForecastOption = Annotated[
    bool, typer.Option("--forecast", help="Only the forecast, platform by platform, in the format of -o.")
]
_PLAN_FIELDS = ("release", "planned", "new")
_CODE_FIELDS = ("refused", "numbers")
_SHOWN_NIGHTS = 30
_SHOWN_ROWS = 10


@app.command()
def plan(
    name: NameArgument,
    *,
    day: DayOption = None,
    refused: Annotated[
        Path | None, typer.Option(help="Write every row that would not be sent into this CSV file, with its reason.")
    ] = None,
    forecast: ForecastOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Read the inventory and show what a night would bring, and when it would be done; nothing is changed."""
    with _desk() as (desk, _):
        found = desk.plan(name, day=_day(day), refused=refused)
        foreseen = desk.foresee(name, found)
    if forecast:
        say_forecast(foreseen, output=output)
        return
    _say_plan(found, foreseen, output=output)


def _say_plan(found: "Plan", foreseen: "Forecast", *, output: Format) -> None:
    import json

    contents = found.contents
    by_release = [
        {"release": release, "planned": count, "new": found.new_by_release.get(release, 0)}
        for release, count in contents.planned_by_release.items()
    ]
    by_code = [{"refused": code, "numbers": count} for code, count in contents.refused.items()]
    if output is Format.JSON:
        facts = {
            "day": found.day.isoformat(), "source": found.source, "rows": contents.rows, "rejected": contents.rejected,
            "planned": contents.planned, "known": found.known, "by_release": by_release, "refused": contents.refused,
            "jobs": sum(found.jobs_by_platform.values()), "jobs_by_platform": found.jobs_by_platform,
            "forecast": list(foreseen.rows()), "at_risk": list(foreseen.risk_rows()),
        }  # fmt: skip
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    emit(by_release, fields=_PLAN_FIELDS, output=output)
    if output is Format.TABLE:
        emit(by_code, fields=_CODE_FIELDS, output=output)
    say(
        f"the night of {found.day}, {found.source}: {contents.rows} numbers, {contents.rejected} rows rejected,"
        f" {contents.planned} planned, {found.known} of them known already;"
        f" {sum(found.jobs_by_platform.values())} new jobs at {len(found.jobs_by_platform)} platforms"
    )
    if output is Format.TABLE:
        say_forecast(foreseen, output=output)


@app.command()
def run(name: NameArgument, *, reason: ReasonOption = "", day: DayOption = None) -> None:
    """Run a night now, from here; it counts as the one of its day. Ctrl-C leaves the rest to the scheduler."""
    from backends.sweeps import Ending
    from ops.lifeline import stop_on_signals

    needs_reason(reason)
    stop = stop_on_signals()
    with _desk() as (desk, backends):
        backends.broker.declare()
        night = desk.run(name, day=_day(day), reason=reason, stop=stop, progress=_tell)
    if night.ending is Ending.COMPLETED:
        say(f"completed: {night.accepted} cases accepted, {night.known} known already; run {night.run}")
        return
    say(f"not completed: {night.problem or night.why or 'stopped; the scheduler goes on with it'}")
    raise typer.Exit(1)


def _tell(night: "Night") -> None:
    stopped = sum(night.stopped.values())
    say(f"{night.day}: {night.cursor} of {night.planned}, {stopped} stopped")


@app.command("list")
def list_sweeps(*, output: OutputOption = Format.TABLE) -> None:
    """List the sweeps: when they run, where they stand, what the last night brought."""
    from ops.sweep_desk import LIST_FIELDS

    with _desk() as (desk, _):
        emit(desk.rows(), fields=LIST_FIELDS, output=output)


@app.command()
def show(
    name: NameArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, help="At most so many nights, the newest.")] = _SHOWN_NIGHTS,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one sweep and its nights, the newest first."""
    import json

    from ops.sweep_desk import NIGHT_FIELDS

    with _desk() as (desk, _):
        found = desk.show(name)
    found["nights"] = found["nights"][:limit]
    if output is Format.JSON:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    if output is Format.TABLE:
        print(f"{found['name']}: {found['at']} {found['zone']}, {found['standing']}, next {found['next'] or '–'}")
        if found["why"]:
            print(f"  {found['why']}")
    rows = [night | {"refused": _total(night["refused"]), "stopped": _total(night["stopped"])}
            for night in found["nights"]]  # fmt: skip
    # For a person the run and who stepped it are in the way; `report` has them.
    fields = tuple(f for f in NIGHT_FIELDS if f not in {"run", "who"}) if output is Format.TABLE else NIGHT_FIELDS
    emit(rows if output is Format.TABLE else found["nights"], fields=fields, output=output)


@app.command()
def report(
    name: NameArgument, *, day: DayOption = None, forecast: ForecastOption = False, output: OutputOption = Format.TABLE
) -> None:
    """Show what was planned and foreseen of a night beside what became of it; the newest night if no day is given."""
    import json

    from schemas.errors import Refused

    with _desk() as (desk, _):
        found = desk.report(name, day=_day(day))
        seen = desk.look_back(name, day=_day(day)) if forecast or output in {Format.TABLE, Format.JSON} else None
    if forecast:
        if seen is None:
            raise Refused(f"sweep {name}: no forecast is kept of the night of {found['day']}")
        say_hindsight(seen, output=output)
        return
    if output is Format.JSON:
        found["forecast"] = list(seen.rows()) if seen else None
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    rows = [{"what": key, "value": _flat(value)} for key, value in found.items() if value not in (None, "", {})]
    emit(rows, fields=("what", "value"), output=output)
    if seen is not None:
        say_hindsight(seen, output=output)


@app.command()
def pause(name: NameArgument, *, reason: ReasonOption = "") -> None:
    """Begin and send nothing more of a sweep; what was sent goes on by itself."""
    needs_reason(reason)
    with _desk() as (desk, _):
        desk.pause(name, reason=reason)
    say(f"{name} is paused")


@app.command()
def resume(name: NameArgument, *, reason: ReasonOption = "") -> None:
    """Let a sweep go on; for nights that were missed its catch-up rule holds."""
    needs_reason(reason)
    with _desk() as (desk, _):
        desk.resume(name, reason=reason)
    say(f"{name} goes on")


@app.command()
def reclaim(
    file: Annotated[str, typer.Argument(help="Numbers, one a line, or CSV with number,at; `-` is standard input.")],
    *,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Say that holders have taken their numbers back: unsent jobs are cancelled, sent ones withdrawn.

    No sweep sends these numbers any more in this cycle.
    """
    with _desk() as (desk, backends):
        changes, wrong = _changes(file, backends)
        for line in wrong[:_SHOWN_ROWS]:
            say(line)
        if len(wrong) > _SHOWN_ROWS:
            say(f"… and {len(wrong) - _SHOWN_ROWS} more rows are wrong")
        if dry_run:
            say(f"{len(changes)} numbers would be reclaimed; nothing was: --dry-run")
        else:
            needs_reason(reason)
            done = desk.reclaim(changes, reason=reason)
            say(
                f"{done.numbers} numbers reclaimed: {done.cases} cases, {done.cancelled} jobs cancelled,"
                f" {done.withdrawals} to be withdrawn; {done.without_case} without a case,"
                f" {done.other_cycle} whose case is of another cycle"
            )
    raise typer.Exit(3 if wrong else 0)


@app.command()
def withdrawals(
    *,
    stage: Annotated[str | None, typer.Option(help="Only those that are so far, e.g. not_supported.")] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List what platforms are to be told, and were told, of numbers that were taken back."""
    from backends.withdrawals import Stage
    from ops.sweep_desk import WITHDRAWAL_FIELDS
    from schemas.errors import InputError

    if stage is not None and stage not in set(Stage):
        raise InputError(f"--stage {stage}: expected one of {', '.join(Stage)}")
    with _desk() as (desk, _):
        count = emit(desk.withdrawals(stage=Stage(stage) if stage else None), fields=WITHDRAWAL_FIELDS, output=output)
    say(f"{count} withdrawals")


@app.command()
def told(
    jobs: Annotated[list[str], typer.Argument(help="Jobs whose withdrawal waits for a person.")],
    *,
    reason: ReasonOption = "",
) -> None:
    """Say that you have told the platform of these withdrawals yourself, and it knows."""
    needs_reason(reason)
    with _desk() as (desk, _):
        desk.told(jobs, reason=reason)
    say(f"{len(jobs)} withdrawals are acknowledged")


def _changes(file: str, backends: "Backends") -> "tuple[list[Change], list[str]]":
    from producers.eligibility import NumberState
    from producers.inventory import Change, read_changes

    found: list[Change] = []
    wrong: list[str] = []
    now = backends.clock.now()
    for change in read_changes("-" if file == "-" else Path(file), now=now, state=NumberState.RECLAIMED):
        if isinstance(change, Change) and change.state is NumberState.RECLAIMED:
            found.append(change)
        elif isinstance(change, Change):
            wrong.append(f"line {change.line}: state: expected RECLAIMED, or none")
        else:
            wrong.append(f"line {change.line}: {change.field}: {change.problem}")
    return found, wrong


def _day(text: str | None) -> date | None:
    from schemas.errors import InputError

    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InputError(f"--day {text}: expected a date as in 2026-11-30") from None


def _total(counts: dict[str, int]) -> int:
    return sum(counts.values())


def _flat(value: Any) -> Any:
    return ", ".join(f"{name} {count}" for name, count in value.items()) if isinstance(value, dict) else value


@contextmanager
def _desk() -> "Iterator[tuple[SweepDesk, Backends]]":
    from ops.session import opened

    with opened() as (backends, catalogue):
        from ops.sweep_desk import SweepDesk

        yield SweepDesk(backends, catalogue), backends
