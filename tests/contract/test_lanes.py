"""The lanes on each broker: neither ever waits for the other's batches in a worker that is busy with them."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from backends.broker import Broker
from backends.embedded import EmbeddedValkey
from backends.keys import Keys
from schemas.batch import Lane
from schemas.ids import new_id
from tests.command import port_is_open, wait_until
from tests.queues import Process, publish, start_worker

RABBITMQ = os.environ.get("RENEWAL_TEST_RABBITMQ_URL") or "amqp://guest:guest@127.0.0.1:5672//"
HELD = 3
MANY = 12
OTHER = {Lane.BULK: Lane.INTERACTIVE, Lane.INTERACTIVE: Lane.BULK}


@dataclass(frozen=True)
class Pair:
    """A broker and one worker on it."""

    broker: Broker
    worker: Process

    def waiting(self, lane: Lane) -> int:
        """Return how many batches of a lane no worker has taken."""
        return self.broker.depths()[self.broker.queues[lane].name]


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def pair(request: pytest.FixtureRequest, valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[Pair]:
    """Each of the brokers that we run on, in a namespace of its own, with a worker that is at work."""
    url = valkey.url if request.param == "redis" else RABBITMQ
    if request.param == "rabbitmq" and not port_is_open(urlsplit(RABBITMQ).port or 5672):
        pytest.skip("no RabbitMQ at 127.0.0.1:5672; start one, or set RENEWAL_TEST_RABBITMQ_URL")
    namespace = f"t{new_id()}"
    with closing(Broker(url, Keys(namespace))) as broker:
        broker.declare()
        worker = start_worker(url, namespace, tmp_path, held=HELD)
        try:
            for lane in Lane:
                batch = publish(broker, lane)
                wait_until(lambda batch=batch: worker.has_done(batch), what="the worker works")  # type: ignore[misc]
            yield Pair(broker, worker)
        finally:
            worker.kill()
            with broker.connect() as connection:
                for queue in (*broker.queues.values(), broker.results):
                    queue(connection.default_channel).delete()


@pytest.mark.parametrize("busy_with", list(Lane))
def test_a_lane_goes_on_while_every_thread_of_the_other_is_taken(pair: Pair, busy_with: Lane) -> None:
    """A person's batch waits for no bulk batch, and a flood of persons' batches does not stop the sweep."""
    done_before = len(pair.worker.done)
    with pair.worker.holding(busy_with):
        held = [publish(pair.broker, busy_with) for _ in range(MANY)]
        wait_until(lambda: pair.waiting(busy_with) == MANY - HELD, what="the worker is busy")
        overtaking = [publish(pair.broker, OTHER[busy_with]) for _ in range(2 * MANY)]
        wait_until(lambda: len(pair.worker.done) == done_before + 2 * MANY, what="the other lane goes on")
        assert set(overtaking) == set(pair.worker.done[done_before:])
        assert MANY - HELD == pair.waiting(busy_with)
    wait_until(lambda: set(held) <= set(pair.worker.done), what="what was held goes on")


def test_a_worker_holds_no_more_of_a_lane_than_it_can_begin(pair: Pair) -> None:
    """What it held beyond that would wait in its memory, while another worker may be idle."""
    with pair.worker.holding(Lane.BULK), pair.worker.holding(Lane.INTERACTIVE):
        batches = [publish(pair.broker, lane) for _ in range(MANY) for lane in Lane]
        wait_until(lambda: {pair.waiting(lane) for lane in Lane} == {MANY - HELD}, what="both lanes are full")
    wait_until(lambda: set(batches) <= set(pair.worker.done), what="the end")
    wait_until(lambda: {pair.waiting(lane) for lane in Lane} == {0}, what="empty queues")
