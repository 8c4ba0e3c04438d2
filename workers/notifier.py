"""The notifier: tells subscribers, in order and at least once, each for itself: one that is dead holds up nobody.

A subscriber is tried again after longer and longer, from seconds to a day. What it has not taken in three days is kept
whole for a person, and the rest goes on; so is a notice that it refuses as such, after some tries: what comes behind it
may be well. A subscriber that answers 410 is told nothing more until a person resumes it.
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol

import structlog
from redis.exceptions import RedisError

from backends.bootstrap import Backends
from backends.outbox import Posted
from backends.signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from backends.subscribers import Told
from schemas.errors import BackendUnavailable, ConfigurationError, RenewalError
from schemas.ids import new_id
from schemas.notice import Notice, NoticeType
from workers.connector import retry_after_s
from workers.subscriptions import TOPIC, Subscriptions, Webhook
from workers.transport import Answer, Call, Transport

KEEP: Final = timedelta(days=3)
DELAYS_S: Final = (5, 30, 120, 600, 1800, 7200, 21_600, 43_200, 86_400)
# Our own broker comes back sooner than somebody else's server, and it costs nobody to look.
TOPIC_DELAY_S_MAX: Final = 60
TIMEOUT_S: Final = 10.0
_PAGE: Final = 100
_LOOK_S: Final = 1.0
_AGAIN_S: Final = 5.0
_TIDY_S: Final = 10.0
_OK: Final = range(200, 300)
_GONE: Final = 410
# Who answers so has read the notice and does not want it; a wrong address or key is none of these.
_REFUSED: Final = frozenset({400, 413, 415, 422})
# After the fifth, three quarters of an hour have passed: time to mend a receiver that was put out broken.
REFUSALS_MAX: Final = 5
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a subscriber said: nothing is wrong if `problem` is empty.

    `gone`: it wants to be told nothing more. `refused`: it does not want this notice.
    """

    problem: str = ""
    gone: bool = False
    refused: bool = False
    again_s: float = 0.0


class Channel(Protocol):
    """A way to one subscriber."""

    name: str
    types: tuple[NoticeType, ...]
    delay_s_max: float

    def tell(self, notice: Notice, *, now: datetime) -> Heard:
        """Send one notice. Never raises for what the other side does."""
        ...


class WebhookChannel:
    """Standard Webhooks: the id stays that of the notice, the time stamp is that of the try."""

    delay_s_max = float(DELAYS_S[-1])

    def __init__(self, webhook: Webhook, secrets: tuple[str, ...], transport: Transport) -> None:
        self.name, self.types = webhook.name, webhook.types
        self._url, self._secrets, self._transport = webhook.url, secrets, transport

    def tell(self, notice: Notice, *, now: datetime) -> Heard:
        """See `Channel.tell`."""
        body = notice.model_dump_json().encode()
        headers = {
            "Content-Type": "application/cloudevents+json",
            "User-Agent": "number-renewal",
            ID_HEADER: notice.id,
            TIMESTAMP_HEADER: str(int(now.timestamp())),
            SIGNATURE_HEADER: sign(self._secrets, message_id=notice.id, timestamp=now, body=body),
        }
        call = Call(url=self._url, headers=headers, body=body, timeout_s=TIMEOUT_S, keys=(notice.id,))
        (answer,) = self._transport.send([call], in_flight=1, deadline_s=TIMEOUT_S)
        return judge(answer, now=now)


class TopicChannel:
    """A topic exchange of the broker; the routing key is the type."""

    name, types, delay_s_max = TOPIC, tuple(NoticeType), float(TOPIC_DELAY_S_MAX)

    def __init__(self, backends: Backends, exchange: str) -> None:
        self._broker, self._exchange = backends.broker, exchange

    def tell(self, notice: Notice, *, now: datetime) -> Heard:  # noqa: ARG002 - the broker asks for no time stamp
        """See `Channel.tell`."""
        try:
            self._broker.publish_notice(notice, exchange=self._exchange)
        except BackendUnavailable as error:
            return Heard(problem=str(error))
        return Heard()


def judge(answer: Answer, *, now: datetime) -> Heard:
    """Say what an answer means. Pure."""
    if answer.status in _OK:
        return Heard()
    if answer.status == _GONE:
        return Heard(problem="HTTP 410: it wants to be told nothing more", gone=True)
    said = f"HTTP {answer.status}" if answer.status else str(answer.fault)
    again_s = retry_after_s(answer.headers, now=now) or 0.0
    return Heard(problem=said, refused=answer.status in _REFUSED, again_s=again_s)


def delay_s(failures: int, *, asked_s: float, most_s: float) -> float:
    """Return how long to wait after so many failures in a row, whatever the other side asks for. Pure."""
    return min(most_s, max(DELAYS_S[min(failures, len(DELAYS_S)) - 1], asked_s))


