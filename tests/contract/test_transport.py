"""What every transport promises, tried against servers that behave as platforms do, and worse."""

import gzip
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest

from schemas.errors import ConfigurationError
from schemas.outcome import Fault
from tests.stranger import Behaviour, Exchange, Server, friendly, reply, self_signed
from workers.connection import is_public
from workers.multiplex import MultiplexTransport
from workers.tls import Tls
from workers.transport import Answer, Call, RequestsTransport, Transport

PATIENCE_S = 10.0  # how long a test waits for what must happen; never waited for when all is well
BYTES_MAX = 256 * 1024


class MakesTransport(Protocol):
    """Every implementation is made with these."""

    def __call__(
        self, *, private_endpoints: bool, body_bytes_max: int = BYTES_MAX, tls: Tls | None = None
    ) -> Transport:
        """Make one; `tls` says whom to trust, and who we are."""
        ...


TRANSPORTS: list[MakesTransport] = [RequestsTransport, MultiplexTransport]


Serve = Callable[..., Server]
Open = Callable[..., Transport]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour = friendly, *, tls: ssl.SSLContext | None = None) -> Server:
            server = Server(behaviour, tls=tls)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(params=TRANSPORTS, ids=lambda make: str(make.__name__))
def open_transport(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Make transports of each kind; they end with the test, after which none of their threads is left."""
    before = set(threading.enumerate())
    with ExitStack() as stack:

        def make(*, private_endpoints: bool = True, tls: Tls | None = None) -> Transport:
            transport: Transport = request.param(private_endpoints=private_endpoints, body_bytes_max=BYTES_MAX, tls=tls)
            stack.callback(transport.close)
            return transport

        yield make
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith("transport") and "dns" not in t.name]
    assert [] == left


@pytest.fixture
def transport(open_transport: Open) -> Transport:
    """One transport that may call this machine."""
    return open_transport()


def call(url: str, key: str = "job-1", *, timeout_s: float = PATIENCE_S, body: bytes = b"{}") -> Call:
    """Return a call for one job."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    return Call(url=url, headers=headers, body=body, timeout_s=timeout_s, keys=(key,))


def one(transport: Transport, url: str, *, timeout_s: float = PATIENCE_S) -> Answer:
    """Send one call and return its only answer."""
    [answer] = transport.send([call(url, timeout_s=timeout_s)], in_flight=1, deadline_s=PATIENCE_S)
    return answer


# -- the plain way ------------------------------------------------------------------------------------------------


def test_an_answer_has_status_headers_in_lower_case_and_body(transport: Transport, serve: Serve) -> None:
    """What a platform sends comes through as it is."""
    server = serve(lambda _: reply(b'{"code":"NONE"}', status="201 Created", Retry_After="7"))
    answer = one(transport, server.url)
    assert (201, b'{"code":"NONE"}', None, True) == (answer.status, answer.body, answer.fault, answer.sent)
    assert ("7", "application/json") == (answer.headers["retry-after"], answer.headers["content-type"])
    assert answer.latency_s > 0


def test_a_request_arrives_whole(transport: Transport, serve: Serve) -> None:
    """Header and body of the call reach the platform, with a length and without chunks."""
    server = serve()
    body = b'{"items":"' + b"x" * 200_000 + b'"}'
    list(transport.send([call(server.url, "job-7", body=body)], in_flight=1, deadline_s=PATIENCE_S))
    [seen] = server.requests
    assert body == seen.body
    assert ("job-7", str(len(body))) == (seen.headers["idempotency-key"], seen.headers["content-length"])
    assert "transfer-encoding" not in seen.headers


def test_a_connection_is_kept_for_the_next_call(transport: Transport, serve: Serve) -> None:
    """Ten calls one after the other cost one connection."""
    server = serve()
    for _ in range(10):
        assert 200 == one(transport, server.url).status
    assert 1 == server.connections


def test_a_gzip_answer_is_decoded(transport: Transport, serve: Serve) -> None:
    """Large bulk answers may be packed."""
    server = serve(lambda _: reply(gzip.compress(b'{"results":[]}'), Content_Encoding="gzip"))
    assert b'{"results":[]}' == one(transport, server.url).body


def test_an_empty_answer_keeps_the_connection(transport: Transport, serve: Serve) -> None:
    """An answer without a body is one all the same."""
    server = serve(lambda _: reply(b"", status="503 Service Unavailable"))
    assert [503, 503] == [one(transport, server.url).status for _ in range(2)]
    assert 1 == server.connections


# -- pace, bound and deadline of one send --------------------------------------------------------------------------


def test_at_most_in_flight_calls_are_open_and_that_many_really_are(transport: Transport, serve: Serve) -> None:
    """The bound is kept, and used: three at a time meet at a barrier that needs three."""
    meeting = threading.Barrier(3)

    def meet(exchange: Exchange) -> bytes:
        meeting.wait(PATIENCE_S)
        return reply()

    server = serve(meet)
    calls = [call(server.url, f"job-{i}") for i in range(12)]
    answers = list(transport.send(calls, in_flight=3, deadline_s=PATIENCE_S))
    assert [200] * 12 == [answer.status for answer in answers]
    assert 3 == server.open_most


def test_no_call_starts_before_its_turn(transport: Transport, serve: Serve) -> None:
    """Call i waits for i intervals, however fast the platform answers."""
    server = serve()
    calls = [call(server.url, f"job-{i}") for i in range(6)]
    began_at = time.monotonic()
    answers = list(transport.send(calls, in_flight=4, deadline_s=PATIENCE_S, interval_s=0.05))
    assert 6 == len(answers)
    early = [i for i, at in enumerate(sorted(server.arrivals)) if at < began_at + i * 0.05]
    assert [] == early


def test_answers_come_as_they_are_ready(transport: Transport, serve: Serve) -> None:
    """A slow call does not hold back the answer of a fast one."""
    go = threading.Event()

    def first_is_slow(exchange: Exchange) -> bytes:
        if exchange.headers["idempotency-key"] == "slow":
            go.wait(PATIENCE_S)
        return reply()

    server = serve(first_is_slow)
    answers = transport.send([call(server.url, "slow"), call(server.url, "fast")], in_flight=2, deadline_s=PATIENCE_S)
    assert ("fast",) == next(answers).call.keys
    go.set()
    assert [("slow",)] == [answer.call.keys for answer in answers]


def test_after_the_deadline_open_calls_are_cut_and_the_rest_not_sent(transport: Transport, serve: Serve) -> None:
    """The batch's time is over: nobody waits on, and what never left is told apart from what did."""
    server = serve(lambda exchange: exchange.over.wait() and None)
    calls = [call(server.url, f"job-{i}") for i in range(4)]
    began_at = time.monotonic()
    answers = list(transport.send(calls, in_flight=1, deadline_s=0.3))
    assert time.monotonic() - began_at < 0.3 + 2
    ends = {answer.call.keys[0]: (answer.fault, answer.sent) for answer in answers}
    assert ends.pop("job-0") == (Fault.TIMEOUT, True)
    assert {f"job-{i}": (Fault.UNANSWERED, False) for i in (1, 2, 3)} == ends
    assert 1 == len(server.requests)


def test_a_single_call_after_the_deadline_is_not_sent(transport: Transport, serve: Serve) -> None:
    """No time at all is no time for one call either."""
    server = serve()
    [answer] = transport.send([call(server.url)], in_flight=1, deadline_s=0.0)
    assert (Fault.UNANSWERED, False) == (answer.fault, answer.sent)
    assert [] == server.requests


def test_a_send_keeps_its_deadline_while_others_hang(transport: Transport, serve: Serve) -> None:
    """Whoever hangs elsewhere, and however many: an attempt never holds its slot longer than it said."""
    go, crowded = threading.Event(), threading.Event()

    def hang(exchange: Exchange) -> bytes:
        if exchange.index == 63:
            crowded.set()
        go.wait(PATIENCE_S)
        return reply()

    server = serve(hang)
    crowd = [call(server.url, f"crowd-{i}") for i in range(70)]
    others = threading.Thread(target=lambda: list(transport.send(crowd, in_flight=70, deadline_s=PATIENCE_S)))
    others.start()
    assert crowded.wait(PATIENCE_S)
    began_at = time.monotonic()
    answers = list(transport.send([call(server.url, f"job-{i}") for i in range(3)], in_flight=3, deadline_s=0.3))
    took_s = time.monotonic() - began_at
    go.set()
    others.join()
    assert 3 == len(answers)
    assert {answer.fault for answer in answers} <= {Fault.TIMEOUT, Fault.UNANSWERED}
    assert took_s < 0.3 + 2


def test_who_stops_iterating_drops_the_calls_that_have_not_started(open_transport: Open, serve: Serve) -> None:
    """Nothing is sent for somebody who has left."""
    go = threading.Event()

    def hold_all_but_the_first(exchange: Exchange) -> bytes:
        if exchange.index:
            go.wait(PATIENCE_S)
        return reply()

    server = serve(hold_all_but_the_first)
    transport = open_transport()
    answers = transport.send([call(server.url, f"job-{i}") for i in range(9)], in_flight=1, deadline_s=PATIENCE_S)
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator
    go.set()
    transport.close()
    assert len(server.requests) <= 2


def test_many_threads_share_one_transport(transport: Transport, serve: Serve) -> None:
    """Attempts run beside each other, and each gets the answers to its own calls."""
    server = serve(lambda exchange: reply(exchange.body))
    wrong: list[Answer] = []
    counts: Counter[str] = Counter()

    def attempt(name: str) -> None:
        calls = [call(server.url, f"{name}-{i}", body=f"{name}-{i}".encode()) for i in range(20)]
        for answer in transport.send(calls, in_flight=4, deadline_s=PATIENCE_S):
            counts[name] += 1
            if answer.body.decode() != answer.call.keys[0]:
                wrong.append(answer)

    threads = [threading.Thread(target=attempt, args=(f"attempt-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == wrong
    assert {f"attempt-{n}": 20 for n in range(8)} == counts


def test_closing_cuts_what_is_open(open_transport: Open, serve: Serve) -> None:
    """A worker that ends does not wait for a platform."""
    arrived = threading.Event()

    def hang(exchange: Exchange) -> None:
        arrived.set()
        exchange.over.wait()

    server, transport = serve(hang), open_transport()
    faults: list[Fault | None] = []
    caller = threading.Thread(target=lambda: faults.append(one(transport, server.url, timeout_s=60).fault))
    caller.start()
    assert arrived.wait(PATIENCE_S)
    began_at = time.monotonic()
    transport.close()
    caller.join()
    assert [Fault.TIMEOUT] == faults
    assert time.monotonic() - began_at < PATIENCE_S


def test_no_calls_no_answers(transport: Transport) -> None:
    """An empty batch is no reason to wait."""
    assert [] == list(transport.send([], in_flight=4, deadline_s=PATIENCE_S))


# -- slow platforms ------------------------------------------------------------------------------------------------


def silence(exchange: Exchange) -> None:
    """Take the request and say nothing."""
    exchange.over.wait()


def drip_head(exchange: Exchange) -> None:
    """Send a header line that never ends."""
    exchange.say(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    exchange.drip(b"a")


def drip_body_of_known_length(exchange: Exchange) -> None:
    """Send a body a byte at a time."""
    exchange.say(reply(b"", Content_Length="100000"))
    exchange.drip(b" ")


def drip_body_until_closed(exchange: Exchange) -> None:
    """Send a body whose end is the end of the connection: cut off it looks complete."""
    exchange.say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}")
    exchange.drip(b" ")


def drip_chunks(exchange: Exchange) -> None:
    """Send chunk after chunk."""
    exchange.say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    exchange.drip(b"1\r\n \r\n")


def drip_interim_answers(exchange: Exchange) -> None:
    """Send 100 Continue for ever."""
    exchange.drip(b"HTTP/1.1 100 Continue\r\n\r\n")


SLOW = [silence, drip_head, drip_body_of_known_length, drip_body_until_closed, drip_chunks, drip_interim_answers]


@pytest.mark.parametrize("behaviour", SLOW)
def test_a_slow_platform_is_cut_at_the_total_deadline(transport: Transport, serve: Serve, behaviour: Behaviour) -> None:
    """A byte now and then does not buy time: no socket timeout would end this call."""
    server = serve(behaviour)
    answer = one(transport, server.url, timeout_s=0.4)
    assert Fault.TIMEOUT is answer.fault
    assert 0.4 <= answer.latency_s < 0.4 + 2


def test_a_slow_drip_over_tls_is_cut(
    open_transport: Open, serve: Serve, certificate: tuple[ssl.SSLContext, Tls]
) -> None:
    """The socket below TLS is the one that is shut."""
    server_side, client_side = certificate
    server = serve(drip_body_of_known_length, tls=server_side)
    answer = one(open_transport(tls=client_side), server.url, timeout_s=0.4)
    assert Fault.TIMEOUT is answer.fault
    assert answer.latency_s < 0.4 + 2


def test_a_tls_handshake_that_never_ends_is_cut(transport: Transport, serve: Serve) -> None:
    """Who takes the connection and stays silent is slow, not wrongly certified."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = one(transport, f"https://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=0.4)
    assert Fault.TIMEOUT is answer.fault
    assert answer.latency_s < 0.4 + 2


def test_a_platform_that_reads_slowly_has_the_whole_time_of_the_call(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short limit is for connecting; sending a large batch may take as long as the call may."""
    monkeypatch.setattr("workers.connection.CONNECT_TIMEOUT_S", 0.2)
    body = bytes(16 * 1024 * 1024)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        def read_late() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reader:
                threading.Event().wait(0.6)
                while reader.readline().strip():
                    pass
                reader.read(len(body))
                connection.sendall(reply())

        thread = threading.Thread(target=read_late)
        thread.start()
        [answer] = transport.send([call(url, body=body)], in_flight=1, deadline_s=PATIENCE_S)
        thread.join()
    assert (200, None) == (answer.status, answer.fault)


# -- too much, and nonsense ----------------------------------------------------------------------------------------


def huge(exchange: Exchange) -> bytes:
    """Announce and send more than is taken."""
    return reply(b" " * (BYTES_MAX + 1))


def huge_in_chunks(exchange: Exchange) -> bytes:
    """Send more than is taken without announcing it."""
    size = BYTES_MAX + 1
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b" " * size + b"\r\n0\r\n\r\n"


def bomb(exchange: Exchange) -> bytes:
    """Send 64 KiB that unpack to 64 MiB."""
    return reply(BOMB, Content_Encoding="gzip")


BOMB = gzip.compress(bytes(64 * 1024 * 1024), compresslevel=9)


@pytest.mark.parametrize("behaviour", [huge, huge_in_chunks, bomb])
def test_an_answer_is_capped_in_size(transport: Transport, serve: Serve, behaviour: Behaviour) -> None:
    """A body counts as it is unpacked, and the next call is served as if nothing had been."""
    server = serve(lambda exchange: reply() if exchange.index else behaviour(exchange))
    assert Fault.ANSWER_TOO_LARGE is one(transport, server.url).fault
    assert 200 == one(transport, server.url).status


def test_an_answer_of_just_the_size_is_taken(transport: Transport, serve: Serve) -> None:
    """The cap is the largest size that is allowed."""
    server = serve(lambda _: reply(b" " * BYTES_MAX))
    assert BYTES_MAX == len(one(transport, server.url).body)


def test_a_gzip_bomb_is_not_unpacked_first(transport: Transport, serve: Serve) -> None:
    """Memory stays near the cap, not near the size of the bomb."""
    server = serve(bomb)
    assert len(BOMB) < BYTES_MAX
    tracemalloc.start()
    try:
        one(transport, server.url)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * BYTES_MAX


NONSENSE = {
    "not HTTP": b"220 mail.example ESMTP ready\r\n",
    "a status that is no number": b"HTTP/1.1 OK\r\n\r\n",
    "a header line without end": b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    "hundreds of headers": b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 500 + b"\r\n",
    "gzip that is none": reply(b"no gzip at all", Content_Encoding="gzip"),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_is_not_http_is_unreadable(transport: Transport, serve: Serve, name: str) -> None:
    """Nonsense is the platform's fault, never an exception."""

    def talk_nonsense(exchange: Exchange) -> None:
        exchange.say(NONSENSE[name])

    server = serve(talk_nonsense)
    assert Fault.UNREADABLE_ANSWER is one(transport, server.url).fault


def test_headers_that_cannot_be_read_are_not_logged(
    transport: Transport, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken header line may hold a number, and a log never does (rule 8). It may be passed over or refused."""
    server = serve(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n13800138000 no header\r\n\r\n{}")
    answer = one(transport, server.url)
    assert 1 == len(server.requests)
    assert (answer.status, answer.fault) in {(200, None), (None, Fault.UNREADABLE_ANSWER)}
    assert "13800138000" not in caplog.text


# -- broken and wrong connections ----------------------------------------------------------------------------------


def reset(exchange: Exchange) -> None:
    """Hang up with a TCP reset."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.connection.close()


def hang_up(exchange: Exchange) -> None:
    """Hang up politely, without a word."""


def stop_in_the_middle(exchange: Exchange) -> None:
    """Announce more than is sent."""
    exchange.say(reply(b"{", Content_Length="100"))


@pytest.mark.parametrize("behaviour", [reset, hang_up, stop_in_the_middle])
def test_a_broken_connection_is_a_connection_fault(transport: Transport, serve: Serve, behaviour: Behaviour) -> None:
    """The call may have arrived, so that it is not repeated here: the retry policy decides."""
    server = serve(behaviour)
    assert Fault.CONNECTION is one(transport, server.url).fault
    assert 1 == len(server.requests)


def test_a_refused_connection_is_a_connection_fault(transport: Transport) -> None:
    """Nobody listens."""
    assert Fault.CONNECTION is one(transport, closed_port_url()).fault


def closed_port_url() -> str:
    """Return the URL of a port of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_kept_connection_that_was_closed_is_repeated_once(transport: Transport, serve: Serve) -> None:
    """The platform closed an idle connection at the moment of the call: the same key goes out once more."""
    server = serve(lambda exchange: reply() if exchange.turn == 0 else None)
    assert [200, 200] == [one(transport, server.url).status for _ in range(2)]
    assert (3, 2) == (len(server.requests), server.connections)


def test_a_connection_that_was_closed_while_idle_costs_no_fault(transport: Transport, serve: Serve) -> None:
    """Platforms close what is idle without a word, and a call is sent on a new connection then."""
    hung_up = threading.Event()

    def answer_and_go(exchange: Exchange) -> None:
        exchange.say(reply())
        exchange.connection.shutdown(socket.SHUT_RDWR)
        hung_up.set()

    server = serve(answer_and_go)
    for _ in range(3):
        hung_up.clear()
        assert 200 == one(transport, server.url).status
        assert hung_up.wait(PATIENCE_S)
    assert 3 == server.connections


def test_many_dead_connections_cost_one_repeat(transport: Transport, serve: Serve) -> None:
    """Behind a balancer that drops connections as they are used, a call must not go out once for each that was kept."""
    meeting = threading.Barrier(4)

    def serve_once(exchange: Exchange) -> bytes | None:
        if exchange.turn:
            return None
        if exchange.index < 4:
            meeting.wait(PATIENCE_S)
        return reply()

    server = serve(serve_once)
    calls = [call(server.url, f"job-{i}") for i in range(4)]
    assert [200] * 4 == [answer.status for answer in transport.send(calls, in_flight=4, deadline_s=PATIENCE_S)]
    list(transport.send([call(server.url, "job-late")], in_flight=1, deadline_s=PATIENCE_S))
    assert 2 == sum(seen.headers["idempotency-key"] == "job-late" for seen in server.requests)


def test_a_repeat_is_not_repeated(transport: Transport, serve: Serve) -> None:
    """After one repeat it is the retry policy's turn."""
    server = serve(lambda exchange: None if exchange.index else reply())
    assert [None, Fault.CONNECTION] == [one(transport, server.url).fault for _ in range(2)]
    assert 3 == len(server.requests)


def test_a_name_that_does_not_exist_is_a_dns_fault(transport: Transport) -> None:
    """RFC 6761: nothing is ever found below .invalid."""
    assert Fault.DNS is one(transport, "http://platform.invalid/v1", timeout_s=3.0).fault


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example"])
def test_a_name_that_cannot_exist_is_a_dns_fault(transport: Transport, host: str) -> None:
    """A wrong catalogue entry must not raise in the middle of a batch."""
    assert Fault.DNS is one(transport, f"http://{host}/v1").fault


def test_a_name_look_up_that_hangs_is_a_timeout(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver has no timeout that a call could set; and a slow resolver does not say that a name is wrong."""
    over = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        over.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    answer = one(transport, "http://platform.example/v1", timeout_s=0.3)
    over.set()
    assert Fault.TIMEOUT is answer.fault
    assert answer.latency_s < 0.3 + 2


def test_a_name_look_up_that_hangs_holds_up_no_other_platform(
    transport: Transport, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name server that is away costs the platforms of that name only."""
    over = threading.Event()
    server = serve()

    def hang_for_one(host: str, *_: object, **__: object) -> list[object]:
        if host == "slow.example":
            over.wait(PATIENCE_S)
            return []
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", urlsplit(server.url).port))]

    monkeypatch.setattr(socket, "getaddrinfo", hang_for_one)
    calls = [
        call("http://slow.example/v1", "slow", timeout_s=0.5),
        *(call(server.url.replace("127.0.0.1", "quick.example"), f"job-{i}") for i in range(5)),
    ]
    answers = list(transport.send(calls, in_flight=2, deadline_s=PATIENCE_S))
    over.set()
    assert ("slow",) == answers[-1].call.keys
    assert Fault.TIMEOUT is answers[-1].fault
    assert [200] * 5 == [answer.status for answer in answers[:-1]]


def test_a_name_that_is_found_again_works_again(
    transport: Transport, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the name system said when it was ill is not remembered."""
    server = serve()
    there = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", urlsplit(server.url).port))]
    found: list[list[object]] = [[], list(there)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.pop(0))
    url = server.url.replace("127.0.0.1", "platform.example")
    assert [(None, Fault.DNS), (200, None)] == [(a.status, a.fault) for a in (one(transport, url), one(transport, url))]


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Tls]:
    """Return a server's TLS context with a certificate of its own for 127.0.0.1, and the trust of a client in it."""
    return self_signed(tmp_path_factory.mktemp("tls"), address="127.0.0.1")


def test_a_trusted_certificate_is_accepted(
    open_transport: Open, serve: Serve, certificate: tuple[ssl.SSLContext, Tls]
) -> None:
    """Without this the refusals below would prove nothing."""
    server_side, client_side = certificate
    server = serve(tls=server_side)
    transport = open_transport(tls=client_side)
    assert [200, 200] == [one(transport, server.url).status for _ in range(2)]
    assert 1 == server.connections


def test_a_self_signed_certificate_is_a_tls_fault(
    transport: Transport, serve: Serve, certificate: tuple[ssl.SSLContext, Tls]
) -> None:
    """Nothing is sent to whom nobody vouches for."""
    server = serve(tls=certificate[0])
    assert Fault.TLS is one(transport, server.url).fault
    assert [] == server.requests


def test_a_certificate_for_another_host_is_a_tls_fault(open_transport: Open, serve: Serve, tmp_path: Path) -> None:
    """A trusted certificate is good for its own host only."""
    server_side, client_side = self_signed(tmp_path, address="192.0.2.1")
    server = serve(tls=server_side)
    assert Fault.TLS is one(open_transport(tls=client_side), server.url).fault
    assert [] == server.requests


def test_a_client_certificate_is_shown_to_who_asks_for_it(open_transport: Open, serve: Serve, tmp_path: Path) -> None:
    """Some platforms know the operator by its certificate; who has none is told that the connection is wrong."""
    mine = self_signed(tmp_path, address="192.0.2.1")[1].authorities
    server_side, client_side = self_signed(tmp_path / "platform", address="127.0.0.1")
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.load_verify_locations(mine)
    server = serve(tls=server_side)
    assert 200 == one(open_transport(tls=replace(client_side, client_certificate=mine)), server.url).status
    assert 1 == len(server.requests)
    # With TLS 1.3 the refusal races with our request: it may be read, or lost in a reset.
    assert one(open_transport(tls=client_side), server.url).fault in {Fault.TLS, Fault.CONNECTION}
    assert 1 == len(server.requests)


def test_a_client_certificate_that_is_missed_is_a_tls_fault(open_transport: Open, serve: Serve, tmp_path: Path) -> None:
    """Until TLS 1.2 the handshake itself fails, and every job would meet it."""
    server_side, client_side = self_signed(tmp_path, address="127.0.0.1")
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.maximum_version = ssl.TLSVersion.TLSv1_2
    server = serve(tls=server_side)
    assert Fault.TLS is one(open_transport(tls=client_side), server.url).fault
    assert [] == server.requests


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_certificate_that_cannot_be_used_is_said_at_the_start(
    open_transport: Open, tmp_path: Path, content: bytes | None
) -> None:
    """Not one by one by every call of the night."""
    file = tmp_path / "own.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"own\.pem"):
        open_transport(tls=Tls(client_certificate=file))
    with pytest.raises(ConfigurationError, match=r"own\.pem"):
        open_transport(tls=Tls(authorities=file))


def test_a_server_that_does_not_speak_tls_is_a_tls_fault(transport: Transport) -> None:
    """The endpoint's scheme is wrong: every job there would meet it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def talk_plainly() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(reply(status="400 Bad Request"))
                connection.recv(4096)

        thread = threading.Thread(target=talk_plainly)
        thread.start()
        answer = one(transport, f"https://127.0.0.1:{port}/")
        thread.join()
    assert Fault.TLS is answer.fault


def test_a_hang_up_in_the_handshake_is_no_tls_fault(transport: Transport) -> None:
    """A restarting server must not get its platform suspended for its certificate."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"

        def hang_up_twice() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)

        thread = threading.Thread(target=hang_up_twice)
        thread.start()
        answer = one(transport, url)
        thread.join()
    assert Fault.CONNECTION is answer.fault


# -- what a stranger must not make us do ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_redirect_is_not_followed(transport: Transport, serve: Serve, status: str) -> None:
    """The number must not travel to where somebody points."""
    elsewhere = serve()
    server = serve(lambda _: reply(status=status, Location=elsewhere.url))
    assert int(status[:3]) == one(transport, server.url).status
    assert [] == elsewhere.requests


def test_cookies_are_not_kept(transport: Transport, serve: Serve) -> None:
    """No call tells a platform anything about another."""
    server = serve(lambda _: reply(Set_Cookie="session=abc; Path=/"))
    for _ in range(2):
        one(transport, server.url)
    assert [True, True] == ["cookie" not in seen.headers for seen in server.requests]


def test_proxies_of_the_environment_are_not_used(
    transport: Transport, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable left in a shell must not send numbers through a stranger."""
    proxy = serve()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server = serve()
    assert 200 == one(transport, server.url).status
    assert [] == proxy.requests


def test_private_addresses_are_refused(open_transport: Open, serve: Serve) -> None:
    """Without leave, this machine is not even connected to."""
    server = serve()
    transport = open_transport(private_endpoints=False)
    assert Fault.PRIVATE_ADDRESS is one(transport, server.url).fault
    assert 0 == server.connections


def test_a_name_that_leads_to_a_private_address_is_refused(
    open_transport: Open, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the address that counts, not the name in the catalogue."""
    server = serve()
    there = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", urlsplit(server.url).port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: there)
    url = server.url.replace("127.0.0.1", "platform.example")
    assert 200 == one(open_transport(private_endpoints=True), url).status
    assert Fault.PRIVATE_ADDRESS is one(open_transport(private_endpoints=False), url).fault
    assert 1 == server.connections


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "0", "[::1]", "[::ffff:127.0.0.1]"])
def test_no_spelling_of_a_private_address_gets_through(open_transport: Open, serve: Serve, host: str) -> None:
    """Whoever reads the URL, and however: it is looked at the address that the socket is opened to."""
    server = serve()
    url = server.url.replace("127.0.0.1", host)
    assert Fault.PRIVATE_ADDRESS is one(open_transport(private_endpoints=False), url).fault
    assert 0 == server.connections


def test_a_header_cannot_carry_a_second_one(transport: Transport, serve: Serve) -> None:
    """A line break in a secret is a mistake, and must not become a header of its own."""
    server = serve()
    smuggled = replace(call(server.url), headers={"Content-Type": "application/json", "Authorization": "a\r\nX-B: c"})
    [answer] = transport.send([smuggled], in_flight=1, deadline_s=PATIENCE_S)
    assert Fault.UNREADABLE_ANSWER is answer.fault
    assert [] == server.requests


PRIVATE = [
    "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_for_strangers_is_not_public(address: str) -> None:
    """Every way to write or to wrap one."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "223.5.5.5", "2400:3200::1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    """Without this, refusing all would pass."""
    assert is_public(address)


# -- always --------------------------------------------------------------------------------------------------------


def test_each_call_has_exactly_one_answer_whatever_happens(transport: Transport, serve: Serve) -> None:
    """All misbehaviour at once, in one send."""
    bad = [*SLOW, huge, bomb, reset, hang_up, stop_in_the_middle, friendly]
    server = serve(lambda exchange: bad[int(exchange.headers["idempotency-key"]) % len(bad)](exchange))
    calls = [call(server.url, str(i), timeout_s=0.5) for i in range(4 * len(bad))]
    calls += [call(closed_port_url(), "refused"), call("http://nobody.invalid/", "nowhere", timeout_s=0.5)]
    answers = list(transport.send(calls, in_flight=32, deadline_s=PATIENCE_S))
    assert Counter(c.keys for c in calls) == Counter(answer.call.keys for answer in answers)
    assert [] == [answer for answer in answers if (answer.status is None) == (answer.fault is None)]
