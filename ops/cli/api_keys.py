"""Keys of the HTTP API and the console."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.consent import ReasonOption, needs_reason
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.bootstrap import Backends
    from ops.key_desk import KeyDesk

app = typer.Typer(help="Keys of the HTTP API and the console.", no_args_is_help=True)
_NAME_MAX = 40


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who uses it: the actions log says `api:NAME`.")],
    *,
    scope: Annotated[str, typer.Option(help="read, operate or admin; each may do what those before it may.")] = "read",
    ends: Annotated[str | None, typer.Option("--for", help="How long it is valid: 90d, or until an instant.")] = None,
    sandbox: SandboxOption = False,
) -> None:
    """Make a key. It is printed once, alone on standard output; only a digest of it is kept."""
    from backends.api_keys import Scope
    from ops.when import parse_ahead
    from schemas.errors import InputError

    if scope not in set(Scope):
        raise InputError(f"--scope: expected one of {', '.join(Scope)}")
    if not 0 < len(name) <= _NAME_MAX or not name.isprintable():
        raise InputError(f"NAME: expected up to {_NAME_MAX} characters that can be printed")
    with _desk(sandbox=sandbox) as (desk, backends):
        expires_at = parse_ahead(ends, option="--for", now=backends.clock.now()) if ends else None
        key, text = desk.create(name, Scope(scope), expires_at=expires_at)
    print(text)
    say(f"key {key.id} of {name}: {scope}, valid until {key.expires_at or 'it is revoked'}; it is not shown again")


@app.command("list")
def list_keys(*, sandbox: SandboxOption = False, output: OutputOption = Format.TABLE) -> None:
    """List every key that was ever made, the oldest first; never its text."""
    from ops.key_desk import LIST_FIELDS

    with _desk(sandbox=sandbox) as (desk, _):
        emit(desk.rows(), fields=LIST_FIELDS, output=output)


@app.command()
def revoke(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `list` shows it.")],
    *,
    reason: ReasonOption = "",
    sandbox: SandboxOption = False,
) -> None:
    """Let a key open nothing from now on; sessions that were begun with it end too."""
    needs_reason(reason)
    with _desk(sandbox=sandbox) as (desk, _):
        key = desk.revoke(ident, reason=reason)
    say(f"key {key.id} of {key.name} is revoked")


@contextmanager
def _desk(*, sandbox: bool) -> "Iterator[tuple[KeyDesk, Backends]]":
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, _):
        from ops.key_desk import KeyDesk

        yield KeyDesk(backends), backends
