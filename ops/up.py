"""`renewal up`: the whole system on one machine, until told to stop."""

import threading
from collections.abc import Callable

from backends.bootstrap import embedded_if_needed, open_backends
from backends.connect import shown
from backends.log import configure_logging
from backends.settings import Settings
from ops.front_door import front_door
from ops.supervisor import Supervisor
from platforms.catalogue import SAMPLE, Catalogue
from producers.sweep_definition import Definitions
from workers.credentials import check_secrets

_TICK_S = 0.5


def keep_up(*, workers: int, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Start every process, start again what ends, stop all when `stop` is set. Raises RenewalError."""
    settings = Settings.load()
    configure_logging()
    catalogue = Catalogue.load(settings.catalogue or SAMPLE)
    check_secrets(catalogue)
    if settings.sweeps is not None:
        Definitions.load(settings.sweeps)
    with embedded_if_needed(settings) as (settings, server):
        backends = open_backends(settings)
        backends.broker.declare()
        say(f"status store {shown(settings.redis_url or '')}, {len(catalogue)} platforms, {workers} workers")
        logs = settings.data_dir.resolve() / "logs"
        key_folder = settings.data_dir if server is not None else None
        with (
            Supervisor(settings, logs=logs, server=server) as supervisor,
            front_door(supervisor, backends, key_folder=key_folder, anywhere=False, say=say),
        ):
            supervisor.start("recorder")
            supervisor.start("scheduler")
            if settings.sweeps is not None:
                supervisor.start("beat")
            supervisor.start("worker", count=workers)
            say(f"up; logs in {logs}; Ctrl-C stops everything")
            while not stop.wait(_TICK_S):
                supervisor.check()
                while supervisor.events:
                    say(supervisor.events.popleft())
            say("stopping: what was begun is finished first")
        backends.close()
