"""The broker: the Celery app as far as messages go, the queues, and publishing.

On Redis only the default exchange and plain queue names are used: a named exchange loses messages silently when its
bindings vanish. On RabbitMQ the queues are quorum queues, declared before anything is published, with confirms; a
message that no queue takes comes back (`mandatory`), for RabbitMQ would drop it and confirm it all the same.
"""

import contextlib
from collections.abc import Iterable, Iterator
from math import ceil
from typing import Any

from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Connection, Exchange, Producer, Queue
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from backends.connect import ping, shown
from backends.keys import Keys
from schemas.batch import Batch, Lane
from schemas.errors import BackendUnavailable, ConfigurationError
from schemas.notice import Notice
from schemas.result import ResultEvent

TASK = "renewal.attempt"
# Longer than a worker may hold a message: the longest attempt, twice over (one prefetched behind one running).
VISIBILITY_TIMEOUT_S = 600
# A recorder holds an event until its next write, which is milliseconds away.
RESULTS_VISIBILITY_TIMEOUT_S = 60
_DELIVERIES_MAX = 20
_FLUSH_MESSAGES = 100
_CONNECTIONS_MAX = 10
# The rest of a task message, protocol 2: no keyword arguments, and nothing that follows the task.
_NO_CALLBACKS = b'],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
_REDIS_TRANSPORT = "backends.claiming:Transport"
_REDIS_OPTIONS: dict[str, Any] = {
    "unacked_restore_interval": 5,
    "unacked_restore_limit": 100,
    "priority_steps": [0],
    "queue_order_strategy": "round_robin",
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 15,
}
# Whoever has vanished without a word (a host without power, a cable that is cut) still counts as a consumer for
# RabbitMQ, which hands it messages up to its prefetch. After two missed heartbeats it is gone, and all it held is back.
HEARTBEAT_S = 10
_AMQP_OPTIONS: dict[str, Any] = {"confirm_publish": True, "connect_timeout": 3}
Failures = (KombuError, OperationalError, AMQPError, RedisError, OSError)


