"""Whether every job that was accepted still has a holder."""

from typing import Annotated

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

_EXAMPLES_MAX = 20


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Look")(audit)


def audit(
    *,
    run: Annotated[str | None, typer.Option(help="Only this run; all of them when not given.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Send what nobody holds again.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the actions log. Needed with --repair.")] = "",
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Prove that nothing is lost: accepted = final + dead + waiting + queued + in flight (+ at platform, for review).

    Exit code 1 if a job is in nobody's hands; with --repair, 0 once it is sent again.
    """
    from ops.audit import ROW_FIELDS, audit_rows
    from ops.audit import audit as look
    from ops.session import opened
    from schemas.errors import InputError

    if repair and not reason:
        raise InputError("--repair needs --reason")
    with opened(sandbox=sandbox) as (backends, catalogue):
        found = look(backends, run=run)
        emit(audit_rows(found, every=output is not Format.TABLE), fields=ROW_FIELDS, output=output)
        for case, platform in found.nobody[:_EXAMPLES_MAX]:
            say(f"in nobody's hands: {case}.{platform}")
        if found.adds_up:
            say(f"it adds up: {sum(found.total.values())} jobs; {found.redriven} batches were sent again so far")
            return
        say(f"{len(found.nobody)} jobs are in nobody's hands")
        if not repair:
            say("renewal audit --repair --reason … sends them again")
            raise typer.Exit(1)
        from backends.actions import Action, What
        from producers.redrive import redrive

        batches = redrive(backends, catalogue, jobs=found.nobody)
        backends.actions.append(
            Action(what=What.AUDIT_REPAIR, target=run or "all runs", reason=reason,
                   before={"nobody": len(found.nobody)}, after={"batches": batches})
        )  # fmt: skip
        say(f"sent again in {batches} batches")
