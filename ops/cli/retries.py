"""What waits: see it, hurry it, take it out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.consent import DryRunOption, ExpectOption, ReasonOption, YesOption, agree, needs_reason
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.waiting_view import WaitingBatch, WaitingFilter
    from ops.inspector import Inspector
    from ops.retries import Retries, Turned

app = typer.Typer(help="Batches that wait: for a retry, a rate, a platform.", no_args_is_help=True)

PlatformOption = Annotated[list[str] | None, typer.Option(help="Only this platform; may be given again.")]
WhyOption = Annotated[list[str] | None, typer.Option(help="Only what waits for this; may be given again.")]
RunOption = Annotated[str | None, typer.Option(help="Only this run.")]
NumberOption = Annotated[
    str | None, typer.Option(help="Only this number, in any usual spelling; `-` reads it from stdin.")
]
CaseOption = Annotated[str | None, typer.Option(help="Only this case.")]
DueOption = Annotated[str | None, typer.Option(help="Only what is due before: 30m, 2h, or an instant.")]
LimitOption = Annotated[int, typer.Option(min=1, help="At most so many rows.")]
BatchesArgument = Annotated[list[str] | None, typer.Argument(help="Ids of batches; or choose by the options.")]
AllOption = Annotated[bool, typer.Option("--all", help="Everything that waits.")]
_SAMPLE = 10


@app.command("list")
def list_retries(
    *,
    platform: PlatformOption = None,
    why: WhyOption = None,
    run: RunOption = None,
    number: NumberOption = None,
    case: CaseOption = None,
    due_before: DueOption = None,
    limit: LimitOption = 50,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List what waits, the first due first."""
    from ops.retries import ROW_FIELDS

    with _opened(sandbox=sandbox) as (retries, inspector):
        wanted = _wanted(
            retries, inspector, platform=platform, why=why, run=run, number=number, case=case, due=due_before
        )
        rows = (retries.row(waiting) for waiting in islice(retries.select(wanted), limit))
        shown = emit(rows, fields=ROW_FIELDS, output=output)
        total = retries.count(wanted) if shown == limit else shown
        say(f"{shown} of {total} batches")


@app.command()
def show(
    batch: Annotated[str, typer.Argument(help="Id of the batch.")],
    *,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one batch that waits, with its jobs."""
    import json

    from ops.retries import JOB_FIELDS

    with _opened(sandbox=sandbox) as (retries, _):
        found = retries.show(batch)
        cases: list[dict[str, Any]] = found["cases"]
        if output is Format.TABLE:
            print(f"batch {found['batch']}: {found['jobs']} jobs for {found['platform']}, run {found['run']}")
            print(f"  waits for {found['why']} until {found['due_at']} (in {found['in_s']} s)")
            print(f"  attempt {found['attempt']}, generation {found['generation']}, deadline {found['deadline']}")
        if output is Format.JSON:
            print(json.dumps(found, ensure_ascii=False, indent=2))
        else:
            emit(cases, fields=JOB_FIELDS, output=output)


@app.command("run-now")
def run_now(
    batches: BatchesArgument = None,
    *,
    reason: ReasonOption = "",
    platform: PlatformOption = None,
    why: WhyOption = None,
    run: RunOption = None,
    number: NumberOption = None,
    case: CaseOption = None,
    due_before: DueOption = None,
    everything: AllOption = False,
    expect_count: ExpectOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Let batches be due now. Rates, pauses and breakers of their platforms hold all the same."""
    with _opened(sandbox=sandbox) as (retries, inspector):
        wanted = _wanted(
            retries, inspector, batches=batches, platform=platform, why=why, run=run, number=number, case=case,
            due=due_before,
        )  # fmt: skip
        chosen = retries.choose(wanted, everything=everything)
        if dry_run:
            _sample(retries, chosen, output=output)
            return
        needs_reason(reason)
        agree(len(chosen), what="batches to be due now", expect=expect_count, yes=yes)
        _tell(retries.run_now(chosen, reason=reason), done="due now")


@app.command()
def cancel(
    batches: BatchesArgument = None,
    *,
    reason: ReasonOption = "",
    platform: PlatformOption = None,
    why: WhyOption = None,
    run: RunOption = None,
    number: NumberOption = None,
    case: CaseOption = None,
    due_before: DueOption = None,
    everything: AllOption = False,
    expect_count: ExpectOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Take batches out: their jobs become CANCELLED and are not tried again."""
    with _opened(sandbox=sandbox) as (retries, inspector):
        wanted = _wanted(
            retries, inspector, batches=batches, platform=platform, why=why, run=run, number=number, case=case,
            due=due_before,
        )  # fmt: skip
        chosen = retries.choose(wanted, everything=everything)
        if dry_run:
            _sample(retries, chosen, output=output)
            return
        needs_reason(reason)
        agree(len(chosen), what="batches to be cancelled", expect=expect_count, yes=yes)
        _tell(retries.cancel(chosen, reason=reason), done="cancelled")


def _wanted(
    retries: "Retries", inspector: "Inspector", *, batches: Sequence[str] | None = None, platform: Sequence[str] | None,
    why: Sequence[str] | None, run: str | None, number: str | None, case: str | None, due: str | None,
) -> "WaitingFilter":  # fmt: skip
    from backends.waiting import Why
    from backends.waiting_view import WaitingFilter
    from ops.cli.choice import cases_of
    from ops.when import parse_ahead
    from schemas.errors import InputError

    unknown = sorted(set(why or ()) - set(Why))
    if unknown:
        raise InputError(f"--why {', '.join(unknown)}: expected one of {', '.join(Why)}")
    return WaitingFilter(
        platforms=frozenset(platform or ()),
        whys=frozenset(Why(each) for each in why or ()),
        batches=frozenset(batches or ()),
        cases=cases_of(inspector, number=number, case=case),
        run=run,
        due_before=parse_ahead(due, option="--due-before", now=retries.now) if due else None,
    )


def _sample(retries: "Retries", chosen: "list[WaitingBatch]", *, output: Format) -> None:
    from ops.retries import ROW_FIELDS

    emit((retries.row(waiting) for waiting in chosen[:_SAMPLE]), fields=ROW_FIELDS, output=output)
    jobs = sum(len(waiting.cases) for waiting in chosen)
    say(f"{len(chosen)} batches with {jobs} jobs would be changed; nothing was: --dry-run")


def _tell(turned: "Turned", *, done: str) -> None:
    say(f"{turned.batches} batches with {turned.jobs} jobs {done}")
    if turned.busy:
        say(f"{len(turned.busy)} batches were skipped: a scheduler is sending them at this moment")


@contextmanager
def _opened(*, sandbox: bool) -> "Iterator[tuple[Retries, Inspector]]":
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        from ops.inspector import Inspector
        from ops.retries import Retries

        yield Retries(backends), Inspector(backends, catalogue)
