"""What stands in an answer, read more strictly than the dispatcher reads it. Pure."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from ops.conformance.plan import Step
from ops.conformance.played import NotTried, Played
from platforms.model import Platform
from schemas.outcome import Fault
from schemas.result import DETAIL_CHARS_MAX
from workers.connector import CODE_CHARS_MAX, Failed, interpret
from workers.transport import Answer

OK: Final = 200
ACCEPTED: Final = 202
GOOD: Final = frozenset({OK, ACCEPTED})
# Where an answer of these steps is good, it is read; of the others only the status counts.
_READ: Final = (Step.FIRST, Step.AGAIN, Step.SAME, Step.ROTATED, Step.FULL)
_WORDS: Final = {
    Fault.TIMEOUT: "no answer within limits.timeout_s",
    Fault.CONNECTION: "the connection was refused or broke",
    Fault.DNS: "the host has no address",
    Fault.TLS: "no TLS connection: certificate, name or version",
    Fault.PRIVATE_ADDRESS: "the address is private; for a trial set RENEWAL_PRIVATE_ENDPOINTS=allow",
    Fault.ANSWER_TOO_LARGE: "more than 4 MiB",
    Fault.UNREADABLE_ANSWER: "not HTTP",
}


def is_local(endpoint: str) -> bool:
    """Whether an endpoint is on this machine by its very name."""
    return urlsplit(endpoint).hostname in {"localhost", "127.0.0.1", "::1"}


def is_json(answer: Answer) -> bool:
    """Whether an answer says that it is JSON."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def content_of(answer: Answer) -> dict[str, Any] | None:
    """Return the JSON object of an answer, whatever it says that it is; None where there is none."""
    try:
        content = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def results_of(answer: Answer, *, single: bool = False) -> list[dict[str, Any]]:
    """Return the results of an answer that are objects."""
    content = content_of(answer) or {}
    results = [content] if single else content.get("results")
    return [result for result in results if isinstance(result, dict)] if isinstance(results, list) else []


def problems_of_results(platform: Platform, content: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the form of an answer of 200."""
    if platform.protocol == "json":
        yield from _problems_of_result(content, prefix="")
        return
    results = content.get("results")
    if not isinstance(results, list):
        yield "results: expected a list"
        return
    for place, result in enumerate(results):
        if not isinstance(result, dict):
            yield f"results.{place}: expected an object"
            continue
        if not isinstance(result.get("id"), str):
            yield f"results.{place}.id: expected the id of the item"
        yield from _problems_of_result(result, prefix=f"results.{place}.")


def said_of(played: Played, answer: Answer) -> str:
    """Return what became of a call that was not answered well, in words; a platform's own text comes masked."""
    if answer.fault is not None:
        return _WORDS.get(answer.fault, answer.fault.value)
    entries = interpret(played.platform, answer, now=played.ended_at).results.values()
    details = [entry.detail for entry in entries if isinstance(entry, Failed) and entry.detail]
    return details[0] if details else f"HTTP {answer.status}"


def _problems_of_result(result: dict[str, Any], *, prefix: str) -> Iterator[str]:
    code, reference = result.get("code"), result.get("reference")
    if not isinstance(code, str) or not 1 <= len(code) <= CODE_CHARS_MAX:
        yield f"{prefix}code: expected a text of 1 to {CODE_CHARS_MAX} characters"
    if reference is not None and not (isinstance(reference, str) and len(reference) <= DETAIL_CHARS_MAX):
        yield f"{prefix}reference: expected a text of at most {DETAIL_CHARS_MAX} characters"


def good(played: Played) -> Iterator[tuple[Step, Answer]]:
    """Yield the answers of 200 and 202 to good calls. Raises NotTried where there is none."""
    found = [(step, a) for step in _READ for a in played.answers.get(step, ()) if a.status in GOOD]
    if not found:
        raise NotTried("no call had an answer")
    yield from found
