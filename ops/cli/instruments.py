"""Legal instruments on which bulk runs rest, with who approved them."""

from typing import Annotated

import typer

from ops.cli.consent import ReasonOption, needs_reason
from ops.cli.output import Format, OutputOption, emit, say

app = typer.Typer(help="The documents on which bulk runs rest.", no_args_is_help=True)
KeyArgument = Annotated[str, typer.Argument(help="Key of the instrument.")]
_SHOWN = ("key", "title", "document_number", "approver", "valid_from", "valid_until", "valid")


@app.command("record")
def record(
    key: KeyArgument,
    *,
    title: Annotated[str, typer.Option(help="What it is called.")],
    document_number: Annotated[str, typer.Option(help="Its number, as it stands on it.")],
    approver: Annotated[str, typer.Option(help="Who in your house answers for its use.")],
    valid_from: Annotated[str, typer.Option(help="A date (Shanghai), or an instant with its offset.")],
    valid_until: Annotated[str, typer.Option(help="The first moment at which nothing may rest on it any more.")],
    reason: ReasonOption,
) -> None:
    """Record an instrument. It is never changed: what is wrong is ended, and recorded anew under another key."""
    from ops.instrument_desk import FIELDS, InstrumentDesk
    from ops.session import opened

    needs_reason(reason)
    fields = {
        "key": key, "title": title, "document_number": document_number, "approver": approver,
        "valid_from": _instant(valid_from), "valid_until": _instant(valid_until),
    }  # fmt: skip
    with opened() as (backends, _):
        emit([InstrumentDesk(backends).record(fields, reason=reason)], fields=FIELDS[:7], output=Format.TABLE)


@app.command("list")
def list_instruments(*, output: OutputOption = Format.TABLE) -> None:
    """List every instrument."""
    from ops.instrument_desk import FIELDS, InstrumentDesk
    from ops.session import opened

    with opened() as (backends, _):
        emit(InstrumentDesk(backends).rows(), fields=_SHOWN if output is Format.TABLE else FIELDS, output=output)


@app.command("show")
def show(key: KeyArgument, *, output: OutputOption = Format.TABLE) -> None:
    """Show one instrument, and who recorded it."""
    from ops.instrument_desk import FIELDS, InstrumentDesk
    from ops.session import opened

    with opened() as (backends, _):
        emit([InstrumentDesk(backends).show(key)], fields=FIELDS, output=output)


@app.command("end")
def end(key: KeyArgument, *, reason: ReasonOption) -> None:
    """Let nothing rest on an instrument from now on. Runs that are under way go on; `renewal runs cancel` ends them."""
    from ops.instrument_desk import InstrumentDesk
    from ops.session import opened

    needs_reason(reason)
    with opened() as (backends, _):
        InstrumentDesk(backends).end(key, reason=reason)
    say(f"instrument {key} has ended")


def _instant(text: str) -> str:
    """Return a bare date as the midnight with which it begins in Shanghai."""
    return f"{text}T00:00:00+08:00" if len(text) == len("2026-01-31") else text
