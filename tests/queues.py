"""What tests of the Redis transport build on: a queue to look into, a server and consumers that may be killed."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kombu import Connection, Exchange, Producer, Queue
from redis import Redis
from redis.exceptions import RedisError

from backends.broker import Broker
from backends.embedded import EmbeddedValkey, find_server
from schemas.batch import Basis, Batch, Job, Lane
from schemas.ids import new_id
from tests.command import wait_until
from tests.fixtures_valkey import NOON

ROOT = Path(__file__).parents[1]
TRANSPORT = "backends.claiming:Transport"
# A worker as ours, whose task only notes the batch.
WORKER = """
import os, sys, threading
from backends.broker import TASK, Broker
from backends.keys import Keys
from workers.app import configure, worker_of
url, namespace, done, threads = sys.argv[1:]
ledger = os.open(done, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
broker = Broker(url, Keys(namespace))
app = configure(broker)

@app.task(name=TASK)
def attempt(batch):
    while os.path.exists(f"{done}.hold-{batch['lane']}"):
        threading.Event().wait(0.02)
    os.write(ledger, f"{batch['id']}\\n".encode())

worker = worker_of(app, broker, held=int(threads), loglevel="INFO")
worker.start()
sys.exit(worker.exitcode or 0)
"""


@dataclass(frozen=True)
class Place:
    """A queue of the test's own on a server, and what the transport keeps beside it."""

    url: str
    name: str

    @property
    def unacked(self) -> str:
        """Where messages are that somebody holds."""
        return f"{self.name}:unacked"

    @property
    def index(self) -> str:
        """Since when they are held."""
        return f"{self.name}:index"

    def queue(self, suffix: str = "") -> Queue:
        """Return the queue."""
        return Queue(self.name + suffix, Exchange(""), routing_key=self.name + suffix)

    def connect(self, **options: Any) -> Connection:
        """Open a connection with our transport."""
        known = {
            "priority_steps": [0],
            "unacked_key": self.unacked,
            "unacked_index_key": self.index,
            "unreadable_key": f"{self.name}:unreadable",
            "rest_key": f"{self.name}:rest",
        }
        return Connection(self.url, transport=TRANSPORT, transport_options=known | options)

    @contextlib.contextmanager
    def redis(self) -> Iterator[Any]:
        """Look at the server itself."""
        client: Any = Redis.from_url(self.url)
        with contextlib.closing(client):
            yield client

    def publish(self, count: int, *, first: int = 0, suffix: str = "") -> list[int]:
        """Put messages with ids of their own into the queue; they are there when this returns."""
        ids = list(range(first, first + count))
        with self.connect() as connection:
            producer: Any = Producer(connection.default_channel, auto_declare=False)
            with producer.batch(max_size=100):
                for number in ids:
                    producer.publish({}, exchange="", routing_key=self.name + suffix, headers={"id": number})
        return ids

    def seen(self) -> tuple[list[int], list[int]]:
        """Return the ids in the queue, the next to be taken first, and those that somebody holds, at one moment."""
        with self.redis() as redis:
            pipe = redis.pipeline().lrange(self.name, 0, -1).hgetall(self.unacked).zrange(self.index, 0, -1)
            waiting, records, tags = pipe.execute()
        assert sorted(records) == sorted(tags)
        held = [json.loads(record)[0]["headers"]["id"] for record in records.values()]
        return [json.loads(raw)["headers"]["id"] for raw in reversed(waiting)], sorted(held)


class OwnServer:
    """A server that may be killed, and comes back on its port with what it had written."""

    def __init__(self, valkey: EmbeddedValkey, folder: Path) -> None:
        self._valkey, self._folder = valkey, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.place = Place(url=valkey.url, name=f"t{new_id()}")

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return self._valkey.port

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        process = self._process or self._valkey._process
        assert process is not None
        process.kill()
        process.wait()

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        with (self._folder / "again.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_server(), self._folder / "server.conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._answers, what="the server is back")

    def _answers(self) -> bool:
        with self.place.redis() as redis, contextlib.suppress(RedisError):
            return bool(redis.ping())
        return False

    def close(self) -> None:
        """End what was started here."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Process:
    """A consumer in a process of its own, and the file where it notes what it has done."""

    process: "subprocess.Popen[bytes]"
    ledger: Path

    @property
    def done(self) -> list[str]:
        """What it has noted, in its order."""
        return self.ledger.read_text(encoding="utf-8").split() if self.ledger.exists() else []

    def has_done(self, what: str) -> bool:
        """Tell whether it has noted this."""
        return what in self.done

    def has_done_many(self, count: int) -> bool:
        """Tell whether it has noted that many."""
        return len(self.done) >= count

    @contextlib.contextmanager
    def holding(self, lane: str) -> Iterator[None]:
        """Let no batch of a lane end meanwhile."""
        hold = Path(f"{self.ledger}.hold-{lane}")
        hold.touch()
        yield
        hold.unlink()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()


def start_worker(url: str, namespace: str, folder: Path, *, held: int) -> Process:
    """Start a Celery worker of ours that holds at most so many batches of each lane."""
    script, ledger = folder / "worker.py", folder / "batches"
    script.write_text(WORKER)
    with (folder / "worker.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, script, url, namespace, ledger, str(held)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )
    return Process(process=process, ledger=ledger)


def publish(broker: Broker, lane: Lane = Lane.BULK) -> str:
    """Publish one batch; return its id."""
    batch = Batch(
        id=new_id(), run=new_id(), platform="alpha", lane=lane, deadline=NOON, sealed="c2VhbGVk" * 4,
        jobs=(Job(case=new_id(), cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE),),
    )  # fmt: skip
    broker.publish_batches([batch])
    return batch.id
