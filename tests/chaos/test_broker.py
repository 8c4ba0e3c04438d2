"""The broker goes away, comes back, or forgets everything: the ledger of the status store knows what is owed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.batch import Lane
from schemas.outcome import Hold
from schemas.state import State
from tests.command import numbers, wait_until, write_input
from tests.rabbitmq_node import SERVER, RabbitNode
from tests.rig import Rig

NUMBERS = 200
PLATFORMS = 6
POISONED = "many0"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RabbitNode]:
    """A RabbitMQ node that this test may kill."""
    if not SERVER.exists():
        pytest.skip("needs RabbitMQ installed on this machine: its node is killed, so it must be our own")
    found = RabbitNode(tmp_path / "rabbitmq")
    with contextlib.ExitStack() as stack:
        stack.callback(found.kill)
        found.start()
        yield found


@pytest.mark.rabbitmq
def test_rabbitmq_that_is_killed_and_comes_back_loses_nothing(tmp_path: Path, node: RabbitNode) -> None:
    """Quorum queues, confirms, and workers that reconnect; a worker dies beside it for good measure."""
    with Rig(tmp_path / "rig", seed=14, RENEWAL_BROKER_URL=node.url) as rig:
        rig.up(workers=2)
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        rig.await_calls(60)
        rig.kill("worker")
        rig.await_calls(120)
        node.kill()
        node.start()
        rig.kill("recorder")
        rig.jobs.settle()
        rig.jobs.assert_told_truly(compared=NUMBERS * PLATFORMS)


def test_a_broker_that_forgot_everything_is_filled_again(tmp_path: Path) -> None:
    """Somebody flushed the broker, or its disk is gone: the status store lives, and so does every job."""
    with Rig(tmp_path, seed=15) as rig:
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        keys, redis = rig.backends.keys, rig.backends.redis
        broker = [keys.queue(Lane.BULK), keys.queue(Lane.INTERACTIVE), keys.results_queue]
        broker += [name for group in ("jobs", "results") for name in (keys.unacked(group), keys.unacked_index(group))]
        rig.up(workers=2)
        for calls in (60, 180):
            rig.await_calls(calls)
            assert redis.delete(*broker) >= 0
        rig.jobs.settle()
        rig.jobs.assert_told_truly(compared=NUMBERS * PLATFORMS)
        assert rig.backends.custody.counts()[1] > 0


def test_a_batch_that_kills_its_worker_ends_as_dead_letters_and_stops_nobody_else(tmp_path: Path) -> None:
    """Poison must not go round for ever: after some starts a person sees it, and the other platforms are done."""
    with Rig(tmp_path, seed=16, RENEWAL_FAILPOINT=f"poison.{POISONED}") as rig:
        rig.submit(write_input(tmp_path / "input.csv", numbers(5)))
        rig.up(workers=2)

        def settled() -> bool:
            rig.jobs.hurry()
            return not rig.jobs.open()

        wait_until(settled, what="the end of every job", seconds=100)
        states = rig.jobs.states(POISONED)
        assert {State.DEAD: 5} == dict(states)
        (group,) = rig.backends.dead.groups()
        assert (POISONED, Hold.POISON, 5) == (group.platform, group.reason, group.count)
        rig.jobs.assert_told_truly(compared=5 * (PLATFORMS - 1))
