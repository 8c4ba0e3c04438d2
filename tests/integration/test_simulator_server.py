import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from platforms.catalogue import Catalogue
from platforms.model import Platform
from schemas.errors import BackendUnavailable
from schemas.outcome import Outcome
from simulator.scenario import Fault, Scenario
from simulator.server import listen, serve
from tests.simulated import CALM, SEED, always, bulk, item, number, numbers_where, platform

SINGLE = platform()
BULK = platform("many", protocol="bulk-json", limits={"items_per_call": 1000})
PATIENCE_S = 20.0
ROOT = Path(__file__).parents[2]


class Client:
    """One keep-alive connection to the simulator."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, entry: Platform, body: dict[str, Any], **headers: str) -> None:
        """Write a call, and do not wait for its answer."""
        content = orjson.dumps(body)
        lines = {"Host": "here", "Content-Type": "application/json", "Idempotency-Key": body.get("id") or body["batch"]}
        lines |= {"Content-Length": str(len(content))} | headers
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"POST /{entry.key}/v1/renewals HTTP/1.1\r\n{head}\r\n".encode() + content)

    def ask(self, path: str) -> None:
        """Write a request for a page."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())

    async def hear(self) -> tuple[int, bytes]:
        """Return the status and the body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        if b"transfer-encoding: chunked" not in head:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return status, await self.reader.readexactly(length)
        body = b""
        while chunk := int(await self.reader.readline(), 16):
            body += (await self.reader.readexactly(chunk + 2))[:-2]
        await self.reader.readline()
        return status, body

    async def call(self, entry: Platform, body: dict[str, Any]) -> tuple[int, Any]:
        """Make one call and return status and parsed body."""
        self.send(entry, body)
        status, answer = await self.hear()
        return status, orjson.loads(answer)

    async def stats(self) -> dict[str, Any]:
        """Return what the simulator counted."""
        self.ask("/_stats")
        counted: dict[str, Any] = orjson.loads((await self.hear())[1])
        return counted


class Served:
    """A simulator that serves in this test's event loop."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.stop = asyncio.Event()
        self.clients: list[Client] = []

    async def client(self) -> Client:
        """Connect once more."""
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]


