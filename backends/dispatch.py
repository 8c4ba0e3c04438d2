"""Dispatch: every batch that goes to the broker goes this way, into custody first."""

from collections.abc import Iterable, Iterator
from itertools import islice

from backends.broker import Broker
from backends.clock import Clock
from backends.custody import Custody
from schemas.batch import Batch

_AT_ONCE = 100


class Dispatch:
    """Sends batches to the jobs queue."""

    def __init__(self, broker: Broker, custody: Custody, clock: Clock) -> None:
        self._broker, self._custody, self._clock = broker, custody, clock

    def send(self, batches: Iterable[Batch]) -> int:
        """Take batches into custody and publish them; when this returns, the broker has them all. Returns how many.

        Raises BackendUnavailable: then some may be there and some not. What is in custody is sent again by itself, and
        the same batches may be sent again by the caller.
        """
        return self._broker.publish_batches(self._entered(iter(batches)))

    def _entered(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while part := list(islice(batches, _AT_ONCE)):
            bodies = [(batch, batch.model_dump_json().encode()) for batch in part]
            self._custody.enter(bodies, now=self._clock.now())
            yield from part
