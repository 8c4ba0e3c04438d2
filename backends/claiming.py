"""Kombu's Redis transport, with a claim that loses nothing.

The stock transport pops a message, and records it as unacknowledged by a second command: a consumer or a server that
dies between the two loses it. Here one script does both. Queues and records are laid out as kombu lays them out, so
its producers, its depths and its tools go on working.

It replaces private methods of kombu, which is therefore pinned; `tests/contract/test_claiming_transport.py` is the
gate for another version.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from queue import Empty
from time import monotonic
from typing import Any

import structlog
from kombu.transport import redis as stock
from kombu.utils.json import dumps, loads
from redis.commands.core import Script
from redis.exceptions import NoScriptError
from typing_extensions import override

from backends.connect import text
from backends.scripts import script

# How long an idle consumer rests on the server before it asks again.
_REST_S = 0.1
log = structlog.get_logger()


@dataclass(frozen=True)
class Claim:
    """What `claim.lua` is asked: `queues` names the queue of each place."""

    queues: list[str]
    keys: list[str]
    args: list[str]


@dataclass(frozen=True)
class Taken:
    """A message that `claim.lua` gave us; `recorded` if it is to be acknowledged."""

    queue: str
    message: dict[str, Any]
    recorded: bool

    @property
    def tag(self) -> str:
        """Its delivery tag."""
        return str(self.message["properties"]["delivery_tag"])


class QoS(stock.QoS):
    """What a channel holds unacknowledged, here and in Redis."""

    channel: "Channel"
    _delivered: "OrderedDict[str, Any]"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._restored_at = -float("inf")

    @override
    def append(self, message: Any, delivery_tag: str) -> None:
        """Hold a message; one that the script claimed is in Redis already."""
        if delivery_tag == self.channel.claimed:
            super(stock.QoS, self).append(message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    @override
    def ack(self, delivery_tag: str) -> None:
        """Acknowledge, unless the channel is closed: what it held was put back then, or comes after its timeout."""
        if self.channel.closed:
            log.warning("broker.late_ack", tag=delivery_tag)
        else:
            super().ack(delivery_tag)

    @override
    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give back or drop, unless the channel is closed: then it was given back with all that it held."""
        if not self.channel.closed:
            super().reject(delivery_tag, requeue=requeue)

    @override
    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:
        """Put back what anybody has held too long; looks every `unacked_restore_interval` at most."""
        now = monotonic()
        if now - self._restored_at < self.channel.unacked_restore_interval:
            return
        self._restored_at = now
        with self.channel.conn_or_acquire() as client:
            # The clock that claims are stamped with: those of two machines may differ.
            seconds, microseconds = client.time()
            until = seconds + microseconds / 1e6 - self.visibility_timeout
            tags = client.zrange(
                self.unacked_index_key, "-inf", until, byscore=True, offset=start if num else None, num=num
            )
            if not tags:
                return
            held = client.hmget(self.unacked_key, tags)
            # The oldest last, so that it is the next to be taken.
            found = list(zip(map(text, tags), held, strict=True))[::-1]
            count = sum(self._put_back(client, tag, value, until=until) for tag, value in found)
        log.warning("broker.restored", messages=count)

    @override
    def restore_unacked(self, client: Any | None = None) -> None:
        """Put back everything that this channel holds, in its old order."""
        with self.channel.conn_or_acquire(client) as lent:
            for tag in reversed(self._delivered):
                self.restore_by_tag(tag, client=lent)
        self._delivered.clear()

    @override
    def restore_unacked_once(self, stderr: Any | None = None) -> None:
        """Put back everything that this channel holds; what cannot be put back now comes after its timeout."""
        try:
            super().restore_unacked_once(stderr)
        except Exception as error:  # noqa: BLE001 - a worker must not end because its broker did first
            log.warning("broker.not_restored", messages=len(self._delivered), reason=type(error).__name__)
            self._delivered.clear()

    @override
    def restore_by_tag(self, tag: str, client: Any | None = None, leftmost: bool = False) -> None:
        """Put one message back; `leftmost` makes it the last to be taken."""
        with self.channel.conn_or_acquire(client) as lent:
            self._put_back(lent, tag, lent.hget(self.unacked_key, tag), leftmost=leftmost)

    def _put_back(
        self, client: Any, tag: str, held: bytes | None, *, until: float = float("inf"), leftmost: bool = False
    ) -> int:
        # One small script, where kombu watches the whole hash: that every claim and every ack changes.
        message, queues = self.channel.readdressed(held) if held else ("", [])
        return int(
            self.channel.restore_script(
                keys=[self.unacked_key, self.unacked_index_key, *queues],
                args=[tag, until, message, "LPUSH" if leftmost else "RPUSH"],
                client=client,
            )
        )


