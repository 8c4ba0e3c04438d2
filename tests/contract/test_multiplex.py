"""What the multiplexing transport promises beyond the contract of all transports."""

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.settings import Settings
from schemas.outcome import Fault
from tests.command import wait_until
from tests.stranger import Behaviour, Exchange, Server, friendly, reply, self_signed
from workers.app import transport_of
from workers.curl_loop import CurlLoop
from workers.multiplex import MultiplexTransport, _Flight
from workers.transport import Call, RequestsTransport

ROOT = Path(__file__).parents[2]
PATIENCE_S = 10.0


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour = friendly) -> Server:
            server = Server(behaviour)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def open_transport() -> Iterator[Callable[..., MultiplexTransport]]:
    """Make transports that end with the test."""
    with ExitStack() as stack:

        def make(*, open_max: int = 512) -> MultiplexTransport:
            transport = MultiplexTransport(private_endpoints=True, open_max=open_max)
            stack.callback(transport.close)
            return transport

        yield make


def calls_to(url: str, count: int, *, name: str = "job", timeout_s: float = PATIENCE_S) -> list[Call]:
    """Return calls for as many jobs."""
    return [
        Call(
            url=url,
            headers={"Content-Type": "application/json", "Idempotency-Key": f"{name}-{i}"},
            body=b"{}",
            timeout_s=timeout_s,
            keys=(f"{name}-{i}",),
        )
        for i in range(count)
    ]


def threads_of_transports() -> list[str]:
    """Return the names of the threads that transports have now."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("transport")]


# -- threads -------------------------------------------------------------------------------------------------------


def test_the_thread_begins_with_the_first_call(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server]
) -> None:
    """A process that makes a transport, and forks before it calls, must not leave the thread behind."""
    before = threads_of_transports()
    transport = open_transport()
    assert before == threads_of_transports()
    list(transport.send(calls_to(serve().url, 3), in_flight=3, deadline_s=PATIENCE_S))
    assert sorted([*before, "transport-io"]) == sorted(threads_of_transports())


def test_nothing_is_sent_after_the_end(open_transport: Callable[..., MultiplexTransport]) -> None:
    """Whoever sends on a closed transport is told, and does not wait for ever."""
    transport = open_transport()
    transport.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(transport.send(calls_to("http://127.0.0.1:9/", 1), in_flight=1, deadline_s=PATIENCE_S))


def test_closing_tells_calls_that_were_cut_from_those_that_never_left(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server]
) -> None:
    """What never left can be given to another worker without any doubt."""
    arrived = threading.Event()

    def hang(exchange: Exchange) -> None:
        arrived.set()
        exchange.over.wait()

    server, transport = serve(hang), open_transport()
    ends: Counter[tuple[Fault | None, bool]] = Counter()

    def send() -> None:
        answers = transport.send(calls_to(server.url, 5), in_flight=1, deadline_s=60)
        ends.update((answer.fault, answer.sent) for answer in answers)

    caller = threading.Thread(target=send)
    caller.start()
    assert arrived.wait(PATIENCE_S)
    transport.close()
    caller.join()
    assert {(Fault.TIMEOUT, True): 1, (Fault.UNANSWERED, False): 4} == ends


def test_a_fault_of_our_own_leaves_nobody_waiting(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that dies answers every call, and the next call has a new thread."""
    transport, server = open_transport(), serve()
    with monkeypatch.context() as broken:
        broken.setattr(CurlLoop, "kick", lambda _: 1 / 0)
        answers = list(transport.send(calls_to(server.url, 3), in_flight=1, deadline_s=PATIENCE_S))
    assert 3 == len(answers)
    assert [] == [answer for answer in answers if answer.fault is None]
    assert [200] == [a.status for a in transport.send(calls_to(server.url, 1), in_flight=1, deadline_s=PATIENCE_S)]


# -- bounds --------------------------------------------------------------------------------------------------------


def test_all_sends_together_keep_the_bound_of_the_transport(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server]
) -> None:
    """Connections cost memory and a place in the table of files, however many batches are under way."""
    meeting = threading.Barrier(3)

    def meet(exchange: Exchange) -> bytes:
        meeting.wait(PATIENCE_S)
        return reply()

    server, transport = serve(meet), open_transport(open_max=3)
    statuses: list[int | None] = []

    def send(name: str) -> None:
        for answer in transport.send(calls_to(server.url, 6, name=name), in_flight=6, deadline_s=PATIENCE_S):
            statuses.append(answer.status)  # noqa: PERF401 - as they come, and threads share it

    senders = [threading.Thread(target=send, args=(f"sender-{n}",)) for n in range(3)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert [200] * 18 == statuses
    assert (3, 3) == (server.open_most, server.connections)


def test_a_large_send_lets_a_small_one_have_its_turn(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server]
) -> None:
    """Where the transport is full, whoever came first must not take every place that gets free."""
    transport = open_transport(open_max=1)

    def answer(exchange: Exchange) -> bytes:
        if exchange.index == 0:
            wait_until(lambda: transport._board and len(transport._board._waiting) == 2, what="both sends wait")
        return reply()

    server = serve(answer)

    def send(name: str, count: int) -> None:
        list(transport.send(calls_to(server.url, count, name=name), in_flight=count, deadline_s=PATIENCE_S))

    senders = [threading.Thread(target=send, args=who) for who in (("large", 100), ("small", 2))]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    order = [seen.headers["idempotency-key"] for seen in server.requests]
    assert 102 == len(order)
    assert max(order.index("small-0"), order.index("small-1")) < 10


