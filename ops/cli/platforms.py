"""The catalogue."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import Format, OutputOption, emit, say

if TYPE_CHECKING:
    from platforms.catalogue import Catalogue

app = typer.Typer(help="The catalogue of platforms.", no_args_is_help=True)
FolderOption = Annotated[
    Path | None, typer.Option("--catalogue", help="Folder of platforms; the sample when not given.")
]
_FIELDS = ("key", "name", "category", "protocol", "calls_per_s", "in_flight", "items_per_call", "auth", "endpoint")


@app.command("list")
def list_platforms(
    catalogue: FolderOption = None,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the platforms of a catalogue."""
    rows = [
        {
            "key": platform.key,
            "name": f"{platform.name.en} {platform.name.zh}",
            "category": platform.category,
            "protocol": platform.protocol,
            "calls_per_s": platform.limits.calls_per_s,
            "in_flight": platform.limits.in_flight,
            "items_per_call": platform.limits.items_per_call if platform.protocol == "bulk-json" else 1,
            "auth": platform.auth.scheme,
            "endpoint": platform.endpoint,
        }
        for platform in _load(catalogue)
        if category in {None, platform.category}
    ]
    emit(rows, fields=_FIELDS, output=output)


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="Key of the platform.")],
    catalogue: FolderOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one entry with its defaults filled in."""
    import json

    import yaml

    entry = _load(catalogue).get(key).model_dump(mode="json")
    if output is Format.TABLE:
        print(yaml.safe_dump(entry, allow_unicode=True, sort_keys=False), end="")
    else:
        print(json.dumps(entry, ensure_ascii=False, indent=2))


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of <key>.yaml files.")],
    secrets: Annotated[bool, typer.Option(help="Also check that every secret can be read here.")] = False,
) -> None:
    """Check a catalogue: every wrong field of every file is named."""
    from platforms.catalogue import Catalogue
    from workers.app import credentials_of

    catalogue = Catalogue.load(folder)
    if secrets:
        credentials_of(catalogue)
    bulk = sum(platform.protocol == "bulk-json" for platform in catalogue)
    say(f"{len(catalogue)} platforms, {bulk} of them bulk: all entries are valid")


def _load(folder: Path | None) -> "Catalogue":
    from backends.settings import Settings
    from platforms.catalogue import SAMPLE, Catalogue

    return Catalogue.load(folder or Settings.load().catalogue or SAMPLE)
