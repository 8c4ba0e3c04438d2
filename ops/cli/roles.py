"""The parts of the system, each a process of its own."""

from pathlib import Path
from typing import Annotated

import typer

ParentOption = Annotated[bool, typer.Option("--with-parent", hidden=True, help="Stop when standard input closes.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Run a part"
    app.command(rich_help_panel=panel)(worker)
    app.command(rich_help_panel=panel)(recorder)
    app.command(rich_help_panel=panel)(scheduler)
    app.command(rich_help_panel=panel)(beat)
    app.command(rich_help_panel=panel)(console)
    app.command(rich_help_panel=panel)(simulate)
    app.command(rich_help_panel=panel)(health)


def worker(with_parent: ParentOption = False) -> None:
    """Deliver batches: a Celery worker, until SIGTERM."""
    from ops.processes import run_worker

    _begin(with_parent=with_parent)
    raise typer.Exit(run_worker())


def recorder(with_parent: ParentOption = False) -> None:
    """Write results to the status store, until SIGTERM."""
    from ops.processes import run_recorder

    _begin(with_parent=with_parent)
    run_recorder()


def scheduler(with_parent: ParentOption = False) -> None:
    """Release what waits when it is due, and step replays and sweeps, until SIGTERM."""
    from ops.processes import run_scheduler

    _begin(with_parent=with_parent)
    run_scheduler()


def beat(with_parent: ParentOption = False) -> None:
    """Ask for a look at the sweeps once a minute, until SIGTERM; several may run, one ticks."""
    from ops.processes import run_beat

    _begin(with_parent=with_parent)
    run_beat()


def console(
    descriptor: Annotated[int | None, typer.Option(hidden=True, help="A listening socket, inherited.")] = None,
    with_parent: ParentOption = False,
) -> None:
    """Serve the HTTP API and the console on RENEWAL_CONSOLE, until SIGTERM; several may run."""
    from ops.processes import run_console

    _begin(with_parent=with_parent)
    run_console(descriptor)


def simulate(
    *,
    catalogue: Annotated[Path | None, typer.Option(help="Folder of platforms; the sample when not given.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8900,
    seed: Annotated[int, typer.Option(help="Same seed, same world.")] = 7,
    faults: Annotated[str, typer.Option(help="none, later, normal or storm.")] = "none",
    callbacks: Annotated[
        str | None, typer.Option(help="Address of the console, to which answers that come later are sent.")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="File to keep the ledger in.")] = None,
    write_catalogue: Annotated[
        Path | None, typer.Option(help="Write a catalogue that points at this server, for `renewal run --catalogue`.")
    ] = None,
    descriptor: Annotated[int | None, typer.Option(hidden=True, help="A listening socket, inherited.")] = None,
    with_parent: ParentOption = False,
) -> None:
    """Pretend to be every platform of a catalogue, on one port, with a ledger of what was done."""
    from ops.processes import run_simulate

    _begin(with_parent=with_parent)
    run_simulate(
        catalogue, host=host, port=port, seed=seed, faults=faults, ledger=ledger,
        write_catalogue=write_catalogue, callbacks=callbacks, descriptor=descriptor,
    )  # fmt: skip


def health(role: Annotated[str, typer.Argument(help="worker, recorder, scheduler, beat or console.")]) -> None:
    """Exit 0 if a process of this role lives on this host and Redis can be reached (for health checks)."""
    from ops.processes import check_health

    check_health(role)


def _begin(*, with_parent: bool) -> None:
    if with_parent:
        from ops.lifeline import end_with_parent

        end_with_parent()
