"""The systems that are told what happens."""

from typing import Annotated

import typer

from ops.cli.consent import ReasonOption, needs_reason
from ops.cli.output import Format, OutputOption, emit, say

app = typer.Typer(help="Your own systems that are told what happens.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of a subscriber; `topic` is the broker's.")]


@app.command("list")
def list_subscribers(*, output: OutputOption = Format.TABLE) -> None:
    """List the subscribers of RENEWAL_SUBSCRIBERS and how each does."""
    from ops.session import opened
    from ops.subscriber_desk import SUBSCRIBER_FIELDS, SubscriberDesk

    with opened() as (backends, _):
        emit(SubscriberDesk(backends).rows(), fields=SUBSCRIBER_FIELDS, output=output)


@app.command()
def test(name: NameArgument) -> None:
    """Send a test event now, past everything that waits. Exit code 1 if it is not taken."""
    from ops.session import opened
    from ops.subscriber_desk import SubscriberDesk
    from workers.app import transport_of

    with opened() as (backends, _):
        heard = SubscriberDesk(backends).test(name, lambda: transport_of(backends.settings))
    say(f"{name}: {heard.problem or 'taken'}")
    raise typer.Exit(1 if heard.problem else 0)


@app.command()
def resume(name: NameArgument, *, reason: ReasonOption = "") -> None:
    """Tell a subscriber again from now on: one that failed, or one that answered 410."""
    from ops.session import opened
    from ops.subscriber_desk import SubscriberDesk

    needs_reason(reason)
    with opened() as (backends, _):
        SubscriberDesk(backends).resume(name, reason=reason)
    say(f"{name} is told again")
