"""The broker, on Redis and on RabbitMQ: as Celery would send it, and nothing is lost silently."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from amqp.exceptions import NotFound, PreconditionFailed

from backends.broker import HEARTBEAT_S, TASK, Broker
from backends.custody import ANSWERED_S, QUEUED_S
from backends.embedded import EmbeddedValkey
from backends.keys import Keys
from schemas.batch import JOBS_MAX, Basis, Batch, Job, Lane
from schemas.errors import BackendUnavailable, ConfigurationError
from schemas.ids import new_id
from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import State
from tests.command import port_is_open
from tests.fixtures_valkey import NOON

RABBITMQ = os.environ.get("RENEWAL_TEST_RABBITMQ_URL") or "amqp://guest:guest@127.0.0.1:5672//"
SEALED = "c2VhbGVk" * 4
QUICK_S = 10.0
# What differs between two messages with the same content.
OF_THE_SENDING = {"origin"}


@pytest.fixture
def rabbitmq() -> Iterator[Broker]:
    """A namespace of its own on RabbitMQ; its queues are taken away at the end."""
    if not port_is_open(urlsplit(RABBITMQ).port or 5672):
        pytest.skip("no RabbitMQ at 127.0.0.1:5672; start one, or set RENEWAL_TEST_RABBITMQ_URL")
    broker = Broker(RABBITMQ, Keys(f"t{new_id()}"))
    yield broker
    forget(broker)
    broker.close()


@pytest.fixture
def redis(valkey: EmbeddedValkey) -> Iterator[Broker]:
    """A namespace of its own on the session's Valkey."""
    broker = Broker(valkey.url, Keys(f"t{new_id()}"))
    yield broker
    forget(broker)
    broker.close()


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the brokers that we run on, with its queues declared."""
    chosen: Broker = request.getfixturevalue(request.param)
    chosen.declare()
    return chosen


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, kept from others."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def names(broker: Broker) -> list[str]:
    """Return the queues of a broker's namespace."""
    return [queue.name for queue in (*broker.queues.values(), broker.results)]


def forget(broker: Broker) -> None:
    """Take the queues of a broker's namespace away."""
    with broker.connect() as connection:
        channel: Any = connection.default_channel
        for name in names(broker):
            channel.queue_delete(name)


def make_batch(*, jobs: int = 2, lane: Lane = Lane.BULK) -> Batch:
    """A batch with everything else at its usual."""
    cases = tuple(
        Job(case=new_id(), cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE) for _ in range(jobs)
    )
    return Batch(
        id=new_id(), run=new_id(), platform="alpha", lane=lane, deadline=NOON + timedelta(days=5), jobs=cases,
        sealed=SEALED,
    )  # fmt: skip


def make_event() -> ResultEvent:
    """An event with some of everything."""
    data = AttemptData(
        batch=new_id(), run=new_id(), platform="alpha", attempt=2, started_at=NOON, ended_at=NOON, worker="w", calls=1,
        http_statuses={"200": 1}, latencies=(1,) + (0,) * len(LATENCY_BOUNDS_MS),
        jobs=(JobResult(case=new_id(), state=State.ACCEPTED, reference="号码", detail="d"),),
    )  # fmt: skip
    return ResultEvent(id=new_id(), time=NOON, subject="alpha", data=data)


def taken(broker: Broker, queue: Any) -> list[Any]:
    """Take every message off a queue."""
    found = []
    with broker.connect() as connection:
        bound = queue(connection.default_channel)
        while (message := bound.get(no_ack=True)) is not None:
            found.append(message)
    return found


def bodies(messages: list[Any]) -> list[str]:
    """Return the batch ids of task messages."""
    return [orjson.loads(message.body)[0][0]["id"] for message in messages]


def test_a_batch_travels_as_celery_would_send_it(broker: Broker) -> None:
    """Any Celery worker reads it: the same headers, properties and body as `apply_async` makes."""
    batch = make_batch()
    broker.publish_batches([batch])
    broker.app.send_task(
        TASK, args=(batch.model_dump(mode="json"),), kwargs={}, task_id=batch.id, argsrepr=batch.id, kwargsrepr="",
        ignore_result=True, queue=broker.queues[Lane.BULK].name,
    )  # fmt: skip
    ours, celerys = taken(broker, broker.queues[Lane.BULK])
    assert celerys.payload == ours.payload
    assert {k: v for k, v in celerys.headers.items() if k not in OF_THE_SENDING} == {
        k: v for k, v in ours.headers.items() if k not in OF_THE_SENDING
    }
    assert (celerys.content_type, celerys.content_encoding) == (ours.content_type, ours.content_encoding)
    for name in ("correlation_id", "delivery_mode", "priority"):
        assert celerys.properties.get(name) == ours.properties.get(name)


