"""Keys that sign calls and callbacks."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.output import say

app = typer.Typer(help="The keys that sign calls and callbacks (Standard Webhooks).", no_args_is_help=True)


@app.command()
def create(
    *,
    v1a: Annotated[bool, typer.Option("--v1a", help="A pair of Ed25519 keys in place of one shared secret.")] = False,
    file: Annotated[
        Path | None, typer.Option(help="Write what must stay secret to this new file, readable by you alone.")
    ] = None,
) -> None:
    """Make a key. What must stay secret comes first, and only on standard output or in the file; it is kept nowhere."""
    from backends.signature import new_pair, new_secret

    private, public = new_pair() if v1a else (new_secret(), None)
    if file is None:
        print(private)
    else:
        _write(file, private)
        say(f"written to {file}; name it in the catalogue as file:{file.name}, relative to the entry's folder")
    if public is not None:
        print(public)
        say("the private key (whsk_…) signs and stays with its owner; the public one (whpk_…) is for the other side")
    else:
        say("both sides hold this secret")


def _write(path: Path, private: str) -> None:
    """Write a file that is its owner's alone from its first moment. Raises Refused, ConfigurationError."""
    from schemas.errors import ConfigurationError, Refused

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Refused(f"{path} exists; a key that is in use is not overwritten") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(private + "\n")
