"""Events reach a receiver over real HTTP, and a topic of a real RabbitMQ."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import orjson
import pytest
from kombu import Connection, Exchange, Queue

from backends.bootstrap import Backends, open_backends
from backends.broker import Broker
from backends.embedded import EmbeddedValkey
from backends.keys import Keys
from ops.subscriber_desk import SubscriberDesk
from schemas.ids import new_id
from schemas.notice import Notice, PlatformResumed, PlatformSuspended
from schemas.state import State
from tests.command import port_is_open, wait_until
from tests.fixtures_valkey import NOON, settings_of
from tests.letters import accept, record
from workers.app import transport_of
from workers.notifier import TopicChannel, notifying

ROOT = Path(__file__).parents[2]
RABBITMQ = os.environ.get("RENEWAL_TEST_RABBITMQ_URL") or "amqp://guest:guest@127.0.0.1:5672//"
SECRET = "whsec_czNjcmV0LXMzY3JldC1zM2NyZXQ="


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[Path]:
    """What examples/webhook_receiver.py prints while it runs."""
    said = tmp_path / "said"
    with said.open("wb") as out, subprocess.Popen(
        [sys.executable, "-u", ROOT / "examples" / "webhook_receiver.py", "--port", "0"],
        stdout=out, env={**os.environ, "CRM_SECRET": SECRET},
    ) as receiver:  # fmt: skip
        yield said
        receiver.kill()


@pytest.fixture
def address(printed: Path) -> str:
    """Where it listens."""
    return wait_until(lambda: re.search(r"http://\S+", printed.read_text()), what="the receiver")[0]


@pytest.fixture
def telling(valkey: EmbeddedValkey, tmp_path: Path, address: str) -> Iterator[Backends]:
    """Backends of an operator whose CRM is the receiver."""
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    path = tmp_path / "subscribers.yaml"
    path.write_text(f"webhooks:\n  - {{name: crm, url: '{address}', secret: 'file:secret'}}\n", encoding="utf-8")
    settings = settings_of(valkey, tmp_path).model_copy(update={"subscribers": path, "private_endpoints": "allow"})
    opened = open_backends(settings)
    yield opened
    opened.close()


def test_a_settled_case_is_told_to_the_example_s_receiver_once(telling: Backends, printed: Path, address: str) -> None:
    """The whole way: script, outbox, notifier, signature, HTTP; and whoever forges is not believed."""
    (case,) = accept(telling, ["alpha"])
    stop = threading.Event()
    (thread,) = notifying(telling, lambda: transport_of(telling.settings), stop)
    thread.start()
    try:
        record(telling, "alpha", [case], state=State.UNBOUND)
        line = wait_until(lambda: re.search(r".*case_settled.*", printed.read_text()), what="the event")[0]
        assert f'"case": "{case}"' in line
        assert '"verdict": "CLEAN"' in line
        wait_until(lambda: telling.subscribers.told("crm").delivered == 1, what="its record")
    finally:
        stop.set()
        thread.join()
    with pytest.raises(HTTPError, match="401"):
        urlopen(Request(address, data=b'{"id": "forged"}', headers={"webhook-id": "forged"}), timeout=10)
    assert 2 == len(printed.read_text().splitlines())


def test_a_private_address_is_called_only_where_that_is_allowed(telling: Backends, address: str) -> None:
    """A file of URLs must not become a way into the operator's own network."""
    desk = SubscriberDesk(telling)
    settings = telling.settings
    assert not desk.test("crm", lambda: transport_of(settings)).problem
    strict = settings.model_copy(update={"private_endpoints": "deny"})
    assert "private_address" == desk.test("crm", lambda: transport_of(strict)).problem


@pytest.mark.rabbitmq
def test_a_topic_carries_each_notice_under_its_type(backends: Backends) -> None:
    """Whoever binds a queue gets what it asked for, in order, also after the broker has restarted (durable)."""
    if not port_is_open(urlsplit(RABBITMQ).port or 5672):
        pytest.skip("no RabbitMQ at 127.0.0.1:5672; start one, or set RENEWAL_TEST_RABBITMQ_URL")
    name, broker = f"t{new_id()}.events", Broker(RABBITMQ, Keys(f"t{new_id()}"))
    topic = Exchange(name, type="topic", durable=True)
    notices = [
        Notice.of(data, ident=new_id(), time=NOON)
        for data in (PlatformSuspended(platform="alpha", reason="dns"), PlatformResumed(platform="alpha"))
    ]
    channel_of = TopicChannel(replace(backends, broker=broker), name)
    assert not channel_of.tell(notices[0], now=NOON).problem, "nobody is bound yet: it is dropped, and that is no fault"
    with Connection(RABBITMQ, connect_timeout=5) as connection:
        channel: Any = connection.channel()
        queue = Queue(f"{name}.mine", topic, routing_key="renewal.platform_resumed.*", exclusive=True)(channel)
        queue.declare()
        try:
            for notice in notices:
                assert not channel_of.tell(notice, now=NOON).problem
            message = wait_until(lambda: queue.get(no_ack=True), what="the notice")
            assert notices[1] == Notice.parse(orjson.loads(str(message.body)))
            assert "renewal.platform_resumed.v1" == message.delivery_info["routing_key"]
            assert queue.get(no_ack=True) is None
        finally:
            queue.delete()
            topic(channel).delete()
            broker.close()
