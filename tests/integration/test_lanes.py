"""A person's job while thousands of bulk jobs wait for slow platforms: real processes, the platforms' own record."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from backends.broker import Broker
from backends.keys import Keys
from schemas.batch import Lane
from schemas.state import DISPATCHER_STATES
from tests.command import numbers, port_is_open, wait_until, write_input
from tests.rig import Rig, limits_of

RABBITMQ = os.environ.get("RENEWAL_TEST_RABBITMQ_URL") or "amqp://guest:guest@127.0.0.1:5672//"
BULK = 600
PERSONS = 3
SINGLE = [f"one{index}" for index in range(3)]
MANY = [f"many{index}" for index in range(3)]
# A minute's work and more for each platform: nothing of it can be over before the person comes.
SLOW: dict[str, dict[str, object]] = {
    **{key: {"limits": {"calls_per_s": 2, "in_flight": 2, "items_per_call": 3}} for key in MANY},
    **{key: {"protocol": "json", "limits": {"calls_per_s": 5, "in_flight": 4}} for key in SINGLE},
}


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A system with slow platforms, over each broker; a high-water mark that the bulk lane reaches."""
    settings: dict[str, Any] = {"RENEWAL_QUEUE_HIGH_WATER": "1000"}
    with ExitStack() as stack:
        if request.param == "rabbitmq":
            if not port_is_open(urlsplit(RABBITMQ).port or 5672):
                pytest.skip("no RabbitMQ at 127.0.0.1:5672; start one, or set RENEWAL_TEST_RABBITMQ_URL")
            settings["RENEWAL_BROKER_URL"] = RABBITMQ
        rig = Rig(tmp_path, catalogue=limits_of(SLOW), faults="none", seed=7, **settings)
        if request.param == "rabbitmq":
            stack.callback(forget_queues, rig.renewal.settings["RENEWAL_NAMESPACE"])
        yield stack.enter_context(rig)


def forget_queues(namespace: str) -> None:
    """Take the queues of a namespace away."""
    broker = Broker(RABBITMQ, Keys(namespace))
    with broker.connect() as connection:
        for queue in (*broker.queues.values(), broker.results):
            queue(connection.default_channel).delete()
    broker.close()


def settled(rig: Rig, run: str) -> int:
    """Count the jobs of a run that the dispatcher has let go of."""
    counts = rig.backends.runs.counters(run).by_state()
    return sum(count for state, count in counts.items() if state not in DISPATCHER_STATES)


def test_a_person_is_served_before_the_bulk_that_came_first_and_the_bulk_goes_on(rig: Rig, tmp_path: Path) -> None:
    """By the platforms' own count: all of the person's jobs are done when most of the bulk still waits."""
    rig.up(workers=1)
    bulk = rig.submit(write_input(tmp_path / "bulk.csv", numbers(BULK)))
    wait_until(lambda: settled(rig, bulk) > 0, what="the bulk lane is under way")
    calls_before = rig.world.calls()
    persons = write_input(tmp_path / "persons.csv", numbers(PERSONS, first=BULK))
    run = rig.submit(persons, "--lane", "interactive")
    wanted = PERSONS * len(rig.catalogue)
    wait_until(lambda: settled(rig, run) == wanted, what="the person's answers")
    left = BULK * len(rig.catalogue) - settled(rig, bulk)
    assert left > BULK * len(rig.catalogue) // 2, "the bulk lane was nearly over: nothing was overtaken"
    # Each platform was called for the bulk lane, too, while the person waited and afterwards.
    assert rig.world.calls() - calls_before > PERSONS * len(SINGLE) + len(MANY)
    bulk_before = settled(rig, bulk)
    wait_until(lambda: settled(rig, bulk) > bulk_before, what="the bulk lane goes on")
    for key, counted in rig.world.stats()["platforms"].items():
        limits = rig.catalogue.get(key).limits
        assert counted["in_flight_max"] <= limits.in_flight
        assert counted["requests_per_s_max"] <= limits.calls_per_s + 1
    assert 0 == rig.world.stats()["repeat_pairs"]
    assert rig.backends.broker.depths()[rig.backends.broker.queues[Lane.INTERACTIVE].name] == 0
