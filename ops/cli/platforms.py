"""The platforms: what the catalogue says of them, how they do, and a person's hand on their gates."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.consent import ReasonOption, needs_reason
from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.bootstrap import Backends
    from ops.operator import Operator, Turned
    from platforms.catalogue import Catalogue

app = typer.Typer(help="The platforms: catalogue, health, and a hand on their gates.", no_args_is_help=True)
FolderOption = Annotated[
    Path | None, typer.Option("--catalogue", help="Show what this folder says of platforms, and no health.")
]
OverOption = Annotated[
    float | None,
    typer.Option("--over", min=1, max=300, help="Watch for so many seconds, and judge the calls of these alone."),
]
KeysArgument = Annotated[list[str], typer.Argument(help="Keys of platforms.")]
AsOption = Annotated[str, typer.Option("--as", help="Who does it, if not the user of this machine.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show before and after; change nothing.")]
_CHANGE_FIELDS = ("platform", "what", "before", "after")
_TURNED_FIELDS = ("platform", "before", "after", "dry_run")


@app.command("list")
def list_platforms(
    *,
    catalogue: FolderOption = None,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only these states; may be given again.")] = None,
    over: OverOption = None,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the platforms with their health, those in trouble first; without a running system, the catalogue.

    Success and p95 are over all calls, or over those of --over; calls_per_s_now is measured, over a second if no other
    time is given.
    """
    from ops.platform_desk import CATALOGUE_FIELDS, PlatformDesk, entry_row
    from schemas.errors import InputError

    if not _is_up(catalogue, sandbox=sandbox):
        if state or over:
            raise InputError("--state and --over ask for health: that needs a running system, and no --catalogue")
        if catalogue is None:
            say("the system is not up, so nothing is known of health; this is the catalogue")
        rows = [entry_row(platform) for platform in _load(catalogue) if category in {None, platform.category}]
        emit(rows, fields=CATALOGUE_FIELDS, output=output)
        return
    from ops.health import HEALTH_FIELDS, NARROW_FIELDS

    narrow = output is Format.TABLE
    with _opened(sandbox=sandbox) as (backends, loaded):
        shown = PlatformDesk(backends, loaded).select(category=category, states=state or (), over_s=over)
        rows = [health.narrow_row() if narrow else health.row() for health in shown]
        emit(rows, fields=NARROW_FIELDS if narrow else HEALTH_FIELDS, output=output)


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="Key of the platform.")],
    *,
    catalogue: FolderOption = None,
    over: OverOption = None,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one platform: its entry, defaults filled in; if the system is up, also health, gate and dead letters."""
    if not _is_up(catalogue, sandbox=sandbox):
        _print(_load(catalogue).get(key).model_dump(mode="json"), output=output)
        return
    from ops.platform_desk import PlatformDesk

    with _opened(sandbox=sandbox) as (backends, loaded):
        _print(PlatformDesk(backends, loaded).show(key, over_s=over), output=output)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of <key>.yaml files.")],
    secrets: Annotated[bool, typer.Option(help="Also check that every secret can be read here.")] = False,
) -> None:
    """Check a catalogue: every wrong field of every file is named."""
    from platforms.catalogue import Catalogue
    from workers.credentials import check_secrets

    catalogue = Catalogue.load(folder)
    if secrets:
        check_secrets(catalogue)
    bulk = sum(platform.protocol == "bulk-json" for platform in catalogue)
    say(f"{len(catalogue)} platforms, {bulk} of them bulk: all entries are valid")


# -- a person's hand ---------------------------------------------------------------------------------------------------


@app.command()
def pause(
    keys: KeysArgument,
    *,
    reason: ReasonOption = "",
    ends: Annotated[str | None, typer.Option("--for", help="How long: 30m, 2h, or until an instant.")] = None,
    who: AsOption = "",
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Let no call through, not even a probe, until resumed or until the time is over. Its jobs wait."""
    needs_reason(reason)
    with _operator(who=who, dry_run=dry_run, sandbox=sandbox) as (operator, backends):
        from ops.when import parse_ahead

        until = parse_ahead(ends, option="--for", now=backends.clock.now()) if ends else None
        _tell(operator.pause(keys, reason=reason, until=until), dry_run=dry_run, output=output)


