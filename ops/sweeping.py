"""The sweeps in the scheduler: a thread that looks when beat asks for it, and by itself if beat does not."""

import threading
import time
from functools import partial
from typing import Final

import structlog
from redis.exceptions import RedisError

from backends.bootstrap import Backends
from ops.capacity import standings
from platforms.catalogue import Catalogue
from producers.authorisation_end import AuthorisationEnd
from producers.reclaim import Reclaimer
from producers.sweep import SweepStepper
from producers.sweep_definition import Definitions
from schemas.errors import RenewalError

# Beat asks every minute. Without it a look comes by itself, a little later.
_SELF_S: Final = 60.0
_TICK_S: Final = 1.0
_AGAIN_S: Final = 2.0
_LATE_ANSWERS_S: Final = 15.0
# So long may a job be sent after the owner's authorisation is over.
_AUTHORISATIONS_S: Final = 2.0
log = structlog.get_logger()


def sweeping(backends: Backends, catalogue: Catalogue, stop: threading.Event) -> list[threading.Thread]:
    """Return the threads to be started. Raises ConfigurationError for a definition that is wrong."""
    threads = [
        threading.Thread(target=_look_after, args=(backends, stop)),
        threading.Thread(target=_end_authorisations, args=(backends, stop)),
    ]
    if backends.settings.sweeps is not None:
        definitions = Definitions.load(backends.settings.sweeps)
        # A thread for each: one that waits for room on the queue must not hold up another.
        for definition in definitions:
            stepper = SweepStepper(
                backends, catalogue, definitions.only(definition.name), stop=stop,
                standings=partial(standings, backends, catalogue),
            )  # fmt: skip
            threads.append(threading.Thread(target=_sweep, args=(backends, stepper, stop)))
    return threads


def _sweep(backends: Backends, stepper: SweepStepper, stop: threading.Event) -> None:
    ticked_ms, looked = -1, 0.0
    while not stop.is_set():
        try:
            newest_ms = backends.sweeps.ticked_ms()
            busy = stepper.busy
            if not busy and newest_ms == ticked_ms and time.monotonic() - looked < _SELF_S:
                stop.wait(_TICK_S)
                continue
            ticked_ms, looked = newest_ms, time.monotonic()
            if not stepper.step():
                stop.wait(_TICK_S)
        except (RenewalError, RedisError) as error:
            log.warning("scheduler.waiting", reason=type(error).__name__)
            stop.wait(_AGAIN_S)
    try:
        stepper.close()
    except (RenewalError, RedisError) as error:
        log.warning("scheduler.waiting", reason=type(error).__name__)


def _look_after(backends: Backends, stop: threading.Event) -> None:
    """Find calls that were under way when their number was taken back, by their late answers."""
    reclaimer = Reclaimer(backends, who="scheduler", reason="answered after the number was taken back")
    while not stop.wait(_LATE_ANSWERS_S):
        try:
            reclaimer.look_after()
        except (RenewalError, RedisError) as error:
            log.warning("scheduler.waiting", reason=type(error).__name__)


def _end_authorisations(backends: Backends, stop: threading.Event) -> None:
    """Let go of the requests whose authorisation has run out or was withdrawn."""
    end = AuthorisationEnd(backends, who="scheduler")
    while not stop.wait(_AUTHORISATIONS_S):
        try:
            end.step()
        except (RenewalError, RedisError) as error:
            log.warning("scheduler.waiting", reason=type(error).__name__)
