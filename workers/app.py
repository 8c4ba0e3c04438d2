"""The Celery worker: its settings, each with the reason it is not the default."""

from collections.abc import Callable
from random import Random
from typing import Any

import structlog
from celery import Celery, bootsteps
from kombu.common import ignore_errors
from typing_extensions import override

from backends.bootstrap import Backends
from backends.broker import Broker
from backends.settings import Settings, unheard
from platforms.catalogue import Catalogue
from platforms.model import Platform
from schemas.batch import Lane
from workers.attempt import Attempt
from workers.credentials import credentials_of
from workers.poll import Poller
from workers.tasks import register
from workers.tls import Tls
from workers.transport import RequestsTransport, Transport
from workers.withdrawal import Withdrawer

log = structlog.get_logger()
# Batches of one lane beside each other in one process; their calls share the transport's threads.
HELD = 16
# When a connection is made anew, what came over the old one may still run beside what comes again.
_THREADS_RATIO = 2


class InteractiveLane(bootsteps.StartStopStep):
    """Gives the interactive lane a channel of its own beside Celery's, which serves the bulk lane.

    So each lane has a prefetch of its own on every broker, and threads enough for both: however many batches of one
    lane are held, the next one of the other lane is handed over and begun at once.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, *, lane_queue: str, held: int, **options: object) -> None:
        super().__init__(consumer, **options)
        self._queue, self._held = lane_queue, held
        self._lane: Any = None
        # By itself Celery would hold as many messages as there are threads.
        consumer.initial_prefetch_count = held

    @override
    def start(self, consumer: Any) -> None:
        """Consume; called again for each new connection."""
        channel, amqp = consumer.connection.channel(), consumer.app.amqp
        queues = [amqp.queues[self._queue]]
        self._lane = amqp.TaskConsumer(channel, queues=queues, on_decode_error=consumer.on_decode_error)
        self._lane.qos(prefetch_count=self._held)
        self._lane.on_message = consumer.create_task_handler()
        self._lane.consume()

    @override
    def stop(self, consumer: Any) -> None:
        """Take nothing new; what is held is worked on, and its channel ends with the connection."""
        if self._lane is not None:
            ignore_errors(consumer, self._lane.cancel)

    shutdown = stop


def configure(broker: Broker) -> Celery:
    """Return the Celery app of a worker."""
    app = broker.app
    app.conf.update(
        task_acks_late=True,  # a killed worker's batch comes again
        task_acks_on_failure_or_timeout=True,  # the task itself decides what is kept: no silent loops
        task_reject_on_worker_lost=not broker.on_redis,  # Redis counts no deliveries, so it would loop there
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,  # it would come back as large as there are threads
        worker_disable_rate_limits=True,  # limits are shared by all workers, in Redis
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # RabbitMQ's consumer timeout would end the worker
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_detect_quorum_queues=True,
        broker_native_delayed_delivery_queue_type="quorum",
    )
    return app


def prepare_withdrawals(backends: Backends, catalogue: Catalogue, pause: Callable[[float], object]) -> Withdrawer:
    """Return what sends withdrawals; it opens no connection before there is one to send."""
    secrets = credentials_of(catalogue)
    return Withdrawer(
        backends,
        catalogue,
        transport=lambda: transport_of(backends.settings),
        credentials=lambda platform: secrets[platform.key],
        pause=pause,
    )


def prepare_polls(backends: Backends, catalogue: Catalogue, pause: Callable[[float], object]) -> Poller:
    """Return what asks for answers that come later; it opens no connection before there is something to ask."""
    secrets = credentials_of(catalogue)
    return Poller(
        backends,
        catalogue,
        transport=lambda: transport_of(backends.settings),
        credentials=lambda platform: secrets[platform.key],
        pause=pause,
    )


def transport_of(settings: Settings) -> Transport:
    """Return the client that calls platforms: curl where pycurl is installed (extra `fast`), else requests.

    Raises ConfigurationError for a client certificate that cannot be used.
    """
    private_endpoints = settings.private_endpoints == "allow"
    tls = Tls(client_certificate=settings.client_certificate)
    try:
        # curl would write the keys of every TLS session to the file that this variable names.
        with unheard("SSLKEYLOGFILE"):
            from workers.multiplex import MultiplexTransport
    except ImportError:
        return RequestsTransport(private_endpoints=private_endpoints, tls=tls)
    return MultiplexTransport(private_endpoints=private_endpoints, tls=tls)


def prepare(backends: Backends, catalogue: Catalogue) -> Attempt:
    """Return what runs attempts. Raises ConfigurationError that names each secret missing, or a wrong certificate."""
    secrets = credentials_of(catalogue)

    def credentials(platform: Platform) -> tuple[str, ...]:
        return secrets[platform.key]

    transport = transport_of(backends.settings)
    log.info("transport.chosen", client=type(transport).__name__)
    return Attempt(backends, catalogue, transport=transport, credentials=credentials, rng=Random())  # noqa: S311


def worker_of(app: Celery, broker: Broker, *, held: int = HELD, loglevel: str = "WARNING") -> Any:
    """Return a Celery worker for both lanes that holds at most `held` batches of each."""
    app.steps["consumer"].add(InteractiveLane)
    return app.Worker(
        pool="threads",
        concurrency=_THREADS_RATIO * held * len(Lane),
        queues=[broker.queues[Lane.BULK].name],
        lane_queue=broker.queues[Lane.INTERACTIVE].name,
        held=held,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=loglevel,
        optimization="fair",
        quiet=True,
    )


def serve(backends: Backends, attempt: Attempt) -> int:
    """Work until SIGTERM, then finish what was begun. Returns the exit code."""
    app = configure(backends.broker)
    register(app, attempt, backends)
    worker = worker_of(app, backends.broker)
    try:
        worker.start()
    finally:
        attempt.close()
    return int(worker.exitcode or 0)