class Channel(stock.Channel):
    """Claims messages one by one, each by one script call."""

    QoS = QoS
    from_transport_options = (*stock.Channel.from_transport_options, "unreadable_key", "rest_key")

    unreadable_key = "unreadable"
    rest_key = "unacked_rest"
    unacked_restore_interval = 10.0

    connection: Any
    client: Any
    qos: Any
    closed: bool
    _qos: Any
    _in_poll: Any
    _queue_cycle: Any
    pool: Any
    _q_for_pri: Callable[[str, int], str]
    _lookup: Callable[..., Any]
    _get_message_priority: Callable[..., int]
    _flush_brpop_reauth: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The delivery tag of the message that is being handed over, if the script has recorded it.
        self.claimed: str | None = None
        self._unrecorded: set[str] = set()
        self._asked: Claim | None = None
        self._known, self._idle, self._rests = False, False, False
        self._lent: Any = None
        super().__init__(*args, **kwargs)

    @cached_property
    def claim_script(self) -> Script:
        """The script that takes a message."""
        return script(self.client, "claim")

    @cached_property
    def restore_script(self) -> Script:
        """The script that puts one back."""
        return script(self.client, "restore")

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - as kombu calls it
        """Return a client; kombu asks for one with every publication and every acknowledgement, and each takes long."""
        kombus: Any = super()
        make = kombus._create_client  # noqa: SLF001 - our own superclass, of which its stubs do not tell all
        if asynchronous:
            return make(asynchronous=True)  # its connection is its own
        lent, pool = self._lent, self.pool
        if lent is None or lent.connection_pool is not pool:
            lent = self._lent = make()
        return lent

    @override
    def basic_consume(self, queue: str, no_ack: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Begin to consume; with `no_ack` nothing is recorded as unacknowledged."""
        (self._unrecorded.add if no_ack else self._unrecorded.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    @override
    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return the next message of a queue, or None."""
        claim = self._claim([queue], unrecorded={queue} if no_ack else set())
        with self.conn_or_acquire() as client:
            answer = self.claim_script(keys=claim.keys, args=claim.args, client=client)
        taken = self._taken(claim, answer)
        if taken is None:
            return None
        message: Any = self.Message(taken.message, channel=self)
        if not no_ack:
            with self._handing_over(taken):
                self.qos.append(message, message.delivery_tag)
        return message

    @override
    def close(self) -> None:
        """Put back what is held and what is just arriving, while there is a connection; then close."""
        if not self.closed:
            self._take_back()
            if self._qos is not None:
                self._qos.restore_unacked_once()
        super().close()

    def readdressed(self, held: bytes) -> tuple[str, list[str]]:
        """Return a message as it is delivered again, and the keys that it goes to."""
        message, exchange, routing_key = loads(text(held))
        for place in (message.get("headers"), message["properties"].get("delivery_info")):
            if place is not None:
                place["redelivered"] = True
        return dumps(message), [self._key_of(queue, message) for queue in self._lookup(exchange, routing_key)]

    def _key_of(self, queue: str, message: dict[str, Any]) -> str:
        return self._q_for_pri(queue, self._get_message_priority(message, reverse=False))

    # -- claiming --------------------------------------------------------------------------------------------------

    def _claim(self, queues: list[str], *, unrecorded: set[str]) -> Claim:
        places = [(queue, self._q_for_pri(queue, step)) for step in self.priority_steps for queue in queues]
        return Claim(
            queues=[queue for queue, _ in places],
            keys=[self.unacked_key, self.unacked_index_key, self.unreadable_key, *(key for _, key in places)],
            args=["" if queue in unrecorded else queue for queue, _ in places],
        )

    def _taken(self, claim: Claim, answer: list[Any]) -> Taken | None:
        """Read what the script answered."""
        if not answer:
            return None
        place = answer[0] - 1
        queue = claim.queues[place]
        if len(answer) == 1:
            log.error("message.unreadable", queue=queue, kept=self.unreadable_key)
            return None
        return Taken(queue=queue, message=loads(text(answer[1])), recorded=bool(claim.args[place]))

    @contextlib.contextmanager
    def _handing_over(self, taken: Taken) -> Iterator[None]:
        """Let `QoS.append` know that the script has recorded this message."""
        self.claimed = taken.tag if taken.recorded else None
        try:
            yield
        finally:
            self.claimed = None

    def _brpop_start(self) -> None:
        """Ask for a message; the poller calls this when nothing is asked, and `_brpop_read` when there is an answer."""
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        # Here and not only when idle: a busy consumer must find what a killed one left behind, too.
        self.qos.restore_visible(num=self.unacked_restore_limit)
        claim = self._asked = self._claim(queues, unrecorded=self._unrecorded)
        run = ("EVALSHA", self.claim_script.sha) if self._known else ("EVAL", self.claim_script.script)
        commands: list[tuple[Any, ...]] = [(*run, len(claim.keys), *claim.keys, *claim.args)]
        # Nobody fills this list: the server turns to the claim when the rest is over, and the poller waits meanwhile.
        self._rests = self._idle
        if self._rests:
            commands.insert(0, ("BLPOP", self.rest_key, _REST_S))
        connection = self.client.connection
        self._in_poll, self._brpop_sent_at = connection, monotonic()
        connection.send_packed_command(connection.pack_commands(commands))

    def _brpop_read(self, **_: Any) -> bool:
        taken = self._answered()
        self._idle = taken is None
        if taken is None:
            raise Empty
        self._queue_cycle.rotate(taken.queue)
        with self._handing_over(taken):
            self.connection._deliver(taken.message, taken.queue)  # noqa: SLF001 - as kombu's own channels do
        return True

    def _answered(self) -> Taken | None:
        """Read the answer to what was asked; afterwards nothing is asked."""
        claim, connection = self._asked, self.client.connection
        try:
            if self._rests:
                self.client.parse_response(connection, "BLPOP")
            answer = self.client.parse_response(connection, "EVALSHA")
        except NoScriptError:
            self._known = False  # the server was restarted: the whole text goes with the next claim
            return None
        except BaseException:
            # An answer may still be under way, and would be taken for the answer to what is asked next.
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        self._known = True
        return self._taken(claim, answer) if claim else None

    def _take_back(self) -> None:
        """Put back the message of a claim that is under way, so that nobody waits for its timeout."""
        if not self._in_poll:
            return
        try:
            taken = self._answered()
            if taken and taken.recorded:
                self.qos.restore_by_tag(taken.tag)
            elif taken:
                with self.conn_or_acquire() as client:
                    client.rpush(self._key_of(taken.queue, taken.message), dumps(taken.message))
        except Exception as error:  # noqa: BLE001 - whatever it is, the channel is to be closed
            log.warning("broker.not_restored", messages=1, reason=type(error).__name__)


class Transport(stock.Transport):
    """Redis, without the moment in which a message is nowhere."""

    Channel = Channel
