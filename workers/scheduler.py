"""The scheduler: puts batches back on the jobs queue when they are due. Any number may run."""

import contextlib
import threading
import time

import structlog
from redis.exceptions import RedisError

from backends.bootstrap import Backends
from schemas.errors import BackendUnavailable

_AT_ONCE = 100
_TICK_S = 0.05
_AGAIN_S = 1.0
_BEAT_S = 3.0
log = structlog.get_logger()


class Scheduler:
    """Runs until `stop` is set."""

    def __init__(self, backends: Backends, stop: threading.Event) -> None:
        self._backends, self._stop = backends, stop
        self._released = 0
        self._beaten = 0.0

    def run(self) -> None:
        """Release what is due until told to stop; go on when the broker or Redis comes back."""
        while not self._stop.is_set():
            try:
                self._beat()
                if self.release_due() < _AT_ONCE:
                    self._stop.wait(_TICK_S)
            except (BackendUnavailable, RedisError) as error:
                log.warning("scheduler.waiting", reason=type(error).__name__)
                self._stop.wait(_AGAIN_S)
        with contextlib.suppress(RedisError):
            self._backends.heartbeats.leave("scheduler")

    def release_due(self) -> int:
        """Publish the batches that are due, then take them out of the waiting set. Returns how many.

        In this order: a crash between the two publishes them again, which their idempotency keys make harmless.
        """
        leased = self._backends.waiting.lease(self._backends.clock.now(), at_most=_AT_ONCE)
        if leased.batches:
            self._backends.broker.publish_batches(leased.batches)
            self._backends.waiting.finish(leased)
            self._released += len(leased.batches)
        return len(leased.batches)

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > _BEAT_S:
            self._beaten = time.monotonic()
            self._backends.heartbeats.beat("scheduler", facts={"released": self._released})
