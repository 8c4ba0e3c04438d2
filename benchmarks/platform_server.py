"""The platforms of the benchmark: Unbind protocol v1 on one port, in one process, with a ledger that stays small.

`POST /bulk/KEY` decides many items, `POST /single/KEY` one; both answer after the latency that was asked for. A single
call whose id falls on one number of a hundred is told 503 the first time, and decided from then on. `POST /hang/KEY`
decides many items after half a minute. `GET /_ledger` tells what was done.

The simulator remembers every job and checks every field; this one only counts and adds up, so that its share of the
machine stays small beside what is measured. `python -m benchmarks.platform_server --help`.
"""

import argparse
import asyncio
import gc
import re
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final, cast
from zlib import crc32

import orjson
import uvloop
from typing_extensions import override

from ops.lifeline import end_with_parent

LATENCY_MS: Final = 20.0
HANG_S: Final = 30.0
LATER_AT: Final = 37
_TICK_S: Final = 0.001
_HEAD_BYTES_MAX: Final = 16_384
_BODY_BYTES_MAX: Final = 4_000_000
_GC_THRESHOLD: Final = 100_000
# Ids as our dispatcher writes them: compact JSON. Inside a JSON text a quote is escaped, so no text can look like one.
_IDS: Final = re.compile(rb'"id":"([a-z2-7]{26}\.[a-z0-9-]{1,40})"')
_CASE: Final = b'"case":"'
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})(?:\r\n|$)", re.IGNORECASE)
_EXPECT: Final = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CODES: Final = tuple("UNBOUND" if place < 2 else "NO_BINDING" for place in range(100))  # noqa: PLR2004 - 2 of 100


class Unreadable(ValueError):
    """A body that is no request of the protocol."""


def code_of(mark: int) -> str:
    """Return what a platform answers for the job with this checksum: 98 of 100 times that nothing is bound."""
    return _CODES[mark % 100]


class Ledger:
    """What was asked and answered: counts, and the sum of the checksums of all jobs that were decided.

    Each job decided once, and no other, makes exactly one count and one sum; both together stand for the whole list.
    """

    def __init__(self, *, later: bool = True) -> None:
        self._later = later
        self.calls = self.told_later = self.decided = self.decided_sum = 0
        self.codes: Counter[str] = Counter()
        self._seen: set[int] = set()

    def decide_many(self, body: bytes) -> bytes:
        """Return the answer to a bulk call. Raises Unreadable."""
        ids = ids_of(body)
        marks = list(map(crc32, ids))
        codes = [_CODES[mark % 100] for mark in marks]
        self._count(marks, codes)
        parts = [b'{"id":"%b","code":"%b"}' % (name, code.encode()) for name, code in zip(ids, codes, strict=True)]
        return b'{"results":[%b]}' % b",".join(parts)

    def decide_one(self, body: bytes) -> bytes | None:
        """Return the answer to a single call, None if it is to come again. Raises Unreadable."""
        found = _IDS.search(body)
        mark = crc32(found[1]) if found else crc32(_id_of(body))
        if self._later and mark % 100 == LATER_AT and mark not in self._seen:
            self._seen.add(mark)
            self.calls += 1
            self.told_later += 1
            return None
        code = _CODES[mark % 100]
        self._count((mark,), (code,))
        return b'{"code":"%b"}' % code.encode()

    def _count(self, marks: Iterable[int], codes: Iterable[str]) -> None:
        self.calls += 1
        self.codes.update(codes)
        marks = tuple(marks)
        self.decided += len(marks)
        self.decided_sum += sum(marks)

    def told(self) -> bytes:
        """Return all of it as JSON, with the processor time that this process has used."""
        return orjson.dumps(
            {
                "calls": self.calls,
                "told_later": self.told_later,
                "decided": self.decided,
                "decided_sum": self.decided_sum,
                "codes": dict(self.codes),
                "cpu_s": time.process_time(),
            }
        )


