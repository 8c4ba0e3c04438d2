"""Notices that a run stands still although jobs are open, and has the lost ones sent again."""

import time
from collections.abc import Callable

import structlog

from backends.bootstrap import Backends
from ops.progress import Progress
from platforms.catalogue import Catalogue
from producers.redrive import redrive

# Long enough for an ordinary call to end; a call that takes longer is only asked once more under the same key.
STILL_S = 10.0
log = structlog.get_logger()


class LostJobs:
    """Sends again what nobody holds: not the queues, not the waiting set, and no call for a while."""

    def __init__(
        self, backends: Backends, catalogue: Catalogue, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._backends, self._catalogue, self._seconds = backends, catalogue, seconds
        self._seen = (-1, -1)
        self._since_s = seconds()

    def look(self, progress: Progress, *, runs: list[str]) -> int:
        """Return the batches that were sent again, 0 while something moves or waits. Raises BackendUnavailable."""
        now_s = self._seconds()
        moved = (progress.calls, progress.settled)
        if moved != self._seen or not progress.intake_done:
            self._seen, self._since_s = moved, now_s
            return 0
        if now_s - self._since_s < STILL_S:
            return 0
        self._since_s = now_s
        if self._backends.waiting.count() or any(self._backends.broker.depths().values()):
            return 0
        batches = redrive(self._backends, self._catalogue, runs=runs)
        log.warning("jobs.redriven", batches=batches)
        return batches
