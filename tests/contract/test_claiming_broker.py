"""The Redis transport in the house: a Celery worker on it, the groups of consumers, TLS."""

import contextlib
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backends.broker import Broker
from backends.embedded import EmbeddedValkey
from backends.keys import Keys
from schemas.batch import Lane
from schemas.errors import BackendUnavailable
from tests.command import wait_until
from tests.queues import TRANSPORT, OwnServer, Process, publish, start_worker

KEYS = Keys("house")
THREADS = 4


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    """A server for one test."""
    with EmbeddedValkey(tmp_path / "own") as valkey:
        server = OwnServer(valkey, tmp_path / "own")
        yield server
        server.close()


@dataclass(frozen=True)
class Tls:
    """Something that talks TLS before a server, as a hosted Redis does."""

    port: int
    certificate: Path


@pytest.fixture
def tls(own_server: OwnServer, tmp_path: Path) -> Iterator[Tls]:
    """It has a certificate that only those trust who are told to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = self_signed(tmp_path)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=accept, args=(listener, context, own_server.port), daemon=True).start()
        yield Tls(port=listener.getsockname()[1], certificate=certificate)
        listener.shutdown(socket.SHUT_RDWR)


def self_signed(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1, and its key beside it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "certificate.pem"


def accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Pass every connection on, until the listener is closed."""
    with contextlib.suppress(OSError):
        while True:
            plain, _ = listener.accept()
            Thread(target=pass_on, args=(plain, context, port), daemon=True).start()


def pass_on(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Pass both directions of one connection on."""
    with (
        contextlib.suppress(OSError),
        plain,
        context.wrap_socket(plain, server_side=True) as outer,
        socket.create_connection(("127.0.0.1", port)) as inner,
    ):
        back = Thread(target=copy, args=(inner, outer), daemon=True)
        back.start()
        copy(outer, inner)
        back.join(5)


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy what comes until it ends, and pass the end on."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class House:
    """A broker with a Celery worker of ours on it, in a process of its own."""

    broker: Broker
    worker: Process
    server: OwnServer

    def publish(self) -> str:
        """Publish one batch; return its id."""
        return publish(self.broker)

    @contextlib.contextmanager
    def busy(self) -> Iterator[list[str]]:
        """Give the worker more than it can do, and let none of it end meanwhile."""
        with self.worker.holding("bulk"):
            batches = [self.publish() for _ in range(20)]
            wait_until(lambda: self.held() >= THREADS, what="all threads are busy")
            yield batches

    def waiting(self) -> int:
        """Return how many batches are in the queue."""
        return self.broker.depths()[self.broker.queues[Lane.BULK].name]

    def held(self) -> int:
        """Return how many batches the worker holds."""
        with self.server.place.redis() as redis:
            return int(redis.hlen(KEYS.unacked("jobs")))


@pytest.fixture
def house(own_server: OwnServer, tmp_path: Path) -> Iterator[House]:
    """Start the worker, and wait until it has taken a first batch."""
    broker = Broker(own_server.place.url, KEYS)
    worker = start_worker(own_server.place.url, KEYS.namespace, tmp_path, held=THREADS)
    made = House(broker=broker, worker=worker, server=own_server)
    try:
        first = made.publish()
        wait_until(lambda: first in made.worker.done, what="the worker works")
        yield made
    finally:
        made.worker.kill()
        broker.close()


def test_an_idle_worker_is_given_a_batch_soon_and_acknowledges_it(house: House) -> None:
    """Celery's loop waits in its own way, which is not that of a plain consumer."""
    delays = []
    for _ in range(5):
        wait_until(lambda: not house.held(), what="it is idle")
        sent_at, batch = time.monotonic(), house.publish()
        wait_until(lambda batch=batch: batch in house.worker.done, what="the batch")  # type: ignore[misc]
        delays.append(time.monotonic() - sent_at)
    assert 0.5 > max(delays)
    wait_until(lambda: not house.held(), what="all is acknowledged")


@pytest.mark.timeout(300)
def test_a_worker_goes_on_after_its_server_was_killed(house: House) -> None:
    """Nobody is awake at night to start it again."""
    for _ in range(2):
        house.server.kill()
        house.server.start()
        batch = wait_until(partial(published, house), what="the broker takes a batch")
        # A connection that died half-way is noticed by its watchdog, after less than a minute.
        wait_until(partial(house.worker.has_done, batch), what="the batch is done", seconds=110)
    assert house.worker.process.poll() is None


def published(house: House) -> str | None:
    """Publish a batch, unless the broker is away."""
    with contextlib.suppress(BackendUnavailable):
        return house.publish()
    return None


def test_a_worker_that_is_stopped_finishes_what_runs_and_puts_the_rest_back(house: House) -> None:
    """Others go on with it at once, not after the timeout."""
    with house.busy() as batches:
        pass
    house.worker.process.send_signal(signal.SIGTERM)
    assert 0 == house.worker.process.wait(30)
    assert 0 == house.held()
    assert len(batches) == house.waiting() + len(set(batches) & set(house.worker.done))


def test_a_worker_that_is_killed_leaves_what_it_held(house: House) -> None:
    """What is in `unacked` comes again; what was only in the memory of a process would not."""
    with house.busy() as batches:
        house.worker.kill()
        assert [] == [batch for batch in batches if batch in house.worker.done]
        assert len(batches) == house.waiting() + house.held()


# -- the broker's own connections --------------------------------------------------------------------------------------


def test_two_groups_and_two_namespaces_do_not_meet(own_server: OwnServer) -> None:
    """The shortest timeout of all that share a record wins, and a stranger's messages would go to no queue of ours."""
    brokers = [Broker(own_server.place.url, Keys(name)) for name in ("one", "other")]
    names: list[str] = []
    timeouts: list[float] = []
    for broker in brokers:
        with broker.app.connection_for_read() as jobs, broker.connect() as results:
            for connection in (jobs, results):
                channel: Any = connection.default_channel
                names += [channel.unacked_key, channel.unacked_index_key]
                timeouts.append(channel.visibility_timeout)
                assert [TRANSPORT.partition(":")[0]] == [type(channel).__module__]
        broker.close()
    assert 8 == len(set(names))
    assert [600, 60] * 2 == timeouts


def test_over_tls_the_certificate_of_the_server_is_checked(own_server: OwnServer, tls: Tls) -> None:
    """By the scheme alone kombu would talk to anybody who took the server's place, and in the clear if left to it."""
    url = own_server.place.url.replace("redis://", "rediss://")
    url = url.replace(f":{own_server.port}/", f":{tls.port}/")
    trusting = Broker(f"{url}?ssl_ca_certs={tls.certificate}", KEYS)
    with contextlib.closing(trusting):
        assert {0} == set(trusting.depths().values())
    # Kombu pools connections by URL and options, whatever they trust: so another namespace.
    with contextlib.closing(Broker(url, Keys("wary"))) as wary:
        for verb in (wary.declare, wary.depths):
            with pytest.raises(BackendUnavailable, match="CERTIFICATE_VERIFY"):
                verb()
