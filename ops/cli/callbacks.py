"""Callbacks of platforms that were refused."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.callbacks import RefusedCallback

app = typer.Typer(help="Callbacks of platforms: what was refused.", no_args_is_help=True)
_FIELDS = ("at", "platform", "why", "items", "digest")


@app.callback()
def callbacks() -> None:
    """Callbacks of platforms: what was refused."""


@app.command("list")
def list_refused(
    *,
    platform: Annotated[str | None, typer.Option(help="Only of this platform.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List callbacks, or results in them, that were refused, the newest last; of their bodies only a digest is kept."""
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, _):
        found = backends.callbacks.newest(at_most=limit, platform=platform)
        emit(map(_row, found), fields=_FIELDS, output=output)
        say(f"{len(found)} refused")


def _row(refused: "RefusedCallback") -> dict[str, Any]:
    return {
        "at": refused.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "platform": refused.platform or None,
        "why": refused.why,
        "items": refused.items,
        "digest": refused.digest,
    }
