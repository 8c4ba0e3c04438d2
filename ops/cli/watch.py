"""Look at the whole: queues, workers, alerts, and all of it live."""

import sys
from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import Format, OutputOption, SandboxOption, emit, say

if TYPE_CHECKING:
    from backends.bootstrap import Backends
    from ops.snapshot import Snapshot
    from platforms.catalogue import Catalogue

_PANEL = "Look"
_APART_S = 1.0
_WINDOW_S = 10.0


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=_PANEL)(queues)
    app.command(rich_help_panel=_PANEL)(workers)
    app.command(rich_help_panel=_PANEL)(alerts)
    app.command(rich_help_panel=_PANEL)(top)


def queues(*, sandbox: SandboxOption = False, output: OutputOption = Format.TABLE) -> None:
    """Show how much is where: queues, custody, waiting set, and what a person has to look through."""
    import time

    from ops.session import opened
    from ops.snapshot import take
    from ops.watch import QUEUE_FIELDS, queue_rows
    from schemas.errors import BackendUnavailable

    with opened(sandbox=sandbox) as (backends, catalogue):
        now = take(backends, catalogue, taken_s=time.monotonic())
        emit(queue_rows(now, backends.figures.whys()), fields=QUEUE_FIELDS, output=output)
        if now.broker_problem:
            raise BackendUnavailable(now.broker_problem)


def workers(*, sandbox: SandboxOption = False, output: OutputOption = Format.TABLE) -> None:
    """Show every process: since when it lives, what it does now, and its last sign of life."""
    from ops.session import opened
    from ops.watch import WORKER_FIELDS, worker_rows

    with opened(sandbox=sandbox) as (backends, _):
        emit(worker_rows(backends.heartbeats.every()), fields=WORKER_FIELDS, output=output)


def alerts(*, sandbox: SandboxOption = False, output: OutputOption = Format.TABLE) -> None:
    """Show what is wrong, and the page that says what to do. Exit code 0 if nothing is, 1 if something is."""
    import time

    from ops.alerts import ALERT_FIELDS
    from ops.alerts import alerts as judged
    from ops.session import opened
    from ops.snapshot import take

    with opened(sandbox=sandbox) as (backends, catalogue):
        found = judged(take(backends, catalogue, taken_s=time.monotonic()))
        if found or output is not Format.TABLE:
            emit((alert.row() for alert in found), fields=ALERT_FIELDS, output=output)
        if not found:
            say("no alerts")
    raise typer.Exit(1 if found else 0)


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Show one picture, and end.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.2, max=3600, help="Seconds between two pictures.")] = 1.0,
    sandbox: SandboxOption = False,
) -> None:
    """Watch all of it: alerts, rates, platforms in trouble, queues, processes. Ctrl-C ends it.

    Rates are those of the last ten seconds. Off a terminal, pictures follow each other as plain text.
    """
    from ops.session import opened

    with opened(sandbox=sandbox) as (backends, catalogue):
        if once:
            _once(backends, catalogue)
            return
        try:
            _watch(backends, catalogue, every_s=every)
        except KeyboardInterrupt:
            return


def _once(backends: "Backends", catalogue: "Catalogue") -> None:
    import time

    from rich.console import Console

    from ops.snapshot import take_two
    from ops.top import picture

    console = Console()
    earlier, now = take_two(backends, catalogue, apart_s=_APART_S, clock=time.monotonic, wait=time.sleep)
    console.print(picture(catalogue, now, earlier, columns=console.width))


def _watch(backends: "Backends", catalogue: "Catalogue", *, every_s: float) -> None:
    import contextlib
    import time

    from redis.exceptions import RedisError
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

    from ops.snapshot import take
    from ops.top import picture
    from schemas.errors import BackendUnavailable

    console = Console()
    seen: deque[Snapshot] = deque()
    with contextlib.ExitStack() as stack:
        # FORCE_COLOR makes rich take any pipe for a terminal; cursor codes belong only on a real one.
        live = None
        if console.is_interactive and sys.stdout.isatty():
            live = stack.enter_context(Live(console=console, auto_refresh=False, screen=True))
        while True:
            try:
                seen.append(take(backends, catalogue, taken_s=time.monotonic()))
            except (RedisError, BackendUnavailable) as error:
                # Whoever watches an outage wants to see its end.
                shown: RenderableType = Text(f"nothing can be read: {error}", style="bold red")
            else:
                # The oldest of the window stays, however far the pictures are apart.
                while len(seen) > 2 and seen[-1].taken_s - seen[1].taken_s >= _WINDOW_S:  # noqa: PLR2004 - now, before
                    seen.popleft()
                shown = picture(catalogue, seen[-1], seen[0], columns=console.width)
            if live:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
            time.sleep(every_s)
