"""What was kept because nothing else could be done with it."""

from typing import Annotated, Any

import typer

from ops.cli.consent import DryRunOption, ExpectOption, ReasonOption, YesOption, agree, needs_reason
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

app = typer.Typer(help="What was kept whole: poison, orphans, disputes, late, unreadable.", no_args_is_help=True)
KindArgument = Annotated[str, typer.Argument(help="poison, orphans, disputes, late or unreadable.")]
_FIELDS = ("kind", "position", "at", "why", "content")
_SHOWN_CHARS = 160


@app.command("list")
def list_kept(
    kind: KindArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List what was kept, the newest last; whole with -o json. Numbers in it are sealed."""
    from ops.session import opened

    chosen = _kind(kind)
    with opened(sandbox=sandbox) as (backends, _):
        found = backends.kept.newest(chosen, at_most=limit)
        rows = (_row(chosen, item.position, item.content, whole=output is not Format.TABLE) for item in found)
        emit(rows, fields=_FIELDS, output=output)
        say(f"{len(found)} of {backends.kept.count(chosen)} {chosen}")


@app.command()
def drop(
    kind: KindArgument,
    *,
    reason: ReasonOption = "",
    expect_count: ExpectOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
) -> None:
    """Forget one list when its cause is mended; keep a copy first: `renewal kept list KIND -o jsonl`."""
    from backends.actions import Action, What
    from ops.session import opened
    from schemas.errors import Refused

    chosen = _kind(kind)
    needs_reason(reason)
    with opened(sandbox=sandbox) as (backends, _):
        count = backends.kept.count(chosen)
        if dry_run:
            say(f"{count} {chosen} would be dropped")
            return
        agree(count, what=f"{chosen} will be dropped", expect=expect_count, yes=yes)
        if not backends.kept.drop(chosen, expected=count):
            raise Refused(f"more {chosen} have come meanwhile: nothing was dropped")
        backends.actions.append(
            Action(what=What.KEPT_DROP, target=chosen, reason=reason, before={"count": count}, after={"count": 0})
        )
        say(f"{count} {chosen} dropped")


def _kind(name: str) -> Any:
    from backends.kept import Kind
    from schemas.errors import InputError

    if name not in set(Kind):
        raise InputError(f"{name}: expected one of {', '.join(Kind)}")
    return Kind(name)


def _row(kind: str, position: int, content: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    rest = {name: value for name, value in content.items() if name not in {"at", "why"}}
    shown: Any = rest if whole else str(rest)[:_SHOWN_CHARS]
    return {"kind": kind, "position": position, "at": content.get("at"), "why": content.get("why"), "content": shown}
