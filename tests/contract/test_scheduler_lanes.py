"""The scheduler and the lanes: a person's batch is released first, also while the bulk queue is full."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backends.bootstrap import Backends, open_backends
from backends.clock import ManualClock
from backends.embedded import EmbeddedValkey
from backends.waiting import Why
from platforms.catalogue import SAMPLE, Catalogue
from schemas.batch import Basis, Batch, Job, Lane
from schemas.ids import new_id
from tests.command import wait_until
from tests.fixtures_valkey import NOON, settings_of
from workers.scheduler import Scheduler

HIGH_WATER = 10


@pytest.fixture
def backends(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[Backends]:
    """Backends whose queues are soon full, with a clock that stands still."""
    settings = settings_of(valkey, tmp_path).model_copy(update={"queue_high_water": HIGH_WATER})
    with closing(open_backends(settings, clock=ManualClock(NOON))) as opened:
        yield opened
        for key in list(opened.redis.scan_iter(match=f"{settings.namespace}*", count=1000)):
            opened.redis.delete(key)


def waits(backends: Backends, lane: Lane, *, due_s: float) -> str:
    """Let a batch wait, so long before now or after it."""
    batch = Batch(
        id=new_id(), run=new_id(), platform="alipay", lane=lane, deadline=NOON, sealed="c2VhbGVk" * 4,
        jobs=(Job(case=new_id(), cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE),),
    )  # fmt: skip
    backends.waiting.put(batch, due=NOON + timedelta(seconds=due_s), why=Why.LIMIT)
    return batch.id


def depth(backends: Backends, lane: Lane) -> int:
    """Count the batches on the queue of a lane."""
    return backends.broker.depths()[backends.broker.queues[lane].name]


@contextmanager
def scheduling(backends: Backends) -> Iterator[None]:
    """Have a scheduler at work meanwhile."""
    stop = threading.Event()
    thread = threading.Thread(target=Scheduler(backends, Catalogue.load(SAMPLE), stop).run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def test_what_is_interactive_goes_on_while_the_bulk_queue_is_full(backends: Backends) -> None:
    """It was due later than a hundred bulk batches, and comes before them and after the queue is full."""
    for _ in range(150):
        waits(backends, Lane.BULK, due_s=-60)
    for _ in range(5):
        waits(backends, Lane.INTERACTIVE, due_s=-1)
    with scheduling(backends):
        wait_until(lambda: depth(backends, Lane.BULK) >= 2 * HIGH_WATER, what="a full queue")
        assert (95, 5) == (depth(backends, Lane.BULK), depth(backends, Lane.INTERACTIVE))
        for _ in range(7):
            waits(backends, Lane.INTERACTIVE, due_s=-1)
        wait_until(lambda: depth(backends, Lane.INTERACTIVE) == 12, what="the interactive ones")
        assert 95 == depth(backends, Lane.BULK)
        backends.redis.delete(backends.broker.queues[Lane.BULK].name)
        wait_until(lambda: depth(backends, Lane.BULK) == 55, what="the rest, as the queue drains")


def test_a_full_interactive_queue_holds_everything_back(backends: Backends) -> None:
    """Nothing is gained by releasing more of what workers take first anyway; as it drains all go on."""
    for _ in range(2 * HIGH_WATER + 80):
        waits(backends, Lane.INTERACTIVE, due_s=-60)
    for _ in range(30):
        waits(backends, Lane.BULK, due_s=-30)
    with scheduling(backends):
        wait_until(lambda: depth(backends, Lane.INTERACTIVE) >= 2 * HIGH_WATER, what="a full queue")
        assert (100, 0) == (depth(backends, Lane.INTERACTIVE), depth(backends, Lane.BULK))
        backends.redis.delete(backends.broker.queues[Lane.INTERACTIVE].name)
        wait_until(lambda: depth(backends, Lane.BULK) == 30, what="all, as the queue drains")
