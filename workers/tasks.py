"""The Celery tasks: the edge between the broker's verbs and the attempt, and beat's tick."""

import time

import structlog
from celery import Celery
from celery.exceptions import Reject

from backends.bootstrap import Backends
from backends.broker import TASK
from backends.sweeps import TICK_TASK
from schemas.errors import BackendUnavailable, ContractError
from workers.attempt import Attempt
from workers.burial import bury_message

_PAUSE_S = 1.0
log = structlog.get_logger()


def register(app: Celery, attempt: Attempt, backends: Backends) -> None:
    """Teach the app its tasks."""

    @app.task(name=TASK)
    def deliver(body: dict[str, object]) -> None:
        try:
            _deliver(attempt, backends, body)
        except BackendUnavailable as error:
            # Ours: the batch comes again and has spent nothing. The pause is for our own backend, so that a message
            # does not circle while it is away.
            log.warning("attempt.postponed", reason=str(error))
            time.sleep(_PAUSE_S)
            raise Reject(requeue=True) from error

    @app.task(name=TICK_TASK)
    def sweeps_due() -> None:
        # Only passed on: a sweep takes long, and would hold a slot that calls need.
        backends.sweeps.tick(backends.clock.now())


def _deliver(attempt: Attempt, backends: Backends, body: dict[str, object]) -> None:
    """Run the attempt; what can never succeed is buried. Raises BackendUnavailable."""
    try:
        attempt.run(body)
    except ContractError as error:
        bury_message(backends, body, why=str(error))
    except BackendUnavailable:
        raise
    except Exception as error:
        # A fault of this program: kept whole, where a person sees it, instead of lost or repeated for ever.
        log.exception("attempt.crashed", batch=str(body.get("id"))[:40])
        bury_message(backends, body, why=f"{type(error).__name__} in this program")