@asynccontextmanager
async def served(*entries: Platform, scenario: Scenario = CALM, ledger: Path | None = None) -> AsyncIterator[Served]:
    """Serve while the body runs."""
    sock = listen("127.0.0.1", 0)
    served = Served(sock.getsockname()[1])
    ready = asyncio.Event()
    task = asyncio.create_task(
        serve(
            Catalogue(list(entries), folder=Path()),
            lambda _: "",
            seed=SEED,
            scenario=scenario,
            sock=sock,
            ledger_path=ledger,
            stop=served.stop,
            ready=ready.set,
        )
    )
    await ready.wait()
    try:
        yield served
    finally:
        served.stop.set()
        await task
        for client in served.clients:
            client.writer.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on the loop that the simulator runs on, with an end."""
    uvloop.run(asyncio.wait_for(test, PATIENCE_S))


def test_calls_follow_each_other_on_one_connection() -> None:
    """Keep-alive: the answer to each call comes on the connection that asked, whatever the platform."""

    async def test() -> None:
        async with served(SINGLE, BULK) as sim:
            client = await sim.client()
            for index in range(50):
                sent = item(SINGLE, number(index))
                assert (await client.call(SINGLE, sent))[0] == 200
                items = [item(BULK, number(index)), item(BULK, number(index + 1))]
                status, answer = await client.call(BULK, bulk(items))
                assert (200, [each["id"] for each in items]) == (status, [each["id"] for each in answer["results"]])
            assert (await client.stats())["requests"] == 100

    run(test())


def test_a_call_may_come_in_pieces() -> None:
    """TCP cuts where it likes: byte by byte is the same call."""

    async def test() -> None:
        async with served(SINGLE) as sim:
            client = await sim.client()
            whole: list[bytes] = []
            writer = client.writer
            client.writer = type("Tape", (), {"write": lambda _, data: whole.append(data)})()
            client.send(SINGLE, item(SINGLE, number(1)))
            client.writer = writer
            for byte in whole[0]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.hear())[0] == 200

    run(test())


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOST_ANSWER])
def test_a_reset_is_a_real_one(fault: Fault) -> None:
    """The client sees RST, not an orderly end; only the lost answer stands for an effect."""

    async def test() -> None:
        async with served(SINGLE, scenario=always(fault)) as sim:
            client = await sim.client()
            client.send(SINGLE, item(SINGLE, numbers_where(SINGLE, lambda o: o is Outcome.UNBOUND)[0]))
            with pytest.raises(ConnectionResetError):
                await client.hear()
            counted = await (await sim.client()).stats()
            assert (1 if fault is Fault.LOST_ANSWER else 0) == counted["effects"]
            assert ({fault: 1}, 0) == (counted["faults"], counted["in_flight"])

    run(test())


def test_a_drip_comes_byte_by_byte_and_ends_with_its_client() -> None:
    """The call is open as long as somebody waits, and not longer; other connections go on."""

    async def test() -> None:
        async with served(SINGLE, scenario=always(Fault.SLOW_DRIP)) as sim:
            client, other = await sim.client(), await sim.client()
            client.send(SINGLE, item(SINGLE, number(1)))
            assert await client.reader.read(100) == b"H"
            assert await client.reader.read(100) == b"T"
            assert (await other.stats())["in_flight"] == 1
            client.writer.close()
            while (await other.stats())["in_flight"]:
                pass

    run(test())


def test_the_most_calls_in_flight_are_seen() -> None:
    """Twelve calls that wait beside each other are counted as twelve."""

    async def test() -> None:
        async with served(SINGLE, scenario=Scenario(name="slow", latency_ratio=4.0)) as sim:
            clients = [await sim.client() for _ in range(12)]
            for index, client in enumerate(clients):
                client.send(SINGLE, item(SINGLE, number(index)))
            assert {200} == {(await client.hear())[0] for client in clients}
            counted = (await clients[0].stats())["platforms"]["acme"]
            assert (12, 12, 0) == (counted["in_flight_max"], counted["requests_per_s_max"], counted["in_flight"])

    run(test())


def test_a_stop_sends_what_is_planned_and_closes_the_ledger(tmp_path: Path) -> None:
    """No call that had its effect loses its answer because the simulator was asked to end."""

    async def test() -> None:
        ledger = tmp_path / "ledger"
        async with served(SINGLE, scenario=Scenario(name="hours", latency_ratio=1e6), ledger=ledger) as sim:
            client = await sim.client()
            client.send(SINGLE, item(SINGLE, number(1)))
            other = await sim.client()
            while not (await other.stats())["in_flight"]:
                pass
            sim.stop.set()
            assert (await client.hear())[0] == 200
            assert await client.reader.read() == b""
        assert len(ledger.read_bytes().splitlines()) == 2

    run(test())


def test_the_ledger_streams_to_a_slow_reader_while_others_are_served() -> None:
    """A client that does not read holds up nobody, and gets every row in the end."""

    async def test() -> None:
        async with served(SINGLE, BULK) as sim:
            client, slow = await sim.client(), await sim.client()
            for batch in range(30):
                items = [item(BULK, number(1000 * batch + index)) for index in range(1000)]
                assert (await client.call(BULK, bulk(items)))[0] == 200
            slow.ask("/_ledger?platform=many")
            for index in range(100):
                assert (await client.call(SINGLE, item(SINGLE, number(index))))[0] == 200
            status, body = await slow.hear()
            jobs = [orjson.loads(line) for line in body.splitlines()]
            assert (200, 30_000) == (status, len({job["id"] for job in jobs}))
            assert {(1, "many")} == {(job["answers"], job["platform"]) for job in jobs}

    run(test())


def test_health_and_unknown_pages() -> None:
    """`/_health` says that it is up, and for whom; any other page says which there are."""

    async def test() -> None:
        async with served(SINGLE, BULK) as sim:
            client = await sim.client()
            client.ask("/_health")
            status, body = await client.hear()
            said = orjson.loads(body)
            assert (200, "ok", 2, SEED) == (status, said["status"], said["platforms"], said["seed"])
            for path in ("/", "/acme2", "/_other"):
                client.ask(path)
                assert (await client.hear())[0] == 404

    run(test())


def test_what_is_not_http_is_answered_once_and_closed() -> None:
    """Noise on the port costs one connection."""

    async def test() -> None:
        async with served(SINGLE) as sim:
            client = await sim.client()
            client.writer.write(b"hello\r\n\r\n")
            assert (await client.hear())[0] == 400
            assert await client.reader.read() == b""
            assert (await (await sim.client()).call(SINGLE, item(SINGLE, number(1))))[0] == 200

    run(test())


def test_a_client_that_asks_before_it_sends_is_told_to_go_on() -> None:
    """For one, curl asks with `Expect: 100-continue` before a large body."""

    async def test() -> None:
        async with served(SINGLE) as sim:
            client = await sim.client()
            client.send(SINGLE, item(SINGLE, number(1)), Expect="100-continue")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await client.hear())[0] == 200

    run(test())


def test_a_body_without_end_is_not_kept() -> None:
    """More than a mebibyte is 413, and only that much is held."""

    async def test() -> None:
        async with served(SINGLE) as sim:
            client = await sim.client()
            client.send(SINGLE, item(SINGLE, number(1)) | {"name": "x" * 3_000_000})
            assert (await client.hear())[0] == 413
            assert (await client.call(SINGLE, item(SINGLE, number(1))))[0] == 200

    run(test())


def test_a_taken_port_is_named() -> None:
    """One message says which address cannot be had."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BackendUnavailable, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            listen("127.0.0.1", port)


