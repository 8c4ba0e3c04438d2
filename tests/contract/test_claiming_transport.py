"""The Redis transport: at every moment a message is in its queue, in `unacked`, or done.

It replaces private methods of kombu: these tests decide whether another version of kombu may come in.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue

from backends.embedded import EmbeddedValkey
from schemas.ids import new_id
from tests.command import wait_until
from tests.queues import TRANSPORT, OwnServer, Place, Process

ROOT = Path(__file__).parents[2]
KILLS = 15
RESTARTS = 3

CONSUMER = """
import os, sys, threading
from kombu import Connection, Consumer, Exchange, Queue
from backends.broker import Failures
url, transport, name, done, visibility_timeout = sys.argv[1:]
ledger = os.open(done, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def take(message):
    os.write(ledger, f"{message.headers['id']}\\n".encode())
    message.ack()

def consume():
    options = {
        "priority_steps": [0], "visibility_timeout": float(visibility_timeout), "unacked_restore_interval": 0.5,
        "unacked_key": f"{name}:unacked", "unacked_index_key": f"{name}:index", "rest_key": f"{name}:rest",
        "unreadable_key": f"{name}:unreadable", "socket_timeout": 5,
    }
    with Connection(url, transport=transport, transport_options=options) as connection:
        channel = connection.channel()
        queue = Queue(name, Exchange(""), routing_key=name)
        with Consumer(channel, queues=[queue(channel)], on_message=take, prefetch_count=8):
            while True:
                try:
                    connection.drain_events(timeout=1)
                except TimeoutError:
                    pass

while True:
    try:
        consume()
    except Failures:
        threading.Event().wait(0.1)
"""


@pytest.fixture
def place(valkey: EmbeddedValkey) -> Iterator[Place]:
    """A queue on the session's server."""
    made = Place(url=valkey.url, name=f"t{new_id()}")
    yield made
    with made.redis() as redis:
        for key in list(redis.scan_iter(match=f"{made.name}*", count=1000)):
            redis.delete(key)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    """A server for one test."""
    with EmbeddedValkey(tmp_path / "own") as valkey:
        server = OwnServer(valkey, tmp_path / "own")
        yield server
        server.close()


@contextlib.contextmanager
def consumers(place: Place, folder: Path, *, visibility_timeout_s: float = 600) -> Iterator[Callable[[], Process]]:
    """Give a way to start consumers; at the end none of them lives."""
    started: list[Process] = []
    script = folder / "consumer.py"
    script.write_text(CONSUMER)

    def start() -> Process:
        ledger = folder / f"done-{len(started)}"
        process = subprocess.Popen(
            [sys.executable, script, place.url, TRANSPORT, place.name, ledger, str(visibility_timeout_s)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(Process(process=process, ledger=ledger))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.kill()


class Taker:
    """A consumer of one connection that notes what it is given."""

    def __init__(self, connection: Connection, *queues: Queue, ack: bool = True, no_ack: bool = False) -> None:
        self.connection, self._ack = connection, ack and not no_ack
        self.channel: Any = connection.channel()
        self.messages: list[Any] = []
        self.consumer: Any = Consumer(
            self.channel, queues=[queue(self.channel) for queue in queues], on_message=self._take, no_ack=no_ack
        )
        self.consumer.consume()

    @property
    def ids(self) -> list[int]:
        """What it was given."""
        return [message.headers["id"] for message in self.messages]

    def _take(self, message: Any) -> None:
        self.messages.append(message)
        if self._ack:
            message.ack()

    def take(self, count: int, *, within_s: float = 10) -> list[int]:
        """Wait until it has been given as many in all."""
        until = time.monotonic() + within_s
        while len(self.messages) < count:
            self.connection.drain_events(timeout=max(until - time.monotonic(), 0.001))
        return self.ids

    def idle(self, seconds: float) -> None:
        """Wait and be given nothing."""
        with pytest.raises(TimeoutError):
            self.connection.drain_events(timeout=seconds)


# -- nothing is lost ---------------------------------------------------------------------------------------------------


def test_a_message_is_in_its_queue_or_in_unacked_at_every_moment(place: Place) -> None:
    """A pop and a record that are two steps lose what is between them when anybody dies."""
    count, stop, sums = 1500, Event(), set()
    place.publish(count)

    def watch() -> None:
        with place.redis() as redis:
            while not stop.is_set():
                sums.add(sum(redis.pipeline().llen(place.name).hlen(place.unacked).zcard(place.index).execute()[:2]))

    watcher = Thread(target=watch)
    watcher.start()
    with place.connect() as connection:
        Taker(connection, place.queue(), ack=False).take(count, within_s=60)
        stop.set()
        watcher.join()
    assert {count} == sums


def test_nothing_is_lost_when_consumers_are_killed(place: Place, tmp_path: Path) -> None:
    """A machine that runs out of memory kills workers at any instruction (rule 1)."""
    published, random = place.publish(6000), Random(1)
    killed: list[Process] = []
    with consumers(place, tmp_path) as start:
        following = start()
        for _ in range(KILLS):
            # The next one starts before this one ends, so that they always meet.
            current, following = following, start()
            wait_until(partial(current.has_done_many, random.randint(5, 100)), what="a consumer works")
            current.kill()
            killed.append(current)
        following.kill()
        killed.append(following)
    done = [int(number) for one in killed for number in one.done]
    waiting, held = place.seen()
    assert waiting, "all was done before the last kill: publish more"
    assert [] == sorted(set(published) - {*done, *waiting, *held})
    assert len(killed) >= len(done) - len(set(done))


def test_nothing_is_lost_when_the_server_is_killed_and_consumers_go_on_by_themselves(
    own_server: OwnServer, tmp_path: Path
) -> None:
    """What it had answered before it died is in its log; a claim of which nobody heard comes after its timeout."""
    place = own_server.place
    published = place.publish(4000)
    with consumers(place, tmp_path, visibility_timeout_s=2) as start:
        one, other = start(), start()
        for number in range(1, RESTARTS + 1):
            for worker in (one, other):
                wait_until(partial(worker.has_done_many, 200 * number), what="both work")
            own_server.kill()
            own_server.start()
            # Done is noted before it is acknowledged: what is in neither place now has been noted.
            waiting, held = place.seen()
            assert [] == sorted(set(published) - {*waiting, *held, *map(int, one.done), *map(int, other.done)})
        wait_until(lambda: {*one.done, *other.done} == set(map(str, published)), what="all is done")
        wait_until(lambda: place.seen() == ([], []), what="all is acknowledged")


def test_a_full_server_can_be_drained(own_server: OwnServer) -> None:
    """It refuses what needs memory: if that came after the pop the message were lost, if before, it stayed full."""
    place = own_server.place
    place.publish(3)
    with place.connect() as connection, place.redis() as redis:
        taker = Taker(connection, place.queue(), ack=False)
        redis.config_set("maxmemory", 1)
        assert [0, 1, 2] == taker.take(3)
        assert ([], [0, 1, 2]) == place.seen()
        taker.messages[0].ack()
        taker.messages[1].requeue()
        assert ([1], [2]) == place.seen()


# -- what is held ------------------------------------------------------------------------------------------------------


def test_a_message_is_held_until_it_is_acknowledged(place: Place) -> None:
    """What is not acknowledged must be found again by others, and what is must not."""
    place.publish(3)
    with place.connect() as connection:
        taker = Taker(connection, place.queue(), ack=False)
        taker.take(3)
        assert ([], [0, 1, 2]) == place.seen()
        taker.messages[1].ack()
        assert ([], [0, 2]) == place.seen()
        taker.messages[0].reject()
        assert ([], [2]) == place.seen()


def test_a_message_that_needs_no_acknowledgement_is_not_held(place: Place) -> None:
    """It would come again after its timeout, for ever."""
    place.publish(3)
    with place.connect() as connection:
        assert [0, 1, 2] == Taker(connection, place.queue(), no_ack=True).take(3)
        assert ([], []) == place.seen()


@pytest.mark.parametrize("no_ack", [False, True])
def test_a_message_that_is_fetched_is_held_too(place: Place, no_ack: bool) -> None:
    """`get` takes one without waiting: the same promise, by another way."""
    place.publish(1)
    with place.connect() as connection:
        queue: Any = place.queue()(connection.default_channel)
        message = queue.get(no_ack=no_ack)
        assert 0 == message.headers["id"]
        assert ([], [] if no_ack else [0]) == place.seen()
        assert queue.get() is None
        if not no_ack:
            message.ack()
        assert ([], []) == place.seen()


def test_a_message_that_is_held_too_long_comes_again(place: Place) -> None:
    """Its holder is taken for dead; the mark tells the next one that somebody may have worked on it."""
    place.publish(1)
    with place.connect() as dead, place.connect(visibility_timeout=0.5, unacked_restore_interval=0.1) as alive:
        Taker(dead, place.queue(), ack=False).take(1)
        taken_at, heir = time.monotonic(), Taker(alive, place.queue())
        assert [0] == heir.take(1)
        assert 0.4 < time.monotonic() - taken_at < 3
        assert heir.messages[0].headers["redelivered"]
        assert heir.messages[0].delivery_info["redelivered"]
        assert ([], []) == place.seen()


def test_a_busy_consumer_finds_what_was_held_too_long(place: Place) -> None:
    """With a queue that is never empty, an orphan would otherwise wait for the end of the night."""
    place.publish(1)
    with place.connect() as dead, place.connect(visibility_timeout=0.3, unacked_restore_interval=0.1) as alive:
        Taker(dead, place.queue(), ack=False).take(1)
        place.publish(8000, first=1)
        heir = Taker(alive, place.queue())
        while 0 not in heir.ids[-1:]:
            heir.take(len(heir.ids) + 1)
        assert place.seen()[0]


def test_a_message_comes_again_once_however_many_look_for_it(place: Place) -> None:
    """Two that find the same orphan must not make two of it."""
    place.publish(20)
    with contextlib.ExitStack() as stack:
        Taker(stack.enter_context(place.connect()), place.queue(), ack=False).take(20)
        options = {"visibility_timeout": 1, "unacked_restore_interval": 0.05}
        heirs = [Taker(stack.enter_context(place.connect(**options)), place.queue()) for _ in range(4)]

        def drain(heir: Taker) -> None:
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    heir.connection.drain_events(timeout=0.1)

        threads = [Thread(target=drain, args=(heir,)) for heir in heirs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(range(20)) == sorted(number for heir in heirs for number in heir.ids)


def test_what_is_no_message_is_kept_whole_and_the_rest_goes_on(place: Place) -> None:
    """Somebody's mistake in a queue must neither end the consumers nor vanish."""
    wrong = [b"not JSON", b"[]", b'{"properties": null}', b'{"properties": {"delivery_tag": null}}']
    with place.redis() as redis, place.connect() as connection:
        redis.lpush(place.name, *wrong)
        place.publish(1)
        assert [0] == Taker(connection, place.queue()).take(1)
        assert wrong[::-1] == redis.lrange(f"{place.name}:unreadable", 0, -1)
        assert ([], []) == place.seen()


# -- the end of a channel ----------------------------------------------------------------------------------------------


def test_what_is_held_at_the_end_goes_back_in_its_order(place: Place) -> None:
    """A worker that is stopped hands over at once; its messages were the oldest and stay so."""
    place.publish(5)
    with place.connect() as connection:
        taker = Taker(connection, place.queue(), ack=False)
        taker.take(3)
        taker.messages[1].ack()
    assert ([0, 2, 3, 4], []) == place.seen()


@pytest.mark.parametrize("no_ack", [False, True])
def test_what_is_just_arriving_at_the_end_goes_back(place: Place, no_ack: bool) -> None:
    """An idle consumer has always asked for a message already; it must not take one with it."""
    with place.connect() as connection:
        taker = Taker(connection, place.queue(), no_ack=no_ack)
        taker.idle(0.05)
        place.publish(2)
        wait_until(lambda: len(place.seen()[0]) == 1, what="the claim is answered", seconds=2)
    assert [] == taker.ids
    assert ([0, 1], []) == place.seen()


@pytest.mark.parametrize("verb", ["ack", "reject", "requeue"])
def test_what_ends_after_its_channel_was_closed_changes_nothing(place: Place, verb: str) -> None:
    """A batch may outlast the connection that it came over: it has gone back then, and the worker must not end."""
    place.publish(1)
    with place.connect() as connection:
        channel: Any = connection.channel()
        message: Any = channel.basic_get(place.name)
        channel.close()
        assert ([0], []) == place.seen()
        getattr(message, verb)()
    assert ([0], []) == place.seen()


def test_a_server_that_is_away_at_the_end_raises_nothing(own_server: OwnServer) -> None:
    """The end of a worker must not fail because its broker ended first; what it held comes after the timeout."""
    own_server.place.publish(3)
    connection = own_server.place.connect()
    taker = Taker(connection, own_server.place.queue(), ack=False)
    taker.take(1)
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=0.01)
    own_server.kill()
    taker.channel.close()
    connection.close()
    own_server.start()
    waiting, held = own_server.place.seen()
    assert [0, 1, 2] == sorted([*waiting, *held])


# -- order and pace ----------------------------------------------------------------------------------------------------


def test_messages_come_in_the_order_in_which_they_were_sent(place: Place) -> None:
    """The oldest first, or some would wait all night."""
    ids = place.publish(200)
    with place.connect() as connection:
        assert ids == Taker(connection, place.queue()).take(200)


def test_two_queues_take_turns(place: Place) -> None:
    """A person's lane must not wait behind a night's bulk, nor the bulk behind it."""
    place.publish(100, suffix=".a")
    place.publish(100, first=1000, suffix=".b")
    with place.connect() as connection:
        taken = Taker(connection, place.queue(".a"), place.queue(".b")).take(40)
    assert [20, 20] == [sum(number < 1000 for number in taken), sum(number >= 1000 for number in taken)]
    assert [list(range(20)), list(range(1000, 1020))] == [sorted(taken)[:20], sorted(taken)[20:]]


def test_no_more_is_handed_over_than_was_asked_for(place: Place) -> None:
    """A worker that takes more than it can do keeps it from others."""
    place.publish(3)
    with place.connect() as connection:
        taker = Taker(connection, place.queue(), ack=False)
        taker.consumer.qos(prefetch_count=1)
        taker.take(1)
        taker.idle(0.3)
        taker.messages[0].ack()
        assert [0, 1] == taker.take(2)


def test_an_idle_consumer_is_given_a_message_soon(place: Place) -> None:
    """A person may be waiting."""
    with place.connect() as connection:
        taker, delays = Taker(connection, place.queue()), []
        for number in range(5):
            taker.idle(0.25)
            place.publish(1, first=number)
            sent_at = time.monotonic()
            taker.take(number + 1)
            delays.append(time.monotonic() - sent_at)
    assert 0.5 > max(delays)


def test_an_idle_consumer_asks_ten_times_a_second(place: Place) -> None:
    """A hundred idle workers must not keep the server busy, nor a core each."""
    with place.connect() as connection, place.redis() as redis:
        taker = Taker(connection, place.queue())
        taker.idle(0.3)
        began, cpu = redis.info("commandstats")["cmdstat_evalsha"]["calls"], time.process_time()
        taker.idle(1)
        assert 5 <= redis.info("commandstats")["cmdstat_evalsha"]["calls"] - began <= 13
        assert 0.3 > time.process_time() - cpu


def test_a_server_that_forgot_the_script_is_told_it_again(place: Place) -> None:
    """It forgets when it is restarted, and when it has too many."""
    with place.connect() as connection, place.redis() as redis:
        taker = Taker(connection, place.queue())
        for number in range(3):
            place.publish(1, first=number)
            taker.take(number + 1)
            redis.script_flush()
        assert [0, 1, 2] == taker.ids
