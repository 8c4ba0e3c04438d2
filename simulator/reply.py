"""What goes back over the wire, as bytes, and in which manner."""

from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from math import ceil
from typing import Final

import orjson

from simulator.meter import Meter

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"
HTML: Final = b"text/html; charset=utf-8"
_PAGE: Final = b"<!doctype html><title>%s</title><h1>%s</h1><p>Simulated by number-renewal.</p>\n"
_RETRY_AFTER_S: Final = 1
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


class Manner(Enum):
    """How a reply is sent."""

    WHOLE = "whole"
    RESET = "reset"
    DRIP = "drip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Bytes of a response, and when and how they are sent; `meter` hears when the call is over.

    With `rest` the body goes on, chunk by chunk, as fast as the client reads.
    """

    payload: bytes = b""
    manner: Manner = Manner.WHOLE
    delay_s: float = 0.0
    meter: Meter | None = None
    rest: Iterator[bytes] | None = None


def response(status: int, body: bytes, *, content_type: bytes = JSON, headers: bytes = b"") -> bytes:
    """Return a whole HTTP/1.1 response; `headers` are finished lines."""
    return b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s" % (
        status,
        _PHRASES[status],
        content_type,
        len(body),
        headers,
        body,
    )


def json_response(status: int, content: object) -> bytes:
    """Return a response whose body is `content` as JSON."""
    return response(status, orjson.dumps(content))


def problem_response(status: int, title: str, *, headers: bytes = b"") -> bytes:
    """Return an error that says in one sentence what is wrong (RFC 9457)."""
    return response(status, orjson.dumps({"title": title, "status": status}), content_type=PROBLEM, headers=headers)


def page_response(status: int) -> bytes:
    """Return what a proxy in front of a platform says: a page for people."""
    phrase = _PHRASES[status]
    return response(status, _PAGE % (phrase, phrase), content_type=HTML)


def too_many_response(*, now_s: float, as_date: bool, after_s: int = _RETRY_AFTER_S) -> bytes:
    """Return a 429 that asks for `after_s` of rest, as an HTTP-date or as delta-seconds."""
    after = formatdate(ceil(now_s + after_s), usegmt=True) if as_date else str(after_s)
    return problem_response(429, "too many requests", headers=b"Retry-After: %s\r\n" % after.encode())


def stream_head(content_type: bytes) -> bytes:
    """Return the head of a response whose body follows in chunks."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % content_type
