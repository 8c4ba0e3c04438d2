"""Cancelling goes on behind an answer: what is in flight is waited for, and that may take minutes.

A run is marked as cancelled first, so whoever comes after a console that died finds what is left to do.
"""

import threading
from itertools import islice
from typing import Final

import structlog
from redis.exceptions import RedisError

from backends.bootstrap import Backends
from ops.inspector import Inspector
from ops.run_desk import RunDesk
from platforms.catalogue import Catalogue
from schemas.errors import RenewalError

_LOOKED_AT: Final = 200
log = structlog.get_logger()


def finish_cancels(backends: Backends, catalogue: Catalogue, runs: list[str] | None = None) -> threading.Thread:
    """Take out what is open of these runs, or of the newest ones that were cancelled, in a thread of its own."""
    desk = RunDesk(backends, Inspector(backends, catalogue))

    def finish() -> None:
        try:
            for run in _half_cancelled(backends) if runs is None else runs:
                desk.finish_cancel(run, tell=lambda _: None)
        except (RenewalError, RedisError) as error:
            log.warning("run.cancel_waits", reason=type(error).__name__)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    return thread


def _half_cancelled(backends: Backends) -> list[str]:
    newest = list(islice(backends.runs.newest_first(), _LOOKED_AT))
    return [facts.run for facts in backends.runs.facts(newest) if facts.cancelled and facts.counters.held]
