"""`renewal platforms test`: the conformance kit for who builds an endpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import Format, OutputOption, emit, say

if TYPE_CHECKING:
    from ops.conformance.check import Finding
    from ops.conformance.ear import Ear
    from ops.conformance.numbers import Lent
    from platforms.catalogue import Catalogue
    from platforms.model import Platform

_FIELDS = ("check", "kind", "verdict", "said", "section", "about")
_TABLE_FIELDS = ("check", "kind", "verdict", "said", "section")
_SOME_DO_NOT_HOLD = 3
_PORT_MAX = 65_535


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("test")(rehearse)


def rehearse(
    key: Annotated[str, typer.Argument(help="Key of the platform.")],
    *,
    numbers: Annotated[
        str,
        typer.Option(help="CSV of test numbers of your own (role,number,bound_at), or - for standard input. Needed."),
    ] = "",
    catalogue: Annotated[
        Path | None, typer.Option(help="Folder with the entry; RENEWAL_CATALOGUE or the sample when not given.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="Call this URL in place of the entry's.")] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT on which to hear callbacks.")] = "",
    callback_url: Annotated[
        str, typer.Option(help="How your platform reaches --listen; /v1/callbacks/KEY is put behind it.")
    ] = "",
    wait: Annotated[str, typer.Option(help="How long to wait for answers that come later: 30s, 3m.")] = "3m",
    output: OutputOption = Format.TABLE,
) -> None:
    """Play every case of Unbind protocol v1 against an endpoint and say what is wrong; exit 0 only if every must holds.

    It removes the bindings of the numbers that you lend: use a test copy. Needs no running system.
    """
    from schemas.errors import InputError

    if not numbers:
        raise InputError("--numbers: give a CSV of test numbers of your own; docs/integrate.md shows one")
    if bool(listen) != bool(callback_url):
        raise InputError("--listen and --callback-url belong together: where to listen, and how it is reached")
    folder = _folder(catalogue)
    platform = _entry(folder, key, endpoint=endpoint)
    findings = _rehearsed(
        platform, folder, lent=_lent(numbers), listen=listen, callback_url=callback_url, wait_s=_seconds(wait)
    )
    fields = _TABLE_FIELDS if output is Format.TABLE else _FIELDS
    emit((finding.row() for finding in findings), fields=fields, output=output)
    broken = sum(not finding.holds for finding in findings)
    say(f"{broken} of {sum(f.check.must for f in findings)} musts do not hold" if broken else "every must holds")
    if broken:
        raise typer.Exit(_SOME_DO_NOT_HOLD)


def _rehearsed(
    platform: "Platform",
    folder: "Catalogue",
    *,
    lent: "tuple[Lent, ...]",
    listen: str,
    callback_url: str,
    wait_s: float,
) -> "tuple[Finding, ...]":
    import threading
    from contextlib import ExitStack, closing
    from datetime import UTC, datetime

    from backends.settings import Settings
    from ops.conformance.handshake import shake_hands
    from ops.conformance.later import CALLBACK_PATH
    from ops.conformance.plan import Plan
    from ops.conformance.rehearsal import Rehearsal, judge
    from schemas.ids import new_id
    from workers.app import transport_of
    from workers.credentials import callback_keys_of, credentials_of
    from workers.tls import Tls

    def clock() -> datetime:
        return datetime.now(UTC)

    settings = Settings.load()
    alone = folder.select([platform.key])
    callback_keys = callback_keys_of(alone).get(platform.key, ())
    plan = Plan(
        platform=platform, numbers=lent, credentials=credentials_of(alone)[platform.key], run=new_id(), begun_at=clock()
    )
    with ExitStack() as stack:
        transport = stack.enter_context(closing(transport_of(settings)))
        ear = stack.enter_context(_ear(listen, callback_keys)) if listen else None
        if ear is not None:
            address = f"{callback_url.rstrip('/')}{CALLBACK_PATH.format(platform=platform.key)}"
            say(f"callbacks are heard on {listen}; your platform calls {address}")
        played = Rehearsal(
            plan=plan,
            transport=transport,
            clock=clock,
            pause=threading.Event().wait,
            wait_s=wait_s,
            ear=ear,
            callback_keys=callback_keys,
            handshake=shake_hands(
                platform.endpoint,
                tls=Tls(client_certificate=settings.client_certificate),
                private_endpoints=settings.private_endpoints == "allow",
            ),
        ).play()
    return judge(played)


def _folder(folder: Path | None) -> "Catalogue":
    from backends.settings import Settings
    from platforms.catalogue import SAMPLE, Catalogue

    return Catalogue.load(folder or Settings.load().catalogue or SAMPLE)


def _entry(folder: "Catalogue", key: str, *, endpoint: str | None) -> "Platform":
    """Return the entry, pointed at another endpoint if one is given. Raises NotFound, InputError."""
    from pydantic import ValidationError

    from platforms.model import Platform
    from schemas.errors import InputError

    platform = folder.get(key)
    if endpoint is None:
        return platform
    try:
        return Platform.model_validate(platform.to_yaml_dict() | {"endpoint": endpoint})
    except ValidationError:
        raise InputError("--endpoint: expected an http or https URL without credentials and fragment") from None


def _lent(source: str) -> "tuple[Lent, ...]":
    import sys

    from ops.conformance.numbers import read_numbers
    from schemas.errors import InputError

    if source == "-":
        return read_numbers(sys.stdin, source="standard input")
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--numbers {source}: cannot be read ({type(error).__name__})") from None
    return read_numbers(text.splitlines(), source=source)


def _seconds(text: str) -> float:
    from datetime import UTC, datetime

    from ops.when import parse_ahead

    now = datetime.now(UTC)
    return max(0.0, (parse_ahead(text, option="--wait", now=now) - now).total_seconds())


def _ear(address: str, keys: "tuple[str, ...]") -> "Ear":
    from datetime import UTC, datetime

    from ops.conformance.ear import Ear
    from schemas.errors import InputError

    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _PORT_MAX:
        raise InputError("--listen: expected HOST:PORT, e.g. 0.0.0.0:8089")
    return Ear(host.strip("[]"), int(port), keys=keys, clock=lambda: datetime.now(UTC))
