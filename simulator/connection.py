"""One client connection: HTTP/1.1 with keep-alive, one request after the other, on a raw asyncio protocol.

No framework: the fake world must cost less than the system that is tested against it.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

import httptools
from typing_extensions import override

from simulator.desk import BODY_BYTES_MAX, Call
from simulator.reply import Manner, Reply, problem_response

DRIP_INTERVAL_S: Final = 0.3
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends RST
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Reads requests, has them handled, and sends each reply when and how it asks to be sent.

    `before_send` runs before the first byte of a reply leaves. `open_connections` holds this one while it is open.
    """

    def __init__(
        self, handle: Callable[[Call], Reply], *, before_send: Callable[[], None], open_connections: set["Connection"]
    ) -> None:
        self._handle = handle
        self._before_send = before_send
        self._open = open_connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._reply: Reply | None = None
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._paused = False
        self._closing = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the new connection over."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a reply that nobody waits for any more; what the call did stays done."""
        self._open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._finish()

    @override
    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is not HTTP is answered once and the connection closed."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.abort()
        except httptools.HttpParserCallbackError:
            # Ours, not the client's: the loop shows it and closes the connection.
            raise
        except httptools.HttpParserError:
            self._transport.write(problem_response(400, "not an HTTP/1.1 request"))
            self._transport.close()

    @override
    def pause_writing(self) -> None:
        """Stop streaming until the client has read."""
        self._paused = True

    @override
    def resume_writing(self) -> None:
        """Go on streaming."""
        self._paused = False
        if self._reply is not None and self._reply.rest is not None:
            self._stream()

    def on_message_begin(self) -> None:
        """Start a request."""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Let a client go on that asked before it sends a large body."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; of one that is too large no more is kept than shows it."""
        if self._body_bytes <= BODY_BYTES_MAX:
            self._body.append(body)
            self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        """Handle the request, and plan its reply."""
        if self._reply is not None:
            # Pipelined: the dispatcher never does it, and answers would need an order here.
            self._transport.abort()
            return
        call = Call(
            method=self._parser.get_method(), target=self._target, headers=self._headers, body=b"".join(self._body)
        )
        self._closing = self._closing or not self._parser.should_keep_alive()
        self._reply = self._handle(call)
        if self._reply.delay_s > 0:
            self._timer = self._loop.call_later(self._reply.delay_s, self._send)
        else:
            self._send()

    def hurry(self) -> None:
        """Send what is planned now and close: the simulator is about to stop."""
        self._closing = True
        if self._reply is None:
            self._transport.close()
        elif self._reply.manner is Manner.WHOLE and self._reply.rest is None and self._timer is not None:
            self._timer.cancel()
            self._send()
        else:
            self._transport.abort()

    def abort(self) -> None:
        """Close without another word."""
        self._transport.abort()

    def _send(self) -> None:
        reply = self._reply
        if reply is None or self._transport.is_closing():
            return
        self._before_send()
        if reply.manner is Manner.RESET:
            self._reset()
        elif reply.manner is Manner.DRIP:
            self._drip(0)
        elif reply.rest is not None:
            self._transport.write(reply.payload)
            self._stream()
        else:
            self._transport.write(reply.payload)
            self._finish()

    def _reset(self) -> None:
        connection = cast("socket.socket", self._transport.get_extra_info("socket"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def _drip(self, position: int) -> None:
        if self._reply is None or self._transport.is_closing():
            return
        self._transport.write(self._reply.payload[position : position + 1])
        if position + 1 < len(self._reply.payload):
            self._timer = self._loop.call_later(DRIP_INTERVAL_S, self._drip, position + 1)
        else:
            self._finish()

    def _stream(self) -> None:
        """Write one chunk, and come back for the next when others had their turn."""
        if self._reply is None or self._reply.rest is None or self._paused or self._transport.is_closing():
            return
        chunk = next(self._reply.rest, b"")
        self._transport.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if chunk:
            self._timer = self._loop.call_soon(self._stream)
        else:
            self._finish()

    def _finish(self) -> None:
        """End the exchange: the next request may come, or the connection closes."""
        if self._reply is not None and self._reply.meter is not None:
            self._reply.meter.leave()
        self._reply = None
        self._timer = None
        if self._closing:
            self._transport.close()