def ids_of(body: bytes) -> list[bytes]:
    """Return the ids of a bulk call, in its order. Raises Unreadable.

    Compact JSON is searched, not parsed; where ids and cases do not pair, it is parsed after all.
    """
    found: list[bytes] = _IDS.findall(body)
    if found and len(found) == body.count(_CASE) and b'"items":[' in body:
        return found
    try:
        return [item["id"].encode() for item in orjson.loads(body)["items"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise Unreadable from None


def _id_of(body: bytes) -> bytes:
    try:
        name: str = orjson.loads(body)["id"]
        return name.encode()
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise Unreadable from None


class Delay:
    """Sends replies a fixed time after they were handed in; one timer for all of them, not one for each."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._loop = seconds, asyncio.get_running_loop()
        self._planned: deque[tuple[float, asyncio.Transport, bytes]] = deque()

    def send(self, transport: asyncio.Transport, reply: bytes) -> None:
        """Plan a reply."""
        if not self._planned:
            self._loop.call_later(_TICK_S, self._tick)
        self._planned.append((self._loop.time() + self._seconds, transport, reply))

    def _tick(self) -> None:
        now = self._loop.time()
        while self._planned and self._planned[0][0] <= now:
            _, transport, reply = self._planned.popleft()
            if not transport.is_closing():
                transport.write(reply)
        if self._planned:
            self._loop.call_later(_TICK_S, self._tick)


class Connection(asyncio.Protocol):
    """One client, HTTP/1.1 with keep-alive, one request after the other; bodies come with their length."""

    def __init__(self, ledger: Ledger, *, soon: Delay, late: Delay) -> None:
        self._ledger, self._soon, self._late = ledger, soon, late
        self._parts: list[bytes] = []
        self._have = self._need = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over."""
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Take bytes; answer each request as soon as it is whole."""
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        while data:
            head_end = data.find(b"\r\n\r\n")
            if head_end < 0:
                self._keep(data, until=len(data) + 1)
                return
            head, start = data[:head_end], head_end + 4
            found = _LENGTH.search(head)
            end = start + (int(found[1]) if found else 0)
            if len(data) < end:
                if _EXPECT.search(head):
                    self._transport.write(_CONTINUE)
                self._keep(data, until=end)
                return
            self._answer(head, data[start:end])
            data = data[end:]

    def _keep(self, data: bytes, *, until: int) -> None:
        self._parts.append(data)
        self._have, self._need = len(data), until
        if until > _HEAD_BYTES_MAX + _BODY_BYTES_MAX:
            self._transport.abort()

    def _answer(self, head: bytes, body: bytes) -> None:
        try:
            if head.startswith(b"POST /single/"):
                one = self._ledger.decide_one(body)
                self._soon.send(self._transport, _ok(one) if one is not None else _problem(b"503 Service Unavailable"))
            elif head.startswith(b"POST /bulk/"):
                self._soon.send(self._transport, _ok(self._ledger.decide_many(body)))
            elif head.startswith(b"POST /hang/"):
                self._late.send(self._transport, _ok(self._ledger.decide_many(body)))
            elif head.startswith(b"GET /_ledger "):
                self._transport.write(_ok(self._ledger.told()))
            else:
                self._transport.write(_problem(b"404 Not Found"))
        except Unreadable:
            self._transport.write(_problem(b"422 Unprocessable Entity"))


def _ok(content: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(content) + content


def _problem(status: bytes) -> bytes:
    content = b'{"title":"%b"}' % status[4:]
    head = b"HTTP/1.1 %b\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(content)) + content


async def serve(sock: socket.socket, *, latency_ms: float = LATENCY_MS, later: bool = True) -> None:
    """Answer on a listening socket until cancelled."""
    ledger, soon, late = Ledger(later=later), Delay(latency_ms / 1000), Delay(HANG_S)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(ledger, soon=soon, late=late), sock=sock, backlog=1024
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until SIGTERM, or until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8900, help="where to listen on 127.0.0.1")
    parser.add_argument("--descriptor", type=int, help="a listening socket, inherited, instead of a port")
    parser.add_argument("--latency-ms", type=float, default=LATENCY_MS)
    parser.add_argument("--never-later", action="store_true", help="no 503")
    options = parser.parse_args()
    gc.set_threshold(_GC_THRESHOLD)
    if options.descriptor is not None:
        end_with_parent()
        sock = socket.socket(fileno=options.descriptor)
    else:
        sock = socket.create_server(("127.0.0.1", options.port), backlog=1024)
        sys.stderr.write(f"listening on 127.0.0.1:{options.port}\n")
    uvloop.run(serve(sock, latency_ms=options.latency_ms, later=not options.never_later))


if __name__ == "__main__":
    main()
