"""The actions log: who changed what, when and why."""

from typing import Annotated

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

app = typer.Typer(help="What people changed, and why.", no_args_is_help=True)
_FIELDS = ("at", "who", "what", "target", "reason", "before", "after", "id")


@app.command("list")
def list_actions(
    *,
    what: Annotated[str | None, typer.Option(help="Only this kind, e.g. platform.pause.")] = None,
    target: Annotated[str | None, typer.Option(help="Only what was done to this platform, job or run.")] = None,
    since: Annotated[str | None, typer.Option(help="Only since: 30m, 2h, 3d ago, or an instant.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List what people changed, the newest last."""
    from backends.actions import What
    from ops.session import opened
    from ops.when import parse_ago
    from schemas.errors import InputError

    if what is not None and what not in set(What):
        raise InputError(f"--what {what}: expected one of {', '.join(What)}")
    with opened(sandbox=sandbox) as (backends, _):
        found = backends.actions.list(
            what=What(what) if what else None,
            target=target,
            since=parse_ago(since, option="--since", now=backends.clock.now()) if since else None,
            limit=limit,
        )
        rows = (each.row() for each in found)
        # For a person the ids and what stayed the same are in the way.
        emit(rows, fields=_FIELDS[:5] if output is Format.TABLE else _FIELDS, output=output)
        if len(found) == limit:
            say(f"the newest {limit}; --limit shows more")
