"""How a person says which dead letters are meant: the same options in every command."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import Format, emit, say

if TYPE_CHECKING:
    from backends.dead import DeadFilter, DeadJob
    from ops.dead_letters import DeadDesk
    from ops.inspector import Inspector

PlatformOption = Annotated[list[str] | None, typer.Option(help="Only this platform; may be given again.")]
CauseOption = Annotated[
    list[str] | None, typer.Option(help="Only what died for this reason, as in `dead groups`; may be given again.")
]
SinceOption = Annotated[str | None, typer.Option(help="Only what died since: 30m, 2h, 3d ago, or an instant.")]
UntilOption = Annotated[str | None, typer.Option(help="Only what died before: 30m, 2h, 3d ago, or an instant.")]
CaseOption = Annotated[str | None, typer.Option(help="Only this case.")]
NumberOption = Annotated[
    str | None, typer.Option(help="Only this number, in any usual spelling; `-` reads it from stdin.")
]
RunOption = Annotated[str | None, typer.Option(help="Only this run.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
_SAMPLE = 10


def wanted_of(
    desk: "DeadDesk",
    inspector: "Inspector",
    *,
    platform: Sequence[str] | None,
    cause: Sequence[str] | None,
    since: str | None,
    until: str | None,
    case: str | None,
    number: str | None,
    run: str | None,
) -> "DeadFilter":
    """Read the options. Raises InputError that names the option, NotFound for a number or case that is not known."""
    from backends.dead import DeadFilter
    from ops.cli.choice import cases_of
    from ops.dead_letters import instant_ms
    from ops.when import parse_ago
    from schemas.errors import InputError
    from schemas.outcome import REASONS, reason_of

    unknown = sorted(set(cause or ()) - set(REASONS))
    if unknown:
        raise InputError(f"--cause {', '.join(unknown)}: no such reason; see `renewal dead groups`")
    return DeadFilter(
        platforms=frozenset(platform or ()),
        reasons=frozenset(map(reason_of, cause or ())),
        since_ms=instant_ms(parse_ago(since, option="--since", now=desk.now) if since else None),
        until_ms=instant_ms(parse_ago(until, option="--until", now=desk.now) if until else None),
        cases=cases_of(inspector, number=number, case=case),
        run=run,
    )


def sample(desk: "DeadDesk", letters: "Sequence[DeadJob]", *, output: Format) -> None:
    """Show some of the letters and how many there are."""
    from ops.dead_letters import ROW_FIELDS

    emit(desk.rows(letters[:_SAMPLE]), fields=ROW_FIELDS, output=output)
    say(f"{len(letters)} dead letters would be changed; nothing was: --dry-run")


@contextmanager
def opened_desk(*, sandbox: bool) -> "Iterator[tuple[DeadDesk, Inspector]]":
    """Yield the desk and the inspector."""
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        from ops.dead_letters import DeadDesk
        from ops.inspector import Inspector

        yield DeadDesk(backends, catalogue), Inspector(backends, catalogue)
