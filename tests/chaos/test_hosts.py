"""Several worker hosts with one broker and one status store; and one of them vanishes."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from amqp.exceptions import NotFound
from kombu import Connection

from schemas.batch import Lane
from tests.command import numbers, port_is_open, wait_until, write_input
from tests.hosts import Host, two_hosts
from tests.rig import Rig, said

RABBITMQ = os.environ.get("RENEWAL_TEST_RABBITMQ_URL") or "amqp://guest:guest@127.0.0.1:5672//"
NUMBERS = 100
PLATFORMS = 6
BYTES = 20_000  # of calls and answers: a host that has carried them has been at work


@contextlib.contextmanager
def rabbitmq_queues(rig: Rig) -> Iterator[None]:
    """Take the queues of the rig away at the end: the broker of the machine is everybody's."""
    try:
        yield
    finally:
        keys = rig.backends.keys
        with Connection(RABBITMQ, connect_timeout=5) as connection:
            for name in (keys.queue(Lane.BULK), keys.queue(Lane.INTERACTIVE), keys.results_queue):
                channel: Any = connection.channel()
                with contextlib.suppress(NotFound):
                    channel.queue_delete(name)


def settle_in(host: Host, rig: Rig) -> None:
    """Give a host what it has to know: the services as it reaches them, and a catalogue of its own."""
    catalogue = host.data.parent / "catalogue"
    shutil.copytree(rig.catalogue.folder, catalogue)
    for path in catalogue.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(rig.world.url, host.at("platforms")), encoding="utf-8")
    host.settings |= {
        "RENEWAL_REDIS_URL": host.at("store"),
        "RENEWAL_BROKER_URL": host.at("broker"),
        "RENEWAL_CATALOGUE": str(catalogue),
    }


def hosts_at_work(rig: Rig) -> set[str]:
    """Return the hosts whose workers show signs of life, as `renewal workers` has them."""
    done = rig.renewal.look("workers", "-o", "json")
    assert 0 == done.code, done.told
    return {row["name"].rpartition("-")[0] for row in json.loads(done.out) if row["role"] == "worker"}


def held_by(rig: Rig, host: Host) -> int:
    """Count the batches that workers of a host have begun."""
    return sum(entry.note.holder.startswith(f"{host.name}-") for entry in rig.backends.custody.every())


@pytest.mark.parametrize("broker", ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def test_of_two_hosts_one_vanishes_and_the_other_does_its_work(tmp_path: Path, broker: str) -> None:
    """Its cables are cut and its processes killed under load: no job is lost, none acts twice, no limit is exceeded."""
    on_rabbitmq = broker == "rabbitmq"
    if on_rabbitmq and not port_is_open(urlsplit(RABBITMQ).port or 5672):
        pytest.skip("no RabbitMQ at 127.0.0.1:5672; start one, or set RENEWAL_TEST_RABBITMQ_URL")
    with contextlib.ExitStack() as stack:
        rig = stack.enter_context(Rig(tmp_path / "rig", RENEWAL_BROKER_URL=RABBITMQ if on_rabbitmq else ""))
        if on_rabbitmq:
            stack.enter_context(rabbitmq_queues(rig))
        broker_url = RABBITMQ if on_rabbitmq else rig.valkey.url
        services = {"store": rig.valkey.url, "broker": broker_url, "platforms": rig.world.url}
        # Both forms of a host are tried on a machine that lets us have both.
        left, right = stack.enter_context(
            two_hosts(tmp_path, services=services, settings=rig.renewal.settings, namespaces=not on_rabbitmq)
        )
        for host in (left, right):
            settle_in(host, rig)
        ups = [stack.enter_context(host.started("up", "--workers", "1")) for host in (left, right)]
        for up in ups:
            said(up, r"(up; logs in)")
        wait_until(lambda: {"host-left", "host-right"} == hosts_at_work(rig), what="both hosts up")
        # Only now: a host that comes up much sooner than the other would do all of it alone.
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        asked = [host.wires["platforms"] for host in (left, right)]
        wait_until(lambda: all(wire.carried > BYTES for wire in asked), what="both hosts at work")
        wait_until(lambda: held_by(rig, left), what="a batch in the hands of the host that is to vanish")
        # RabbitMQ gives a connection up after two missed heartbeats; that it asks for them: test_broker.py.
        left.vanish(rig.backends, noticed_by=["broker"] if on_rabbitmq else [])
        assert {"host-right"} == {beat.name.rpartition("-")[0] for beat in rig.backends.heartbeats.alive()}
        rig.jobs.settle(patience_s=1)
        rig.jobs.assert_told_truly(compared=NUMBERS * PLATFORMS)
        assert rig.backends.custody.counts()[1] > 0
        held_to_limits(rig)


def held_to_limits(rig: Rig) -> None:
    """Two hosts share one rate and one number of calls in flight: the sum is what a platform sees."""
    for platform in rig.catalogue:
        seen = rig.world.stats()["platforms"][platform.key]
        assert seen["in_flight_max"] <= platform.limits.in_flight, platform.key
        # A process that the machine let wait for a moment sends together what became due meanwhile.
        assert seen["requests_per_s_max"] <= 1.3 * platform.limits.calls_per_s + 2, platform.key