def test_a_batch_arrives_as_it_was_sent(broker: Broker) -> None:
    """The one argument of the task is the batch, whole; the task is named by the batch, so that logs agree."""
    batch = make_batch(jobs=JOBS_MAX)
    assert 1 == broker.publish_batches([batch])
    (message,) = taken(broker, broker.queues[Lane.BULK])
    (argument,), keywords, embedded = message.payload
    assert batch == Batch.parse(argument)
    assert {} == keywords
    assert [None] * 4 == [embedded[name] for name in ("callbacks", "errbacks", "chain", "chord")]
    assert (TASK, batch.id) == (message.headers["task"], message.headers["id"])


def test_no_header_holds_data_of_a_job(broker: Broker) -> None:
    """Headers are shown by every monitor; the sealed numbers and the cases are in the body alone (rule 8)."""
    batch = make_batch()
    broker.publish_batches([batch])
    (message,) = taken(broker, broker.queues[Lane.BULK])
    shown = f"{message.headers} {message.properties}"
    assert (batch.id, "") == (message.headers["argsrepr"], message.headers["kwargsrepr"])
    assert [] == [text for text in (SEALED[:8], *(job.case for job in batch.jobs)) if text in shown]


def test_every_batch_arrives_in_order_on_the_queue_of_its_lane(broker: Broker) -> None:
    """More than are sent in one go, and a person's batches beside the others."""
    batches = [make_batch(jobs=1, lane=Lane.INTERACTIVE if n % 10 == 0 else Lane.BULK) for n in range(130)]
    assert 130 == broker.publish_batches(iter(batches))
    for lane in Lane:
        assert [b.id for b in batches if b.lane is lane] == bodies(taken(broker, broker.queues[lane]))


def test_an_event_arrives_as_it_was_sent(broker: Broker) -> None:
    """As CloudEvents JSON in structured mode, kept through a restart of the broker."""
    event = make_event()
    broker.publish_event(event)
    (message,) = taken(broker, broker.results)
    assert event == ResultEvent.parse(bytes(message.body) if isinstance(message.body, memoryview) else message.body)
    assert ("application/cloudevents+json", "utf-8") == (message.content_type, message.content_encoding)
    assert 2 == message.properties["delivery_mode"]


def test_depths_count_what_waits(broker: Broker) -> None:
    """Producers stop at a high-water mark by these figures."""
    empty = dict.fromkeys(names(broker), 0)
    assert empty == broker.depths()
    broker.publish_batches([make_batch(), make_batch(), make_batch(lane=Lane.INTERACTIVE)])
    broker.publish_event(make_event())
    queues = broker.queues
    expected = {queues[Lane.BULK].name: 2, queues[Lane.INTERACTIVE].name: 1, broker.results.name: 1}
    assert expected == broker.depths()
    taken(broker, queues[Lane.BULK])
    assert expected | {queues[Lane.BULK].name: 0} == broker.depths()


def test_declaring_again_keeps_what_is_there(broker: Broker) -> None:
    """Every process declares when it starts."""
    broker.publish_batches([make_batch()])
    broker.declare()
    assert 1 == broker.depths()[broker.queues[Lane.BULK].name]


def test_a_failure_while_publishing_is_passed_on_and_publishing_goes_on_after_it(broker: Broker) -> None:
    """What makes the batches may fail; the next call must not suffer from the connection it left."""

    def failing() -> Iterator[Batch]:
        yield make_batch()
        raise BackendUnavailable("no permit")

    with pytest.raises(BackendUnavailable, match=r"^no permit$"):
        broker.publish_batches(failing())
    taken(broker, broker.queues[Lane.BULK])
    batch = make_batch()
    broker.publish_batches([batch])
    assert [batch.id] == bodies(taken(broker, broker.queues[Lane.BULK]))


