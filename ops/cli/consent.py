"""Before something is changed in mass: the number of things must be the one that the person has in mind."""

import sys
from typing import Annotated

import typer

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the actions log. Needed.")]
ExpectOption = Annotated[
    int | None, typer.Option("--expect-count", min=0, help="Go on only if it is exactly this many.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show how many and some of them; change nothing.")]


def needs_reason(reason: str, *, not_a_cause: bool = False) -> None:
    """Raise InputError unless a reason was given; with `not_a_cause`, it must not be what letters are chosen by."""
    from schemas.errors import InputError
    from schemas.outcome import REASONS

    if not_a_cause and reason in set(REASONS):
        raise InputError(f"--reason is why you do this; to choose what died of {reason}, give --cause {reason}")
    if not reason.strip():
        raise InputError("--reason: say why; it is kept in the actions log")


def agree(count: int, *, what: str, expect: int | None, yes: bool = False) -> None:
    """Return only if this many are meant. Raises Refused, and InputError where nobody can be asked."""
    from schemas.errors import InputError, Refused

    if expect is not None:
        if expect != count:
            raise Refused(f"{count} {what}, not {expect}: nothing was changed")
        return
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{count} {what}: nobody can be asked here; give --expect-count {count}")
    if not typer.confirm(f"{count} {what}. Go on?", err=True):
        raise Refused("not confirmed: nothing was changed")
