"""How long a night will be, before it begins."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.bootstrap import Backends
    from platforms.catalogue import Catalogue
    from producers.forecast import Forecast
    from producers.hindsight import Hindsight


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Look")(forecast)


def forecast(
    *,
    numbers: Annotated[int | None, typer.Option(min=1, help="So many numbers, at every platform.")] = None,
    run: Annotated[str | None, typer.Option(help="Or: foresee this run, beside what became of it.")] = None,
    start: Annotated[str | None, typer.Option(help="When it begins: 2h ahead, or an instant. Now.")] = None,
    hours: Annotated[float, typer.Option(min=0.1, max=24, help="How long the night is.")] = 8,
    release: Annotated[str | None, typer.Option(help="Date on which the numbers are sold again.")] = None,
    bulk_jobs_per_s: Annotated[float | None, typer.Option(min=1, help="What the workers do of bulk jobs.")] = None,
    single_jobs_per_s: Annotated[float | None, typer.Option(min=1, help="What they do of single calls.")] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Folder of platforms.")] = None,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Say when each platform will be done, what is left for the next night, and why; the last to be done first.

    Without figures of your own, the house's pace is what two cores did in `renewal bench`.
    """
    from producers.forecast import BULK_JOBS_PER_S, SINGLE_JOBS_PER_S, House
    from schemas.errors import InputError

    if (numbers is None) == (run is None):
        raise InputError("give --numbers or --run")
    house = House(
        bulk_jobs_per_s=bulk_jobs_per_s or BULK_JOBS_PER_S, single_jobs_per_s=single_jobs_per_s or SINGLE_JOBS_PER_S
    )
    with _opened(sandbox=sandbox, catalogue=catalogue) as (backends, loaded):
        from ops.capacity import foresee_numbers, look_back_at, standings
        from ops.when import parse_ahead, parse_date

        if run is not None:
            say_hindsight(
                look_back_at(backends, loaded, run, length=timedelta(hours=hours), house=house), output=output
            )
            return
        now = backends.clock.now()
        begins = parse_ahead(start, option="--start", now=now) if start else now
        ends = begins + timedelta(hours=hours)
        found = foresee_numbers(
            loaded,
            numbers or 0,
            release=parse_date(release, option="--release") if release else (ends + timedelta(days=1)).date(),
            start=begins,
            length=timedelta(hours=hours),
            house=house,
            now=standings(backends, loaded),
        )
        say_forecast(found, output=output)


def say_forecast(found: "Forecast", *, output: Format) -> None:
    """Print when each platform will be done, and what is at risk."""
    from producers.forecast import HORIZON_DAYS, RISK_FIELDS, ROW_FIELDS, instant

    emit(found.rows(), fields=ROW_FIELDS, output=output)
    end = instant(found.done_at) or f"not within {HORIZON_DAYS} days"
    say(f"{found.jobs:,} jobs, done {end}; {found.spilled:,} are left after {instant(found.until)}")
    if found.at_risk and output is Format.TABLE:
        say("releases at risk:")
        emit(found.risk_rows(), fields=RISK_FIELDS, output=output)


def say_hindsight(seen: "Hindsight", *, output: Format) -> None:
    """Print what was foreseen of each platform beside what happened, the worst first."""
    from producers.hindsight import ROW_FIELDS

    emit(seen.rows(), fields=ROW_FIELDS, output=output)
    error = "still open" if seen.error_pct is None else f"{seen.error_pct:+.0f} % of the foreseen duration"
    say(f"end of the run against the forecast: {error}; jobs on the wrong side of the night's end: {seen.wrong_jobs:,}")


@contextmanager
def _opened(*, sandbox: bool, catalogue: Path | None) -> "Iterator[tuple[Backends, Catalogue]]":
    from ops.session import opened

    with opened(sandbox=sandbox, catalogue=catalogue) as (backends, loaded):
        yield backends, loaded
