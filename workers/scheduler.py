"""The scheduler: puts batches back on the jobs queue when they are due, and has lost ones sent again.

Any number may run.
"""

import contextlib
import threading
import time

import structlog
from redis.exceptions import RedisError

from backends.bootstrap import Backends
from backends.failpoint import reach
from backends.waiting import Leased
from platforms.catalogue import Catalogue
from schemas.batch import Batch, Lane
from schemas.errors import BackendUnavailable, ContractError
from workers.gather import gather
from workers.sweeper import Sweeper

_AT_ONCE = 100
_TICK_S = 0.05
_AGAIN_S = 1.0
_BEAT_S = 3.0
_SWEEP_S = 2.0
# After an outage of ours everything is due at once: what is due waits here rather than in a queue that is full.
_HIGH_WATER_RATIO = 2
log = structlog.get_logger()


class Scheduler:
    """Runs until `stop` is set."""

    def __init__(self, backends: Backends, catalogue: Catalogue, stop: threading.Event) -> None:
        self._backends, self._catalogue, self._stop = backends, catalogue, stop
        self._sweeper = Sweeper(backends)
        self._released = self._redriven = 0
        self._beaten = self._swept = 0.0
        self._since_s = time.time()
        self._full: frozenset[Lane] = frozenset()

    def run(self) -> None:
        """Release what is due until told to stop; go on when the broker or Redis comes back."""
        while not self._stop.is_set():
            try:
                self._beat()
                self._sweep()
                released = self.release_due()
                if self._full or released >= _AT_ONCE:
                    self._full = self._full_lanes()
                if released < _AT_ONCE:
                    self._stop.wait(_TICK_S)
            except (BackendUnavailable, RedisError) as error:
                log.warning("scheduler.waiting", reason=type(error).__name__)
                self._stop.wait(_AGAIN_S)
        with contextlib.suppress(RedisError):
            self._backends.heartbeats.leave("scheduler")

    def release_due(self) -> int:
        """Publish the batches that are due, then take them out of the waiting set. Returns how many.

        In this order: a crash between the two publishes them again, which their idempotency keys make harmless. What is
        interactive goes first, and goes on while the bulk queue is full.
        """
        if Lane.INTERACTIVE in self._full:
            return 0
        now, only = self._backends.clock.now(), Lane.BULK in self._full
        leased = self._backends.waiting.lease(now, at_most=_AT_ONCE, interactive_only=only)
        if not leased.waiters and not leased.unreadable:
            return 0
        reach("scheduler.leased")
        for found in leased.unreadable:
            log.error("message.poison", batch=found.id, queue="waiting", reason=found.problem)
            now = self._backends.clock.now()
            self._backends.kept.bury_message(found.body, why=found.problem, queue="waiting", now=now)
        self._backends.dispatch.send(self._gathered(leased))
        reach("scheduler.published")
        self._backends.waiting.finish(leased)
        self._released += len(leased.batches)
        return len(leased.batches) + len(leased.unreadable)

    def _gathered(self, leased: Leased) -> list[Batch]:
        try:
            return list(gather(leased.waiters, self._catalogue, self._backends.manifests))
        except ContractError:
            # One of them cannot be opened: the worker that meets it says so, and the others go on by themselves.
            return list(leased.batches)

    def _full_lanes(self) -> frozenset[Lane]:
        depths, queues = self._backends.broker.depths(), self._backends.broker.queues
        most = _HIGH_WATER_RATIO * self._backends.settings.queue_high_water
        return frozenset(lane for lane in Lane if depths[queues[lane].name] >= most)

    def _sweep(self) -> None:
        if time.monotonic() - self._swept > _SWEEP_S:
            self._swept = time.monotonic()
            self._redriven += self._sweeper.sweep()

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > _BEAT_S:
            self._beaten = time.monotonic()
            facts = {"since_s": self._since_s, "released": self._released, "redriven": self._redriven}
            self._backends.heartbeats.beat("scheduler", facts=facts)