def test_many_threads_publish_beside_each_other(broker: Broker) -> None:
    """More than the pool has connections: they wait for one, and each event arrives once."""
    events = [make_event() for _ in range(48)]

    def publish(part: list[ResultEvent]) -> None:
        for event in part:
            broker.publish_event(event)

    threads = [Thread(target=publish, args=(events[n::16],)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    arrived = [orjson.loads(message.body)["id"] for message in taken(broker, broker.results)]
    assert sorted(event.id for event in events) == sorted(arrived)


@pytest.mark.parametrize("url", ["redis://:pass@127.0.0.1:{}/0", "amqp://guest:pass@127.0.0.1:{}//"])
@pytest.mark.parametrize("verb", ["connect", "declare", "depths", "publish_batches", "publish_event"])
def test_a_broker_that_is_away_is_named_soon_and_without_its_password(closed_port: int, url: str, verb: str) -> None:
    """One message says what was tried and how to set it; nobody waits for minutes."""
    broker = Broker(url.format(closed_port), Keys(f"t{new_id()}"))
    given: dict[str, list[Any]] = {"publish_batches": [[make_batch()]], "publish_event": [make_event()]}
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="RENEWAL_BROKER_URL") as caught:
        getattr(broker, verb)(*given.get(verb, []))
    broker.close()
    assert QUICK_S > time.monotonic() - began
    assert f"{url.partition(':')[0]}://127.0.0.1:{closed_port}/" in str(caught.value)
    assert [] == [word for word in ("pass", "guest") if word in str(caught.value)]


@pytest.mark.parametrize("url", ["http://127.0.0.1", "localhost:6379", "sqs://", "memory://"])
def test_a_broker_of_another_kind_is_refused(url: str) -> None:
    """With the kinds that there are."""
    with pytest.raises(ConfigurationError, match=r"RENEWAL_BROKER_URL: expected redis://.*amqp://"):
        Broker(url, Keys())


# -- Redis -------------------------------------------------------------------------------------------------------------


def test_on_redis_a_batch_is_published_after_its_connection_was_cut(redis: Broker, valkey: EmbeddedValkey) -> None:
    """A restart of the broker costs at most the message that was on its way, and whoever sent that is told."""
    redis.publish_batches([make_batch()])
    with redis.connect() as connection:
        channel: Any = connection.default_channel
        client = channel.client
        client.client_kill_filter(_type="normal", skipme=True)
    batch = make_batch()
    for _ in range(3):
        with contextlib.suppress(BackendUnavailable):
            redis.publish_batches([batch])
            break
    assert batch.id in bodies(taken(redis, redis.queues[Lane.BULK]))


def test_on_redis_only_plain_queues_are_made(redis: Broker, valkey: EmbeddedValkey) -> None:
    """A named exchange would lose messages silently when its bindings vanish: no key but the lists themselves."""
    redis.declare()
    redis.publish_batches([make_batch(), make_batch(lane=Lane.INTERACTIVE)])
    redis.publish_event(make_event())
    namespace = redis.results.name.partition(".")[0]
    with redis.connect() as connection:
        channel: Any = connection.default_channel
        client = channel.client
        found = {key.decode() for key in client.scan_iter(match=f"*{namespace}*")}
        kinds = {client.type(key) for key in found}
    assert set(names(redis)) == found
    assert {b"list"} == kinds


# -- RabbitMQ ----------------------------------------------------------------------------------------------------------


@pytest.mark.rabbitmq
def test_on_rabbitmq_queues_are_quorum_queues_that_count_deliveries(rabbitmq: Broker) -> None:
    """They outlive a node, and a message that kills its workers does not circle for ever."""
    rabbitmq.declare()
    for name in names(rabbitmq):
        for arguments, refused in (
            ({"x-queue-type": "quorum", "x-delivery-limit": 20}, ""),
            ({"x-queue-type": "quorum", "x-delivery-limit": 3}, "x-delivery-limit"),
            ({"x-queue-type": "classic"}, "x-queue-type"),
        ):
            assert refused in refusal(rabbitmq, name, arguments)
            assert bool(refused) == bool(refusal(rabbitmq, name, arguments))


def refusal(broker: Broker, name: str, arguments: dict[str, Any]) -> str:
    """Return why RabbitMQ refuses such a declaration: only one equal to what exists is accepted."""
    with broker.connect() as connection:
        channel: Any = connection.channel()
        try:
            channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        except PreconditionFailed as refused:
            return str(refused)
    return ""


@pytest.mark.rabbitmq
def test_on_rabbitmq_what_has_no_queue_is_not_taken_for_published(rabbitmq: Broker) -> None:
    """RabbitMQ drops what it cannot route and confirms it all the same: then the sender must be told (rule 1)."""
    for publish in (lambda: rabbitmq.publish_batches([make_batch()]), lambda: rabbitmq.publish_event(make_event())):
        with pytest.raises(BackendUnavailable, match="NO_ROUTE"):
            publish()
    rabbitmq.declare()
    rabbitmq.publish_event(make_event())
    assert 1 == rabbitmq.depths()[rabbitmq.results.name]


@pytest.mark.rabbitmq
def test_on_rabbitmq_a_missing_queue_has_no_depth(rabbitmq: Broker) -> None:
    """Producers must not read `empty` where nothing would arrive; asking makes no queue."""
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="NOT_FOUND"):
            rabbitmq.depths()
    with rabbitmq.connect() as connection:
        channel: Any = connection.channel()
        with pytest.raises(NotFound):
            channel.queue_declare(rabbitmq.results.name, passive=True)


@pytest.mark.rabbitmq
def test_on_rabbitmq_who_falls_silent_is_soon_no_consumer_any_more(rabbitmq: Broker) -> None:
    """A host that vanished would be handed results and batches until its prefetch is full, and keep them for hours."""
    connections = rabbitmq.connect(), rabbitmq.app.connection_for_read(heartbeat=rabbitmq.app.conf.broker_heartbeat)
    for connection in connections:
        with connection:
            connection.connect()
            assert HEARTBEAT_S == connection.get_heartbeat_interval()
    assert 2 * HEARTBEAT_S < QUEUED_S + ANSWERED_S, "what it held should be back before much of it is sent again"
