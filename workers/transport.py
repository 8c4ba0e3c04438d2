"""The seam to the platforms: give it calls, get answers as they come.

Nothing here knows what an answer means, and nothing a platform does is an exception: each call ends in exactly one
`Answer`, in bounded time and memory. `MultiplexTransport` (workers/multiplex.py) stands beside `RequestsTransport`: the
contract tests are written against `Transport`, and both keep them.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from requests import PreparedRequest
from requests.exceptions import RequestException
from typing_extensions import override
from urllib3 import HTTPResponse, Timeout

from schemas.outcome import Fault
from workers import connection
from workers.connection import (
    Adapter,
    Watch,
    Watchdog,
    fault_of,
    never_arrived,
    read_body,
)
from workers.tls import Tls

BODY_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP POST. Header and body are left out of its repr: they hold numbers and secrets."""

    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_s: float  # in total, from the first packet to the last byte of the answer
    keys: tuple[str, ...]  # idempotency keys of the jobs that it carries, in the order of the body


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one call: an HTTP status with headers (names in lower case) and body, or else a fault."""

    call: Call
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    fault: Fault | None = None
    latency_s: float = 0.0
    sent: bool = True  # False: the time of the batch was over before the call's turn came; nothing left this house


class Transport(Protocol):
    """Sends calls beside each other. Safe to use from many threads at the same time. `name` is of its HTTP client."""

    name: str

    def send(
        self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0
    ) -> Iterator[Answer]:
        """Yield one answer for each call, as they come; never raise for what a platform did.

        Call i starts no earlier than `i * interval_s` seconds after the first `next`, and at most `in_flight` are open
        at a time. After `deadline_s` seconds open calls are cut (TIMEOUT) and the others are not sent (UNANSWERED, not
        `sent`). Who stops iterating drops the calls that have not started.
        """
        ...

    def close(self) -> None:
        """Cut what is open and end every thread. The transport cannot be used after this."""
        ...


class RequestsTransport(Transport):
    """HTTP/1.1 with requests: kept-alive connections, a pool of threads, a watchdog that holds the total deadline.

    No redirect is followed, no cookie kept, no proxy or other environment variable looked at. Make it in the process
    that uses it: threads and connections do not survive a fork.
    """

    name = "requests"

    def __init__(
        self,
        *,
        private_endpoints: bool,
        pool_threads: int = 64,
        body_bytes_max: int = BODY_BYTES_MAX,
        tls: Tls | None = None,
    ) -> None:
        self._private_endpoints = private_endpoints
        self._body_bytes_max = body_bytes_max
        self._adapter = Adapter(connections_max=2 * pool_threads, tls=(tls or Tls()).context())
        self._threads = ThreadPoolExecutor(max_workers=pool_threads, thread_name_prefix="transport")
        self._watchdog = Watchdog()

    @override
    def send(
        self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0
    ) -> Iterator[Answer]:
        """See `Transport.send`. A single call runs in the caller's own thread."""
        flight = _Flight(calls, in_flight=in_flight, deadline_s=deadline_s, interval_s=interval_s)
        if len(calls) == 1:
            yield self._perform(calls[0], ends_at=flight.ends_at)
            return
        try:
            for _ in calls:
                yield self._next_answer(flight)
        finally:
            flight.drop_unclaimed()

    @override
    def close(self) -> None:
        """See `Transport.close`."""
        self._watchdog.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._adapter.close()

    def _next_answer(self, flight: "_Flight") -> Answer:
        while True:
            while flight.wants_runner():
                self._threads.submit(self._run, flight)
            try:
                return flight.answers.get(timeout=flight.idle_s())
            except Empty:
                flight.give_up_if_over()

    def _run(self, flight: "_Flight") -> None:
        """Perform due calls one after the other; end when none is due, so that no thread sleeps for a platform."""
        call = flight.claim(starting=True)
        while call:
            answer = self._perform(call, ends_at=flight.ends_at)
            # Claim first: who wakes on the answer must already see whether this runner goes on.
            call = flight.claim()
            flight.answers.put(answer)

    def _perform(self, call: Call, *, ends_at: float) -> Answer:
        started_at = time.monotonic()
        cut_at = min(started_at + call.timeout_s, ends_at)
        if cut_at <= started_at:
            return _unsent(call)
        watch = Watch(cut_at=cut_at, private_endpoints=self._private_endpoints)
        with self._watchdog.over(watch):
            try:
                response = self._request(call, watch)
                body = read_body(response, bytes_max=self._body_bytes_max)
            except Exception as error:  # noqa: BLE001 - one answer for each call, whatever a library does with odd bytes
                fault = Fault.TIMEOUT if watch.cut else fault_of(error)
                return Answer(call=call, fault=fault, latency_s=time.monotonic() - started_at)
        # A connection that was cut looks like one that ended well where no length was announced.
        if watch.cut:
            return Answer(call=call, fault=Fault.TIMEOUT, latency_s=time.monotonic() - started_at)
        return Answer(
            call=call,
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=body,
            latency_s=time.monotonic() - started_at,
        )

    def _request(self, call: Call, watch: Watch) -> HTTPResponse:
        request = PreparedRequest()
        request.method = "POST"
        request.url = call.url
        # A plain dict is all that urllib3 asks for. Without a length requests would send the body in chunks.
        request.headers = {**call.headers, "Content-Length": str(len(call.body))}  # type: ignore[assignment]
        request.body = call.body
        try:
            return self._attempt(request, watch)
        except RequestException as error:
            if not never_arrived(error, watch):
                raise
        return self._attempt(request, watch)

    def _attempt(self, request: PreparedRequest, watch: Watch) -> HTTPResponse:
        watch.fresh = False
        left_s = max(watch.cut_at - time.monotonic(), 0.001)
        timeout = Timeout(connect=min(left_s, connection.CONNECT_TIMEOUT_S), total=left_s)
        response = self._adapter.send(request, stream=True, timeout=timeout)  # type: ignore[arg-type]  # the stub is old
        raw: HTTPResponse = response.raw
        return raw


