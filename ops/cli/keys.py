"""Keys that seal numbers; below `api`, keys that open the HTTP API and the console."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli import api_keys, webhook_keys

app = typer.Typer(help="Keys: those that seal numbers, those that sign, and those of the API.", no_args_is_help=True)
app.add_typer(api_keys.app, name="api")
app.add_typer(webhook_keys.app, name="webhook")
FileArgument = Annotated[Path, typer.Argument(help="Key file, as in RENEWAL_NUMBER_KEYS_FILE.")]


@app.command()
def create(file: FileArgument) -> None:
    """Make a new key file; never overwrites one."""
    from backends.vault import new_key_file, write_key_file
    from schemas.errors import Refused

    if file.exists():
        raise Refused(f"{file} exists; without its keys nothing sealed with them can be opened again")
    write_key_file(file, new_key_file())
    print(file)


@app.command()
def rotate(file: FileArgument) -> None:
    """Put a new key on top: it seals from now on, the older ones still open."""
    from backends.vault import Vault, rotate, write_key_file
    from schemas.errors import ConfigurationError

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    Vault.parse(text, source=str(file))
    write_key_file(file, rotate(text))
    print(file)