class Notifier:
    """Tells one subscriber. Raises BackendUnavailable, RedisError: then it goes on where it was."""

    def __init__(self, backends: Backends, channel: Channel) -> None:
        self._backends, self._channel, self._holder = backends, channel, new_id()

    @property
    def name(self) -> str:
        """The subscriber."""
        return self._channel.name

    def step(self) -> bool:
        """Tell the next page of what there is, if it is this process's turn. Returns whether there is more."""
        subscribers, name = self._backends.subscribers, self._channel.name
        if not subscribers.lease(name, holder=self._holder):
            return False
        told = subscribers.told(name)
        if told.gone_ms or told.again_ms > _ms(self._backends.clock.now()):
            self._give_up(told)
            return False
        page = self._backends.outbox.after(told.place, at_most=_PAGE)
        for posted in page:
            if not subscribers.lease(name, holder=self._holder):
                return False
            told, well = self._tell(posted, told)
            if not well:
                return False
        return len(page) == _PAGE

    def _tell(self, posted: Posted, told: Told) -> tuple[Told, bool]:
        """Return how far it is after one notice, and whether to go on."""
        now = self._backends.clock.now()
        if posted.notice.type not in self._channel.types:
            return self._note(told, place=posted.place), True
        heard = self._channel.tell(posted.notice, now=now)
        if heard.problem:
            told = self._failed(heard, told, now=now)
            if heard.refused and told.failures >= REFUSALS_MAX:
                return self._put_aside(posted, told), True
            return told, False
        delivered = self._note(
            told, place=posted.place, delivered=told.delivered + 1, last_ms=_ms(now), failures=0, failing_ms=0,
            again_ms=0, problem="",
        )  # fmt: skip
        return delivered, True

    def _failed(self, heard: Heard, told: Told, *, now: datetime) -> Told:
        failures = told.failures + 1
        wait_s = delay_s(failures, asked_s=heard.again_s, most_s=self._channel.delay_s_max)
        log.warning("notice.failed", subscriber=self._channel.name, failures=failures, reason=heard.problem)
        return self._note(
            told, failures=failures, failing_ms=told.failing_ms or _ms(now), problem=heard.problem,
            again_ms=_ms(now) + int(wait_s * 1000), gone_ms=_ms(now) if heard.gone else 0,
        )  # fmt: skip

    def _put_aside(self, posted: Posted, told: Told) -> Told:
        """Keep a notice that is refused as such; the next one has tries of its own."""
        self._backends.subscribers.give_up(self._channel.name, [posted], told=told, place=posted.place)
        log.warning("notice.put_aside", subscriber=self._channel.name, reason=told.problem)
        passed = replace(told, place=posted.place, undelivered=told.undelivered + 1)
        # Nothing is owed any more: what is kept has an alert of its own, which ends when a person has seen to it.
        return self._note(passed, failures=0, failing_ms=0, again_ms=0, problem="")

    def _note(self, told: Told, **changed: Any) -> Told:
        self._backends.subscribers.note(self._channel.name, **changed)
        return replace(told, **changed)

    def _give_up(self, told: Told) -> None:
        """Keep aside what is too old to be tried again, of a subscriber that has not listened for as long."""
        oldest_ms = _ms(self._backends.clock.now() - KEEP)
        if told.failing_ms > oldest_ms:
            return
        page = self._backends.outbox.after(told.place, at_most=_PAGE)
        old = [posted for posted in page if _ms(posted.at) <= oldest_ms]
        if old:
            wanted = [posted for posted in old if posted.notice.type in self._channel.types]
            self._backends.subscribers.give_up(self._channel.name, wanted, told=told, place=old[-1].place)


def channels(subscriptions: Subscriptions, backends: Backends, transport: Transport) -> list[Channel]:
    """Return the way to each subscriber. Raises ConfigurationError for a missing secret, or a topic on Redis."""
    found: list[Channel] = [
        WebhookChannel(webhook, subscriptions.secrets(webhook), transport) for webhook in subscriptions.webhooks
    ]
    if subscriptions.topic is None:
        return found
    if backends.broker.on_redis:
        raise ConfigurationError(
            f"{subscriptions.path}: topic: needs RabbitMQ; on Redis messages vanish in silence when bindings do"
        )
    return [*found, TopicChannel(backends, subscriptions.topic)]


def notifying(backends: Backends, transport: Callable[[], Transport], stop: threading.Event) -> list[threading.Thread]:
    """Return the thread to be started, if anybody subscribes. Raises ConfigurationError for a file that is wrong."""
    subscriptions = Subscriptions.load(backends.settings.subscribers)
    if not subscriptions.names:
        return []
    opened = transport()
    try:
        notifiers = [Notifier(backends, channel) for channel in channels(subscriptions, backends, opened)]
    except ConfigurationError:
        opened.close()
        raise
    told = partial(_notify_all, backends, notifiers, opened=opened, stop=stop)
    return [threading.Thread(target=told)]


def _notify_all(backends: Backends, notifiers: list[Notifier], *, opened: Transport, stop: threading.Event) -> None:
    """Tell each subscriber from a thread of its own, and forget what all of them have."""
    names = [notifier.name for notifier in notifiers]
    with contextlib.closing(opened):
        threads = [threading.Thread(target=_notify, args=(notifier, stop)) for notifier in notifiers]
        for thread in threads:
            thread.start()
        while not stop.wait(_TIDY_S):
            with contextlib.suppress(RenewalError, RedisError):
                backends.subscribers.forget_what_all_have(names, backends.outbox)
        for thread in threads:
            thread.join()


def _notify(notifier: Notifier, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            if not notifier.step():
                stop.wait(_LOOK_S)
        except (RenewalError, RedisError) as error:
            log.warning("scheduler.waiting", reason=type(error).__name__)
            stop.wait(_AGAIN_S)


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