class Broker:
    """Publishes batches and result events, and says how long the queues are."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.url, self._keys = url, keys
        scheme = url.partition(":")[0]
        if scheme not in {"redis", "rediss", "amqp", "amqps"}:
            raise ConfigurationError("RENEWAL_BROKER_URL: expected redis://, rediss://, amqp:// or amqps://")
        self.on_redis = scheme.startswith("redis")
        self.queues = {lane: self._queue(keys.queue(lane)) for lane in Lane}
        self.results = self._queue(keys.results_queue)
        self.app = self._celery()
        # Ours alone: Celery's pool belongs to the process, and leaves its connections open.
        self._pool: Any = self.app.connection_for_write().Pool(limit=_CONNECTIONS_MAX)

    def _queue(self, name: str) -> Queue:
        arguments = None
        if not self.on_redis:
            arguments = {"x-queue-type": "quorum", "x-delivery-limit": _DELIVERIES_MAX}
        return Queue(name, Exchange(""), routing_key=name, durable=True, queue_arguments=arguments)

    def _options(self, group: str, *, visibility_timeout_s: float) -> dict[str, Any]:
        """Return what kombu is told; each group of consumers looks only after what itself left behind."""
        if not self.on_redis:
            return dict(_AMQP_OPTIONS)
        return _REDIS_OPTIONS | {
            "visibility_timeout": visibility_timeout_s,
            "unacked_key": self._keys.unacked(group),
            "unacked_index_key": self._keys.unacked_index(group),
            "unreadable_key": self._keys.unreadable,
            "rest_key": self._keys.rest,
        }

    @property
    def _transport(self) -> dict[str, Any]:
        """How a connection is made: by which transport, and over TLS or not."""
        # Kombu would take both from the scheme, and would then not check the server's certificate.
        secure = {"ssl": {"ssl_cert_reqs": "required"}} if self.url.startswith("rediss:") else {}
        return {"transport": _REDIS_TRANSPORT, **secure} if self.on_redis else {}

    def _celery(self) -> Celery:
        app = Celery("renewal", broker=self.url, set_as_current=False)
        transport = self._transport
        app.conf.update(
            broker_transport=transport.get("transport"),
            broker_use_ssl=transport.get("ssl", False),
            broker_heartbeat=HEARTBEAT_S,
            broker_transport_options=self._options("jobs", visibility_timeout_s=VISIBILITY_TIMEOUT_S),
            task_queues=list(self.queues.values()),
            task_default_queue=self.queues[Lane.BULK].name,
            task_default_exchange="",
            task_create_missing_queues=False,
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            task_store_errors_even_if_ignored=False,
            worker_send_task_events=False,
            task_send_sent_event=False,
            enable_utc=True,
            timezone="UTC",
        )
        return app

    def connect(self) -> Connection:
        """Open a connection of the caller's own, as a consumer of results has it. Raises BackendUnavailable.

        Who keeps it calls its `heartbeat_check` every few seconds.
        """
        options = self._options("results", visibility_timeout_s=RESULTS_VISIBILITY_TIMEOUT_S)
        connection = Connection(self.url, heartbeat=HEARTBEAT_S, transport_options=options, **self._transport)
        with _reachable(self.url):
            connection.ensure_connection(max_retries=1, interval_start=1, timeout=4)
        return connection

    def declare(self) -> None:
        """Make every queue. Raises BackendUnavailable."""
        with self.connect() as connection, _reachable(self.url):
            for queue in (*self.queues.values(), self.results):
                queue(connection.default_channel).declare()

    def publish_batches(self, batches: Iterable[Batch]) -> int:
        """Put batches on the queue of their lane; when this returns, the broker has them all.

        Raises BackendUnavailable: then some may be there and some not, and the same batches may be sent again.
        """
        count = 0
        with self._publishing() as producer, producer.batch(max_size=_FLUSH_MESSAGES):
            for batch in batches:
                self._publish_batch(producer, batch)
                count += 1
        return count

    def _publish_batch(self, producer: Any, batch: Batch) -> None:
        message = self.app.amqp.as_task_v2(
            batch.id, TASK, args=(), kwargs={}, argsrepr=batch.id, kwargsrepr="", ignore_result=True, origin="renewal"
        )
        body = b"[[" + batch.model_dump_json().encode() + _NO_CALLBACKS
        producer.publish(
            body,
            exchange="",
            routing_key=self.queues[batch.lane].name,
            mandatory=not self.on_redis,
            headers=message.headers,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            **message.properties,
        )

    def publish_event(self, event: ResultEvent) -> None:
        """Put one result event on the results queue; when this returns, the broker has it.

        Raises BackendUnavailable.
        """
        with self._publishing() as producer:
            producer.publish(
                event.model_dump_json(exclude_none=True).encode(),
                exchange="",
                routing_key=self.results.name,
                mandatory=not self.on_redis,
                content_type="application/cloudevents+json",
                content_encoding="utf-8",
                delivery_mode=2,
            )

    def publish_notice(self, notice: Notice, *, exchange: str) -> None:
        """Hand a notice to a durable topic exchange of RabbitMQ, made if it is missing; its type is the routing key.

        Raises BackendUnavailable. A notice that no queue is bound for is dropped: that is what a topic is.
        """
        topic = Exchange(exchange, type="topic", durable=True)
        with self._publishing() as producer:
            producer.publish(
                notice.model_dump_json().encode(),
                exchange=topic,
                routing_key=notice.type.value,
                declare=[topic],
                content_type="application/cloudevents+json",
                content_encoding="utf-8",
                delivery_mode=2,
                message_id=notice.id,
            )

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[Any]:
        """Give a producer that only one thread uses; after a failure the next one connects anew."""
        with self._connected() as connection:
            yield Producer(connection.default_channel, auto_declare=False)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Lend a connection of the pool. Raises BackendUnavailable."""
        with _reachable(self.url), self._pool.acquire(block=True, timeout=30) as connection:
            connection.ensure_connection(max_retries=3, interval_start=0.1, interval_max=1, timeout=8)
            try:
                yield connection
            except Failures:
                connection.close()
                raise

    def depths(self) -> dict[str, int]:
        """Return how many messages wait in each queue. Raises BackendUnavailable."""
        names = [queue.name for queue in (*self.queues.values(), self.results)]
        with self._connected() as connection:
            channel = connection.default_channel
            # On Redis an empty queue is no key at all, and to declare one makes nothing: asking needs no `passive`.
            return {
                name: int(channel.queue_declare(queue=name, passive=not self.on_redis).message_count) for name in names
            }

    def ping(self, *, timeout_s: float) -> None:
        """Ask the broker for a sign of life, on a connection of its own. Raises BackendUnavailable."""
        if self.on_redis:
            ping(self.url, timeout_s=timeout_s)
            return
        with _reachable(self.url), Connection(self.url, connect_timeout=timeout_s) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=ceil(timeout_s))

    def close(self) -> None:
        """Close every connection."""
        self._pool.force_close_all()
        self.app.close()


@contextlib.contextmanager
def _reachable(url: str) -> Iterator[None]:
    try:
        yield
    except Failures as error:
        raise BackendUnavailable(
            f"the broker cannot be reached at {shown(url)} ({type(error).__name__}: {error});"
            " start it, or set RENEWAL_BROKER_URL"
        ) from error
