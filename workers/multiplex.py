"""A transport with one thread for all calls of a process: curl's multi interface over epoll.

Callers hand a flight of calls to the thread and take the answers out of its own queue, in groups, as they come.
The thread keeps pace, bounds and deadlines, so that nobody wakes up for a call but to take its answer.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

import pycurl
from typing_extensions import override
from urllib3.exceptions import LocationValueError

from schemas.outcome import Fault
from workers import connection
from workers.curl_loop import CurlLoop
from workers.endpoint import Endpoint, Endpoints
from workers.line import Line
from workers.tls import Tls
from workers.transport import BODY_BYTES_MAX, Answer, Call, Transport

_OPEN_MAX: Final = 512
_NEVER: Final = float("inf")
_log = logging.getLogger(__name__)


class MultiplexTransport(Transport):
    """HTTP/1.1 with curl: one thread, at most `open_max` calls open and as many connections kept.

    No redirect is followed, no cookie kept, no proxy or other environment variable looked at. The thread begins with
    the first call: a process that has made a transport and not used it may still fork. Raises ConfigurationError for
    files of `tls` that cannot be used.
    """

    name = "curl"

    def __init__(
        self,
        *,
        private_endpoints: bool,
        open_max: int = _OPEN_MAX,
        body_bytes_max: int = BODY_BYTES_MAX,
        tls: Tls | None = None,
    ) -> None:
        tls = tls or Tls()
        tls.context()  # a file that cannot be used is said now, not by each call

        def line(opened: Callable[[int], None]) -> Line:
            return Line(private_endpoints=private_endpoints, body_bytes_max=body_bytes_max, tls=tls, on_open=opened)

        self._line, self._open_max = line, open_max
        self._lock = threading.Lock()
        self._board: _Switchboard | None = None
        self._closed = False

    @override
    def send(
        self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0
    ) -> Iterator[Answer]:
        """See `Transport.send`. Raises RuntimeError after `close`."""
        left = len(calls)
        if not left:
            return
        flight = _Flight(calls, in_flight=in_flight, deadline_s=deadline_s, interval_s=interval_s)
        board = self._take(flight)
        try:
            while left:
                group = flight.answers.get()
                left -= len(group)
                yield from group
        finally:
            if left:
                board.drop(flight)

    @override
    def close(self) -> None:
        """See `Transport.close`."""
        with self._lock:
            self._closed = True
        if self._board:
            self._board.close()

    def _take(self, flight: "_Flight") -> "_Switchboard":
        while True:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the transport is closed")
                if self._board is None or self._board.ended:
                    self._board = _Switchboard(self._line, open_max=self._open_max)
                board = self._board
            if board.take(flight):
                return board


class _Flight:
    """One `send`: which call may start when, and the answers that have come."""

    def __init__(self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float) -> None:
        self.answers: SimpleQueue[list[Answer]] = SimpleQueue()
        self.ready: list[Answer] = []  # not handed over yet
        self.open = 0
        self._calls, self._next = calls, 0
        self._in_flight, self._interval_s = in_flight, interval_s
        self._started_at = time.monotonic()
        self.ends_at = self._started_at + deadline_s

    def claim(self, now: float) -> Call | None:
        """Return the next call if it may start now."""
        if self._next >= len(self._calls) or self.open >= self._in_flight or self._due_at() > now:
            return None
        self._next += 1
        self.open += 1
        return self._calls[self._next - 1]

    def unclaimed(self) -> Sequence[Call]:
        """Let no further call start; return those that will not."""
        dropped = self._calls[self._next :]
        self._next = len(self._calls)
        return dropped

    def wake_at(self, *, crowded: bool) -> float | None:
        """Return when there is something to do beside taking answers; None if nothing will start any more."""
        if self._next >= len(self._calls):
            return None
        if crowded or self.open >= self._in_flight:
            return self.ends_at
        return min(self._due_at(), self.ends_at)

    def _due_at(self) -> float:
        return self._started_at + self._next * self._interval_s


@dataclass(slots=True, eq=False)
class _Open:
    """A call that has started and is not answered."""

    call: Call
    flight: _Flight
    started_at: float
    cut_at: float
    endpoint: Endpoint | None = None


class _Switchboard:
    """The thread, its lines, and what is under way on them. All but `take` and `close` happens in the thread."""

    def __init__(self, make_line: Callable[[Callable[[int], None]], Line], *, open_max: int) -> None:
        self._make_line, self._open_max = make_line, open_max
        self._waiting: deque[_Flight] = deque()  # those with calls that have not started
        self._ready: list[_Flight] = []
        self._open: set[_Open] = set()
        self._on_line: dict[pycurl.Curl, tuple[_Open, Line]] = {}
        self._nowhere: list[_Open] = []  # those of the open whose endpoint has no address yet
        self._lines: list[Line] = []  # idle
        self._endpoints = Endpoints(self._found)
        self._loop = CurlLoop(connections_max=open_max)
        self._wake_at = _NEVER
        self._freed = False  # a call has ended since, so that another one may start
        self._lock = threading.Lock()
        self._inbox: deque[Callable[[], None]] = deque()
        self._closing = self.ended = False
        self._thread = threading.Thread(target=self._run, name="transport-io", daemon=True)
        self._thread.start()

    def take(self, flight: _Flight) -> bool:
        """Take a flight over; False if the thread has ended."""
        return self._tell(lambda: self._waiting.append(flight))

    def drop(self, flight: _Flight) -> None:
        """Start no further call of a flight."""
        self._tell(lambda: self._drop(flight))

    def close(self) -> None:
        """Cut what is open and end the thread."""

        def end() -> None:
            self._closing = True

        self._tell(end)
        self._thread.join()

    def _tell(self, act: Callable[[], None]) -> bool:
        """Let the thread do something; False if it has ended."""
        with self._lock:
            if not self.ended:
                self._inbox.append(act)
                self._loop.wake()
            return not self.ended

    def _found(self, endpoint: Endpoint, found: list[Any]) -> None:
        self._tell(lambda: self._connect(endpoint, found))

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever for an answer
            # Its words are left out: they may repeat what is sent. The next call begins a new thread.
            _log.error("the transport's thread ended: %s", type(error).__name__)
        finally:
            self._end()

    def _turn(self) -> None:
        self._loop.turn(until=self._wake_at)
        self._finish()
        while self._inbox:
            self._inbox.popleft()()
        self._freed = True
        while self._freed:
            self._freed = False
            self._start()
            # What has started goes out before anybody is woken for an answer.
            if self._loop.kick():
                self._finish()
        self._hand_over()

    def _start(self) -> None:
        """Start what is due, and note when to look again."""
        now, wake_at = time.monotonic(), _NEVER
        for _ in range(len(self._waiting)):
            flight = self._waiting.popleft()
            if flight.ends_at <= now:
                self._drop(flight)
            while len(self._open) < self._open_max and (call := flight.claim(now)):
                self._dial(flight, call, now)
            wants_at = flight.wake_at(crowded=len(self._open) >= self._open_max)
            if wants_at is not None:
                self._waiting.append(flight)
                wake_at = min(wake_at, wants_at)
        if len(self._open) >= self._open_max:
            self._waiting.rotate(-1)  # nobody is always the last to be asked
        self._wake_at = min(wake_at, self._give_up_look_ups(now)) if self._nowhere else wake_at

    def _dial(self, flight: _Flight, call: Call, now: float) -> None:
        one = _Open(call=call, flight=flight, started_at=now, cut_at=min(now + call.timeout_s, flight.ends_at))
        self._open.add(one)
        try:
            endpoint = one.endpoint = self._endpoints.at(call.url, now=now)
        except LocationValueError:
            self._answer(one, Answer(call=call, fault=Fault.DNS))
            return
        if endpoint.pin is None:
            self._nowhere.append(one)
        else:
            self._send(one, endpoint, now)

    def _send(self, one: _Open, endpoint: Endpoint, now: float) -> None:
        line = self._lines.pop() if self._lines else self._make_line(self._loop.opened)
        try:
            line.dial(one.call, endpoint, left_s=one.cut_at - now)
        except (ValueError, TypeError, pycurl.error):
            self._lines.append(line)
            self._answer(one, Answer(call=one.call, fault=Fault.UNREADABLE_ANSWER))
            return
        self._on_line[line.curl] = one, line
        self._loop.multi.add_handle(line.curl)

    def _connect(self, endpoint: Endpoint, found: list[Any]) -> None:
        """Go on with the calls that waited for a look-up."""
        endpoint.learn(found)
        now = time.monotonic()
        here = [one for one in self._nowhere if one.endpoint is endpoint]
        self._nowhere = [one for one in self._nowhere if one.endpoint is not endpoint]
        for one in here:
            if endpoint.pin is None:
                self._answer(one, Answer(call=one.call, fault=Fault.DNS, latency_s=now - one.started_at))
            else:
                self._send(one, endpoint, now)

    def _give_up_look_ups(self, now: float) -> float:
        """Answer the calls whose look-up takes too long; return when to look again."""
        left, wake_at = [], _NEVER
        for one in self._nowhere:
            until = min(one.cut_at, one.started_at + connection.CONNECT_TIMEOUT_S)
            if until <= now:
                self._answer(one, Answer(call=one.call, fault=Fault.TIMEOUT, latency_s=now - one.started_at))
            else:
                left.append(one)
                wake_at = min(wake_at, until)
        self._nowhere = left
        return wake_at

    def _finish(self) -> None:
        """Take what curl has done."""
        left = 1
        while left:
            left, good, bad = self._loop.multi.info_read()
            now = time.monotonic()
            for curl in good:
                one, line = self._off(curl)
                self._lines.append(line)
                self._answer(one, line.answer(one.call, latency_s=now - one.started_at))
            for curl, code, words in bad:
                one, line = self._off(curl)
                if one.endpoint and line.opened and code in {pycurl.E_COULDNT_CONNECT, pycurl.E_OPERATION_TIMEDOUT}:
                    one.endpoint.doubt()
                if line.redial(code, words, left_s=one.cut_at - now):
                    self._on_line[curl] = one, line
                    self._loop.multi.add_handle(curl)
                    continue
                self._lines.append(line)
                self._answer(one, line.failure(one.call, code, words, latency_s=now - one.started_at))

    def _off(self, curl: pycurl.Curl) -> tuple[_Open, Line]:
        self._loop.multi.remove_handle(curl)
        return self._on_line.pop(curl)

    def _answer(self, one: _Open, answer: Answer) -> None:
        self._open.discard(one)
        one.flight.open -= 1
        self._freed = True
        self._keep(one.flight, answer)

    def _keep(self, flight: _Flight, answer: Answer) -> None:
        if not flight.ready:
            self._ready.append(flight)
        flight.ready.append(answer)

    def _hand_over(self) -> None:
        for flight in self._ready:
            group, flight.ready = flight.ready, []
            flight.answers.put(group)
        self._ready.clear()

    def _end(self) -> None:
        """Answer whatever is not answered, and let go of all."""
        with self._lock:
            self.ended = True
        while self._inbox:
            self._inbox.popleft()()
        now = time.monotonic()
        for one in tuple(self._open):
            self._answer(one, Answer(call=one.call, fault=Fault.TIMEOUT, latency_s=now - one.started_at))
        for flight in self._waiting:
            self._drop(flight)
        self._hand_over()
        for curl in self._on_line:
            self._loop.multi.remove_handle(curl)
        self._loop.close()

    def _drop(self, flight: _Flight) -> None:
        for call in flight.unclaimed():
            self._keep(flight, Answer(call=call, fault=Fault.UNANSWERED, sent=False))
