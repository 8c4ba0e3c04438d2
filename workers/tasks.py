"""The one Celery task: the edge between the broker's verbs and the attempt."""

import time

import orjson
import structlog
from celery import Celery
from celery.exceptions import Reject

from backends.bootstrap import Backends
from backends.broker import TASK
from schemas.errors import BackendUnavailable, ContractError
from workers.attempt import Attempt

_PAUSE_S = 1.0
log = structlog.get_logger()


def register(app: Celery, attempt: Attempt, backends: Backends) -> None:
    """Teach the app its task."""

    @app.task(name=TASK)
    def deliver(body: dict[str, object]) -> None:
        try:
            attempt.run(body)
        except ContractError as error:
            _bury(backends, body, str(error))
        except BackendUnavailable as error:
            # Before the call, and ours: the batch comes again and has spent nothing. The pause is for our own
            # backend, so that a message does not circle while it is away.
            log.warning("attempt.postponed", reason=str(error))
            time.sleep(_PAUSE_S)
            raise Reject(requeue=True) from error
        except Exception as error:
            # A fault of this program: kept whole, where a person sees it, instead of lost or repeated for ever.
            log.exception("attempt.crashed", batch=str(body.get("id")))
            _bury(backends, body, f"{type(error).__name__} in this program")


def _bury(backends: Backends, body: dict[str, object], why: str) -> None:
    log.error("message.poison", batch=str(body.get("id"))[:40], reason=why)
    lane = str(body.get("lane", "unknown"))[:40]
    backends.store.bury_message(orjson.dumps(body).decode(), why=why, queue=lane, now=backends.clock.now())
