"""The recorder: takes result events off the results queue and applies them, each in one atomic script call.

The only writer of job states. A message is acknowledged after its write; an event that comes twice changes nothing.
"""

import contextlib
import socket
import threading
import time
from typing import Any

import structlog
from kombu import Connection, Consumer
from kombu.message import Message
from redis.exceptions import RedisError

from backends.bootstrap import Backends
from backends.broker import Failures
from backends.failpoint import reach
from backends.store import applied
from schemas.errors import BackendUnavailable, ContractError
from schemas.result import ResultEvent

_EVENTS_MAX = 50
_IDLE_S = 0.05
_AGAIN_S = 1.0
_BEAT_S = 3.0
log = structlog.get_logger()


class Recorder:
    """Runs until `stop` is set; several may run beside each other."""

    def __init__(self, backends: Backends, stop: threading.Event) -> None:
        self._backends, self._stop = backends, stop
        self._held: list[Message] = []
        self._applied = 0
        self._beaten, self._since_s = 0.0, time.time()

    def run(self) -> None:
        """Consume until told to stop; reconnect when the broker or Redis went away."""
        while not self._stop.is_set():
            try:
                with self._backends.broker.connect() as connection:
                    self._consume(connection)
            except (*Failures, BackendUnavailable) as error:
                # What was held is not acknowledged: it comes again on the next connection.
                self._held.clear()
                log.warning("recorder.reconnecting", reason=type(error).__name__)
                self._stop.wait(_AGAIN_S)
        with contextlib.suppress(RedisError):
            self._backends.heartbeats.leave("recorder")

    def _consume(self, connection: Connection) -> None:
        channel = connection.channel()
        consumer: Any = Consumer(
            channel,
            queues=[self._backends.broker.results(channel)],
            on_message=self._hold,
            prefetch_count=2 * _EVENTS_MAX,
        )
        with consumer:
            while not self._stop.is_set():
                self._beat(connection)
                try:
                    connection.drain_events(timeout=_IDLE_S)
                except (TimeoutError, socket.timeout):  # noqa: UP041 - the AMQP client raises its own alias
                    self._write()
                if len(self._held) >= _EVENTS_MAX:
                    self._write()
            self._write()

    def _hold(self, message: Message) -> None:
        self._held.append(message)

    def _write(self) -> None:
        """Apply what is held in one round trip, then acknowledge it."""
        messages, self._held = self._held, []
        readable: list[tuple[Message, ResultEvent]] = []
        for message in messages:
            try:
                readable.append((message, ResultEvent.parse(_text(message.body))))
            except ContractError as error:
                self._bury(message, str(error))
        if not readable:
            return
        pipe = self._backends.store.pipeline()
        for _, event in readable:
            self._backends.store.apply(event, pipe=pipe)
        answers = pipe.execute()
        reach("recorder.written")
        for (message, event), answer in zip(readable, answers, strict=True):
            self._note(event, answer)
            message.ack()
        self._applied += len(readable)

    def _note(self, event: ResultEvent, answer: list[int]) -> None:
        result = applied(answer)
        if result.disputed:
            log.error("job.disputed", platform=event.data.platform, batch=event.data.batch, jobs=result.disputed)
        if result.orphaned:
            log.error("job.orphaned", platform=event.data.platform, batch=event.data.batch, jobs=result.orphaned)

    def _bury(self, message: Message, why: str) -> None:
        log.error("message.poison", queue=self._backends.broker.results.name, reason=why)
        self._backends.kept.bury_message(
            _text(message.body), why=why, queue=self._backends.broker.results.name, now=self._backends.clock.now()
        )
        message.ack()

    def _beat(self, connection: Connection) -> None:
        if time.monotonic() - self._beaten > _BEAT_S:
            self._beaten = time.monotonic()
            connection.heartbeat_check()
            self._backends.heartbeats.beat("recorder", facts={"since_s": self._since_s, "events": self._applied})


def _text(body: Any) -> str:
    return bytes(body).decode("utf-8", "replace") if isinstance(body, bytes | memoryview) else str(body)