PROCESS = """
import os, socket, sys
from pathlib import Path
from platforms.catalogue import Catalogue
from simulator import server
from simulator.server import run_simulator
from tests.simulated import CALM, SEED, platform
server.FLUSH_INTERVAL_S = 3600.0  # so that only what is written before an answer can be in the file after a kill
sock = socket.socket(fileno=int(sys.argv[1]))
run_simulator(
    Catalogue([platform()], folder=Path()), lambda _: "", seed=SEED, scenario=CALM, sock=sock,
    ledger_path=Path(sys.argv[2]), ready=lambda: print("ready", flush=True),
)
print("ended")
"""


class Process:
    """A simulator in a process of its own, as the supervisor runs it."""

    def __init__(self, ledger: Path) -> None:
        sock = listen("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        with sock:
            self.child = subprocess.Popen(
                [sys.executable, "-c", PROCESS, str(sock.fileno()), str(ledger)],
                pass_fds=[sock.fileno()],
                stdout=subprocess.PIPE,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == b"ready\n"

    def unbind(self) -> dict[str, Any]:
        """Make the call that has an effect, and return its answer."""
        answers: list[dict[str, Any]] = []

        async def test() -> None:
            client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
            sent = item(SINGLE, numbers_where(SINGLE, lambda o: o is Outcome.UNBOUND)[0])
            answers.append((await client.call(SINGLE, sent))[1])
            answers.append(await client.stats())
            client.writer.close()
            await client.writer.wait_closed()

        run(test())
        assert answers[1]["effects"] == 1
        return answers[0]

    def end(self, signum: signal.Signals) -> tuple[int, bytes]:
        """Signal the child; return its exit code and its last words."""
        self.child.send_signal(signum)
        words, _ = self.child.communicate(timeout=PATIENCE_S)
        return self.child.returncode, words


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_simulator_orderly(tmp_path: Path, signum: signal.Signals) -> None:
    """SIGTERM and Ctrl-C close the port and the ledger, and the call returns."""
    process = Process(tmp_path / "ledger")
    process.unbind()
    assert (0, b"ended\n") == process.end(signum)


def test_an_effect_that_was_told_survives_a_kill(tmp_path: Path) -> None:
    """After kill -9 right behind an answer, the next simulator gives the same answer and unbinds nothing again."""
    ledger = tmp_path / "ledger"
    first = Process(ledger)
    said = first.unbind()
    assert (-signal.SIGKILL, b"") == first.end(signal.SIGKILL)
    header_and_effect = 2
    assert header_and_effect == len(ledger.read_bytes().splitlines())
    second = Process(ledger)
    assert said == second.unbind()
    assert second.end(signal.SIGTERM)[0] == 0
