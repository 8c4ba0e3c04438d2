"""Requests of single persons at the desk: the same as over HTTP."""

import sys
from typing import Annotated

import typer

from ops.cli.consent import ReasonOption, needs_reason
from ops.cli.output import say

app = typer.Typer(help="Requests of single persons, and the links for them.", no_args_is_help=True)
CaseArgument = Annotated[str, typer.Argument(help="Id of the case.")]


@app.command("submit")
def submit() -> None:
    """Read one request as JSON from standard input, and put it on its way ahead of all bulk work.

    So that no number stands in a command line. Prints the case and the owner's link as JSON.
    """
    from json import dumps

    from backends.actions import whoami
    from ops.owner.link_desk import LinkDesk
    from ops.request_form import RequestForm
    from ops.session import opened
    from producers.request import Requests

    form = RequestForm.parse(sys.stdin.buffer.read())
    with opened() as (backends, catalogue):
        links = LinkDesk(backends, who=whoami())
        links.base()  # first: nothing is taken for which no link could be made
        backends.broker.declare()
        received = Requests(backends, catalogue, who=whoami()).take(form)
        link = links.make(received.case)
    said = {
        "case": received.case, "known": received.known, "platforms": received.platforms, "settled": received.settled,
        "owner": {"url": link.url, "expires_at": link.expires_at.isoformat(timespec="seconds")},
    }  # fmt: skip
    print(dumps(said, ensure_ascii=False, indent=2))


@app.command("withdraw")
def withdraw(case: CaseArgument, *, reason: ReasonOption) -> None:
    """Withdraw the owner's authorisation of a case: nothing more of it is sent."""
    from backends.actions import whoami
    from ops.session import opened
    from producers.authorisation_end import AuthorisationEnd

    needs_reason(reason)
    with opened() as (backends, _):
        stopped = AuthorisationEnd(backends, who=whoami()).withdraw(case, reason=reason)
    say(f"{stopped.cancelled} jobs cancelled, {stopped.withdrawals} platforms to be told")


@app.command("link")
def link(case: CaseArgument) -> None:
    """Make a link for the owner of a case's number; it is shown once, and ends after thirty days."""
    from backends.actions import whoami
    from ops.owner.link_desk import LinkDesk
    from ops.session import opened

    with opened() as (backends, _):
        print(LinkDesk(backends, who=whoami()).make(case).url)


@app.command("revoke-links")
def revoke_links(case: CaseArgument) -> None:
    """Let none of the links that were made lead to a case any more."""
    from backends.actions import whoami
    from ops.owner.link_desk import LinkDesk
    from ops.session import opened

    with opened() as (backends, _):
        say(f"{LinkDesk(backends, who=whoami()).revoke(case)} links revoked")