@given(
    count=st.integers(0, 12),
    in_flight=st.integers(1, 5),
    interval_s=st.sampled_from([0.0, 0.25, 1.0]),
    steps=st.lists(st.tuples(st.sampled_from(["claim", "answer"]), st.floats(0, 2)), max_size=60),
)
def test_a_flight_never_starts_too_many_or_too_early(
    count: int, in_flight: int, interval_s: float, steps: list[tuple[str, float]]
) -> None:
    """Whatever the order of answers and looks at the clock: bound and pace hold, and no call starts twice."""
    calls = calls_to("http://127.0.0.1:9/", count)
    flight = _Flight(calls, in_flight=in_flight, deadline_s=60, interval_s=interval_s)
    began_at = now = flight.ends_at - 60
    started: list[Call] = []
    for what, passed_s in steps:
        now += passed_s
        if what == "answer":
            flight.open -= bool(flight.open)
            continue
        may = len(started) < count and flight.open < in_flight and now >= began_at + len(started) * interval_s
        call = flight.claim(now)
        assert may == (call is not None)
        if call:
            started.append(call)
        assert flight.open <= in_flight
    assert calls[: len(started)] == started
    assert calls[len(started) :] == flight.unclaimed()
    assert flight.claim(now + 60) is None


# -- connections and names -----------------------------------------------------------------------------------------


def test_an_idle_connection_that_is_closed_is_watched_no_more(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is readable for ever would keep the thread awake for ever."""
    opened: list[int] = []
    monkeypatch.setattr(CurlLoop, "opened", lambda _, number: opened.append(number))
    server, transport = serve(), open_transport()
    list(transport.send(calls_to(server.url, 1), in_flight=1, deadline_s=PATIENCE_S))
    board = transport._board
    assert board
    server.requests[0].connection.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: opened[0] not in board._loop._watched, what="the closed connection is not watched")


def test_one_look_up_serves_every_call_that_waits_for_it(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty calls to one platform are no reason to ask fifty times."""
    server = serve()
    asked: list[str] = []
    really = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **named: Any) -> Any:
        # Other threads of this process may ask for something else meanwhile.
        if host != "platform.example":
            return really(host, *rest, **named)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", urlsplit(server.url).port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    calls = calls_to(server.url.replace("127.0.0.1", "platform.example"), 50)
    answers = list(open_transport().send(calls, in_flight=10, deadline_s=PATIENCE_S))
    assert [200] * 50 == [answer.status for answer in answers]
    assert ["platform.example"] == asked


def test_a_platform_that_moved_is_found_at_its_new_address(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody answers at the old address, the name is asked again and not only after a minute."""
    server = serve()
    port = urlsplit(server.url).port
    addresses = ["127.0.0.2", "127.0.0.1"]  # at the first nobody listens
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses.pop(0), port))],
    )
    transport, url = open_transport(), server.url.replace("127.0.0.1", "platform.example")
    ends = [
        (answer.status, answer.fault)
        for _ in range(2)
        for answer in transport.send(calls_to(url, 1), in_flight=1, deadline_s=PATIENCE_S)
    ]
    assert [(None, Fault.CONNECTION), (200, None)] == ends


HEADS = {
    "an interim answer first": b"HTTP/1.1 103 Early Hints\r\nX-A: early\r\n\r\nHTTP/1.1 200 OK\r\nX-A: last\r\n",
    "the last of two": b"HTTP/1.1 200 OK\r\nX-A: first\r\nX-A: last\r\n",
    "spaces around": b"HTTP/1.1 200 OK\r\nx-a:   last  \r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nX-A: last\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_headers_are_those_of_the_final_answer(
    open_transport: Callable[..., MultiplexTransport], serve: Callable[..., Server], name: str
) -> None:
    """Header lines come from curl as they were sent, interim answers, trailers and all."""
    tail = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-A: trailer\r\n\r\n"
    server = serve(lambda _: HEADS[name] + tail)
    [answer] = open_transport().send(calls_to(server.url, 1), in_flight=1, deadline_s=PATIENCE_S)
    assert (200, b"{}", "last") == (answer.status, answer.body, answer.headers["x-a"])


# -- which one is used ---------------------------------------------------------------------------------------------


def test_the_fast_client_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed decides, so that nobody has to set anything, and without it all goes on as before."""
    settings = Settings()
    fast = transport_of(settings)
    fast.close()
    assert isinstance(fast, MultiplexTransport)
    monkeypatch.delitem(sys.modules, "workers.multiplex")
    for name in ("curl_loop", "line"):
        monkeypatch.delitem(sys.modules, f"workers.{name}")
    monkeypatch.setitem(sys.modules, "pycurl", None)
    plain = transport_of(settings)
    plain.close()
    assert isinstance(plain, RequestsTransport)


ONE_CALL = """
import sys
from pathlib import Path
from backends.settings import Settings
from workers.app import transport_of
transport_of(Settings()).close()
from workers.multiplex import MultiplexTransport
from workers.tls import Tls
from workers.transport import Call
transport = MultiplexTransport(private_endpoints=True, tls=Tls(authorities=Path(sys.argv[2])))
call = Call(url=sys.argv[1], headers={}, body=b"{}", timeout_s=9, keys=())
[answer] = transport.send([call], in_flight=1, deadline_s=9)
transport.close()
print(answer.status)
"""


def test_no_environment_variable_makes_it_write_down_session_keys(tmp_path: Path) -> None:
    """SSLKEYLOGFILE, left in a shell, would let whoever reads the file read every number that was sent."""
    server_side, tls = self_signed(tmp_path, address="127.0.0.1")
    server = Server(friendly, tls=server_side)
    keys = tmp_path / "session-keys"
    try:
        done = subprocess.run(
            [sys.executable, "-c", ONE_CALL, server.url, tls.authorities],
            env={**os.environ, "SSLKEYLOGFILE": str(keys), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    finally:
        server.close()
    assert "200\n" == done.stdout
    assert not keys.exists()