@app.command()
def resume(
    keys: KeysArgument,
    *,
    reason: ReasonOption = "",
    who: AsOption = "",
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """End pause, suspension and breaker; what was more than paused comes back on a ramp."""
    needs_reason(reason)
    with _operator(who=who, dry_run=dry_run, sandbox=sandbox) as (operator, _):
        _tell(operator.resume(keys, reason=reason), dry_run=dry_run, output=output)


@app.command()
def suspend(
    keys: KeysArgument,
    *,
    reason: ReasonOption = "",
    who: AsOption = "",
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Stop all but a probe now and then; the first probe that succeeds resumes the platform by itself."""
    needs_reason(reason)
    with _operator(who=who, dry_run=dry_run, sandbox=sandbox) as (operator, _):
        _tell(operator.suspend(keys, reason=reason), dry_run=dry_run, output=output)


@app.command()
def probe(
    keys: KeysArgument,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the actions log.")] = "",
    who: AsOption = "",
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Let the next probe of a suspended or broken platform go now."""
    with _operator(who=who, dry_run=dry_run, sandbox=sandbox) as (operator, _):
        _tell(operator.probe(keys, reason=reason), dry_run=dry_run, output=output)


@app.command()
def limit(
    keys: KeysArgument,
    *,
    calls_per_s: Annotated[float | None, typer.Option(help="At most so many calls a second.")] = None,
    in_flight: Annotated[int | None, typer.Option(help="At most so many calls at once.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take both limits away.")] = False,
    reason: ReasonOption = "",
    who: AsOption = "",
    dry_run: DryRunOption = False,
    sandbox: SandboxOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Set limits below those of the catalogue, which no limit can raise; one that is not given stays."""
    from schemas.errors import InputError

    needs_reason(reason)
    if clear and (calls_per_s is not None or in_flight is not None):
        raise InputError("--clear takes both limits away: give it alone")
    with _operator(who=who, dry_run=dry_run, sandbox=sandbox) as (operator, _):
        if clear:
            turned = operator.clear_limits(keys, reason=reason)
        else:
            turned = operator.limit(keys, reason=reason, calls_per_s=calls_per_s, in_flight=in_flight)
        _tell(turned, dry_run=dry_run, output=output)


def _tell(turned: "Sequence[Turned]", *, dry_run: bool, output: Format) -> None:
    if output is Format.TABLE:
        changes = [
            {"platform": each.platform, "what": name, "before": _word(old), "after": _word(new)}
            for each in turned
            for name, (old, new) in each.changes.items()
        ]
        unchanged = [{"platform": each.platform, "what": "nothing changes"} for each in turned if not each.changes]
        emit([*changes, *unchanged], fields=_CHANGE_FIELDS, output=output)
    else:
        rows = [
            {"platform": each.platform, "before": each.before, "after": each.after, "dry_run": dry_run}
            for each in turned
        ]
        emit(rows, fields=_TURNED_FIELDS, output=output)
    if hurried := sum(each.hurried for each in turned):
        say(f"{hurried} batches that waited for it look again now")
    if dry_run:
        say(f"{len(turned)} platforms as they would be; nothing was changed: --dry-run")


def _word(value: object) -> str:
    return "–" if value in {None, ""} else str(value)


# -- what it stands on -------------------------------------------------------------------------------------------------


def _is_up(folder: Path | None, *, sandbox: bool) -> bool:
    """Whether health can be asked for; to look at the catalogue must not start a server."""
    from backends.embedded import is_running
    from backends.settings import Settings

    if sandbox or folder is not None:
        return sandbox
    settings = Settings.load()
    return not settings.embedded or is_running(settings.data_dir.resolve() / "valkey")


def _print(entry: dict[str, Any], *, output: Format) -> None:
    import json

    import yaml

    plain = json.dumps(entry, ensure_ascii=False, indent=2)
    if output is Format.TABLE:
        # By way of JSON: a StrEnum is no plain text to YAML.
        print(yaml.safe_dump(json.loads(plain), allow_unicode=True, sort_keys=False), end="")
    else:
        print(plain)


def _load(folder: Path | None) -> "Catalogue":
    from backends.settings import Settings
    from platforms.catalogue import SAMPLE, Catalogue

    return Catalogue.load(folder or Settings.load().catalogue or SAMPLE)


@contextmanager
def _opened(*, sandbox: bool) -> "Iterator[tuple[Backends, Catalogue]]":
    from ops.session import opened

    with opened(sandbox=sandbox) as found:
        yield found


@contextmanager
def _operator(*, who: str, dry_run: bool, sandbox: bool) -> "Iterator[tuple[Operator, Backends]]":
    from backends.actions import whoami
    from ops.operator import Operator

    # A name that is given does not hide whose account was used.
    named = f"{who} ({whoami()})" if who else ""
    with _opened(sandbox=sandbox) as (backends, catalogue):
        yield Operator(backends, catalogue, who=named, dry_run=dry_run), backends
