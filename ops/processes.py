"""What each role does from its first line to its last."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog
from redis.exceptions import RedisError

from backends import failpoint
from backends.bootstrap import Backends, open_backends
from backends.heartbeat import Heartbeats
from backends.log import configure_logging
from backends.settings import Settings, resolve_secret
from ops.lifeline import stop_on_signals
from platforms.catalogue import SAMPLE, Catalogue
from schemas.errors import InputError, RenewalError

_BEAT_S = 3.0
_REPLAY_S = 0.5
_DEADLINE_S = 10.0
_AGAIN_S = 2.0
log = structlog.get_logger()


def run_worker() -> int:
    """Deliver batches until SIGTERM. Returns the exit code."""
    from workers.app import prepare, prepare_polls, prepare_withdrawals, serve
    from workers.poll import poll_until
    from workers.withdrawal import withdraw_until

    ended = threading.Event()
    with _opened() as (backends, catalogue):
        attempt = prepare(backends, catalogue)
        withdrawer = prepare_withdrawals(backends, catalogue, ended.wait)
        poller = prepare_polls(backends, catalogue, ended.wait)
        beside = [
            threading.Thread(target=withdraw_until, args=(ended, withdrawer)),
            threading.Thread(target=poll_until, args=(ended, poller)),
        ]
        for thread in beside:
            thread.start()
        try:
            with _beating(backends.heartbeats, "worker", facts=attempt.doing):
                return serve(backends, attempt)
        finally:
            ended.set()
            for thread in beside:
                thread.join()


def run_recorder() -> None:
    """Record results until SIGTERM."""
    from workers.recorder import Recorder

    stop = stop_on_signals()
    with _opened() as (backends, _):
        backends.broker.declare()
        Recorder(backends, stop).run()


def run_scheduler() -> None:
    """Release what is due until SIGTERM."""
    from ops.announcer import announcing
    from ops.overdue import OverdueDesk
    from ops.sweeping import sweeping
    from platforms.calendar import WorkingDays
    from producers.replay import Replayer
    from workers.app import transport_of
    from workers.deadline import Deadlines
    from workers.notifier import notifying
    from workers.scheduler import Scheduler

    stop = stop_on_signals()
    with _opened() as (backends, catalogue):
        backends.broker.declare()
        # Beside the releasing of what is due: a step may take a while where many letters or answers are late.
        steps = (
            (Replayer(backends, catalogue).step, _REPLAY_S),
            (Deadlines(backends, catalogue, WorkingDays.load(), OverdueDesk(backends, catalogue)).step, _DEADLINE_S),
        )
        beside = [threading.Thread(target=_every, args=(stop, step, every_s)) for step, every_s in steps]
        beside += sweeping(backends, catalogue, stop)
        beside += announcing(backends, catalogue, stop)
        beside += notifying(backends, lambda: transport_of(backends.settings), stop)
        for thread in beside:
            thread.start()
        try:
            Scheduler(backends, catalogue, stop).run()
        finally:
            stop.set()
            for thread in beside:
                thread.join()


def run_beat() -> None:
    """Ask for a look at the sweeps once a minute, until SIGTERM."""
    from workers.beat import serve

    with _opened() as (backends, _):
        backends.broker.declare()
        with _beating(backends.heartbeats, "beat"):
            serve(backends)


def run_console(descriptor: int | None) -> None:
    """Serve the HTTP API and the console until SIGTERM, on a socket that was handed down or on RENEWAL_CONSOLE."""
    from ops.api.app import make_app
    from ops.api.door import Door
    from ops.api.server import Server, server_config
    from ops.cancelling import finish_cancels
    from ops.front_door import console_socket
    from ops.uploads import Uploads, read_until
    from workers.credentials import callback_keys_of

    # The server hands a signal on to whoever listened before it: that must not be the default, which ends it all.
    stop_on_signals()
    with _opened() as (backends, catalogue):
        keys = callback_keys_of(catalogue)
        backends.broker.declare()
        finish_cancels(backends, catalogue)
        sock = socket.socket(fileno=descriptor) if descriptor is not None else console_socket(backends.settings)
        door = Door(backends=backends, catalogue=catalogue, callback_keys=keys)
        uploads = Uploads(backends, catalogue)
        reading = threading.Thread(target=read_until, args=(door.ending, uploads))
        with contextlib.closing(sock), _beating(backends.heartbeats, "console"):
            reading.start()
            try:
                Server(server_config(make_app(door)), door.ending).run(sockets=[sock])
            finally:
                door.ending.set()
                reading.join()


def _every(stop: threading.Event, step: Callable[[], object], every_s: float) -> None:
    """Do one thing again and again until told to stop; go on when Redis or the broker comes back."""
    while not stop.wait(every_s):
        try:
            step()
        except (RenewalError, RedisError) as error:
            log.warning("scheduler.waiting", reason=type(error).__name__)
            stop.wait(_AGAIN_S)


def run_simulate(
    folder: Path | None, *, host: str, port: int, seed: int, faults: str, ledger: Path | None,
    write_catalogue: Path | None, callbacks: str | None, descriptor: int | None,
) -> None:  # fmt: skip
    """Serve the fake world until SIGTERM."""
    from simulator.sandbox import write_sandbox
    from simulator.scenario import scenario
    from simulator.server import listen, run_simulator

    configure_logging()
    plan = scenario(faults)
    catalogue = Catalogue.load(folder or SAMPLE)
    sock = socket.socket(fileno=descriptor) if descriptor is not None else listen(host, port)
    base_url = f"http://{host}:{sock.getsockname()[1]}"
    if write_catalogue is not None:
        catalogue = write_sandbox(catalogue, write_catalogue, base_url=base_url)

    def secrets(reference: str) -> str:
        return resolve_secret(reference, folder=catalogue.folder)

    def ready() -> None:
        sys.stderr.write(f"simulating {len(catalogue)} platforms on {base_url} (seed {seed}, faults {faults})\n")
        sys.stderr.flush()

    run_simulator(
        catalogue, secrets, seed=seed, scenario=plan, sock=sock, ledger_path=ledger, callbacks=callbacks, ready=ready
    )


def check_health(role: str) -> None:
    """Raise RenewalError unless a process of this role lives on this host."""
    if role not in {"worker", "recorder", "scheduler", "beat", "console"}:
        raise InputError(f"{role}: expected worker, recorder, scheduler, beat or console")
    with contextlib.closing(open_backends(Settings.load())) as backends:
        host = socket.gethostname()
        if not any(beat.name.startswith(f"{host}-") for beat in backends.heartbeats.alive(role)):
            raise RenewalError(f"no {role} of this host has shown a sign of life")


@contextlib.contextmanager
def _opened() -> Iterator[tuple[Backends, Catalogue]]:
    settings = Settings.load()
    configure_logging()
    failpoint.arm(settings.failpoint or "")
    catalogue = Catalogue.load(settings.catalogue or SAMPLE)
    with contextlib.closing(open_backends(settings)) as backends:
        yield backends, catalogue


@contextlib.contextmanager
def _beating(heartbeats: Heartbeats, role: str, *, facts: Callable[[], dict[str, Any]] = dict) -> Iterator[None]:
    """Show a sign of life every few seconds, with the facts of that moment, from a thread of its own."""
    ended, since_s = threading.Event(), time.time()

    def beat() -> None:
        while True:
            # A sign of life that cannot be written is a sign too: the key ends by itself.
            with contextlib.suppress(Exception):
                heartbeats.beat(role, facts={"since_s": since_s, **facts()})
            if ended.wait(_BEAT_S):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_BEAT_S)
        with contextlib.suppress(Exception):
            heartbeats.leave(role)
