"""Whether every job that was accepted still has a holder."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from collections import Counter

    from ops.audit import Audit, Hand

_FIELDS = (
    "what", "name", "accepted", "final", "with_platform", "for_review", "dead", "waiting", "queued", "in_flight",
    "nobody",
)  # fmt: skip
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
    from ops.audit import audit as look
    from ops.session import opened
    from schemas.errors import InputError

    if repair and not reason:
        raise InputError("--repair needs --reason")
    with opened(sandbox=sandbox) as (backends, catalogue):
        found = look(backends, run=run)
        emit(_rows(found, every=output is not Format.TABLE), fields=_FIELDS, output=output)
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


def _rows(found: "Audit", *, every: bool) -> list[dict[str, Any]]:
    from ops.audit import Hand

    rows = [_row("total", "", found.total)]
    rows += [_row("run", run, hands) for run, hands in found.by_run.items()]
    # For a person, platforms where all is settled say nothing.
    rows += [
        _row("platform", platform, hands)
        for platform, hands in sorted(found.by_platform.items())
        if every or hands[Hand.NOBODY]
    ]
    return rows


def _row(what: str, name: str, hands: "Counter[Hand]") -> dict[str, Any]:
    return {"what": what, "name": name, "accepted": sum(hands.values())} | {
        hand.value: count for hand, count in hands.items()
    }