class _Flight:
    """One `send`: which call may start when, and the answers that have come."""

    def __init__(self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float) -> None:
        self.answers: SimpleQueue[Answer] = SimpleQueue()
        self._calls = calls
        self._in_flight = in_flight
        self._interval_s = interval_s
        self._started_at = time.monotonic()
        self.ends_at = self._started_at + deadline_s
        self._lock = threading.Lock()
        self._claimed = 0
        self._runners = 0
        self._runners_waiting = 0

    def wants_runner(self) -> bool:
        """Whether one more thread has work to do now; counts it if so."""
        with self._lock:
            wanted = self._runners < self._in_flight and self._due() > self._runners_waiting
            if wanted:
                self._runners += 1
                self._runners_waiting += 1
            return wanted

    def claim(self, *, starting: bool = False) -> Call | None:
        """Return the next call that is due, for a runner that is free; None ends the runner."""
        with self._lock:
            if starting:
                self._runners_waiting -= 1
            if self._due() <= 0:
                self._runners -= 1
                return None
            self._claimed += 1
            return self._calls[self._claimed - 1]

    def idle_s(self) -> float | None:
        """Return how long nothing but an answer can bring work; None where only an answer can."""
        with self._lock:
            if self._claimed == len(self._calls):
                return None
            wake_at = self.ends_at
            unattended = self._claimed + self._runners_waiting
            if self._runners < self._in_flight and unattended < len(self._calls):
                wake_at = min(wake_at, self._started_at + unattended * self._interval_s)
            return max(wake_at - time.monotonic(), 0.0)

    def give_up_if_over(self) -> None:
        """Answer the calls that have not started, once the deadline is over."""
        if time.monotonic() >= self.ends_at:
            for call in self.drop_unclaimed():
                self.answers.put(_unsent(call))

    def drop_unclaimed(self) -> Sequence[Call]:
        """Let no further call start; return those that will not."""
        with self._lock:
            dropped = self._calls[self._claimed :]
            self._claimed = len(self._calls)
            return dropped

    def _due(self) -> int:
        """How many unclaimed calls may start now."""
        left = len(self._calls) - self._claimed
        if self._interval_s <= 0 or not left:
            return left
        turns = int((time.monotonic() - self._started_at) / self._interval_s) + 1
        return min(left, turns - self._claimed)


def _unsent(call: Call) -> Answer:
    return Answer(call=call, fault=Fault.UNANSWERED, sent=False)
