"""What was kept because nothing else could be done with it."""

from typing import Annotated, Any

import typer

from ops.cli.consent import DryRunOption, ExpectOption, ReasonOption, YesOption, agree, needs_reason
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

app = typer.Typer(
    help="What was kept whole: poison, orphans, disputes, late, unreadable, undelivered.", no_args_is_help=True
)
KindArgument = Annotated[str, typer.Argument(help="poison, orphans, disputes, late, unreadable or undelivered.")]
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
    from ops.kept_desk import LIST_FIELDS, KeptDesk
    from ops.session import opened

    chosen = _kind(kind)
    with opened(sandbox=sandbox) as (backends, _):
        desk = KeptDesk(backends)
        rows = desk.rows(chosen, at_most=limit)
        if output is Format.TABLE:
            rows = (row | {"content": str(row["content"])[:_SHOWN_CHARS]} for row in rows)
        shown = emit(rows, fields=LIST_FIELDS, output=output)
        say(f"{shown} of {desk.count(chosen)} {chosen}")


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
    from ops.kept_desk import KeptDesk
    from ops.session import opened

    chosen = _kind(kind)
    needs_reason(reason)
    with opened(sandbox=sandbox) as (backends, _):
        desk = KeptDesk(backends)
        count = desk.count(chosen)
        if dry_run:
            say(f"{count} {chosen} would be dropped")
            return
        agree(count, what=f"{chosen} will be dropped", expect=expect_count, yes=yes)
        desk.drop(chosen, expected=count, reason=reason)
        say(f"{count} {chosen} dropped")


def _kind(name: str) -> Any:
    from backends.kept import Kind
    from schemas.errors import InputError

    if name not in set(Kind):
        raise InputError(f"{name}: expected one of {', '.join(Kind)}")
    return Kind(name)
