"""The checks of how an endpoint answers: connection, time, size and form. Pure."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from ops.conformance.check import Checks
from ops.conformance.plan import Step
from ops.conformance.played import NotNeeded, NotTried, Played
from ops.conformance.reading import (
    GOOD,
    OK,
    content_of,
    good,
    is_json,
    is_local,
    problems_of_results,
    results_of,
    said_of,
)
from schemas.outcome import Fault
from workers.connector import Failed, interpret, retry_after_s

FORM: Final = Checks()
_ANSWER: Final = "what-you-get-and-what-you-answer"
_MEANING: Final = "what-the-dispatcher-does-with-your-answer"
_LIMITS: Final = "limits"
_AUTH: Final = "authentication"
_LATER: Final = frozenset({429, 503})
_REDIRECTS: Final = range(300, 400)
_WRONG_REQUEST: Final = frozenset({400, 413, 415, 422})
_CERTIFICATE_LEFT: Final = timedelta(days=14)


@FORM.add("answered", section=_MEANING)
def _answered(played: Played) -> Iterator[str]:
    """A good call is answered 200 or 202."""
    for answer in played.of(Step.FIRST):
        if answer.status not in GOOD:
            yield said_of(played, answer)


@FORM.add("tls", section=_AUTH)
def _tls(played: Played) -> Iterator[str]:
    """HTTPS with TLS 1.2 or newer and a certificate of a public authority that does not end within two weeks."""
    if urlsplit(played.platform.endpoint).scheme == "http":
        if is_local(played.platform.endpoint):
            raise NotNeeded("plain HTTP on this machine: good for a trial, never for a real platform")
        yield "the endpoint is http: numbers would travel in the open"
    elif played.handshake is None:
        raise NotTried("no TLS connection was looked at")
    elif played.handshake.problem:
        yield played.handshake.problem
    elif played.handshake.expires_at and played.handshake.expires_at - played.ended_at < _CERTIFICATE_LEFT:
        yield f"the certificate ends at {played.handshake.expires_at.isoformat()}"


@FORM.add("no-redirect", section=_MEANING)
def _no_redirect(played: Played) -> Iterator[str]:
    """No call is answered with a redirect: none is followed."""
    for answer in played.all():
        if answer.status in _REDIRECTS:
            yield f"HTTP {answer.status}: put the address that it leads to into the entry"


@FORM.add("in-time", section=_LIMITS)
def _in_time(played: Played) -> Iterator[str]:
    """Every answer is there, to its last byte, within limits.timeout_s."""
    for step, answers in played.answers.items():
        if any(answer.fault is Fault.TIMEOUT for answer in answers):
            yield f"{step}: no whole answer within {played.platform.limits.timeout_s:g} s"


@FORM.add("answer-size", section=_LIMITS)
def _answer_size(played: Played) -> Iterator[str]:
    """No answer is larger than 4 MiB."""
    for step, answers in played.answers.items():
        if any(answer.fault is Fault.ANSWER_TOO_LARGE for answer in answers):
            yield f"{step}: more than 4 MiB"


@FORM.add("content-type", section=_MEANING)
def _content_type(played: Played) -> Iterator[str]:
    """An answer of 200 or 202 is application/json."""
    for step, answer in good(played):
        if not is_json(answer):
            yield f"{step}: Content-Type: expected application/json"


@FORM.add("json-object", section=_ANSWER)
def _json_object(played: Played) -> Iterator[str]:
    """An answer of 200 or 202 is one whole JSON object."""
    for step, answer in good(played):
        if content_of(answer) is None:
            yield f"{step}: the body is no JSON object"


@FORM.add("shape", section=_ANSWER)
def _shape(played: Played) -> Iterator[str]:
    """Each result has a code of at most 64 characters; in bulk-json it stands in `results`, with its id."""
    for step, answer in good(played):
        content = content_of(answer)
        if answer.status == OK and content is not None:
            for problem in problems_of_results(played.platform, content):
                yield f"{step}: {problem}"


@FORM.add("complete", section=_ANSWER)
def _complete(played: Played) -> Iterator[str]:
    """Every item of a call has a result."""
    for step in (Step.FIRST, Step.AGAIN, Step.FULL):
        if step in played.answers:
            entries = played.entries(step).values()
            left_out = sum(isinstance(entry, Failed) and entry.fault is Fault.UNANSWERED for entry in entries)
            if left_out:
                yield f"{step}: {left_out} of {len(entries)} items have no result"


@FORM.add("nothing-invented", section=_ANSWER)
def _nothing_invented(played: Played) -> Iterator[str]:
    """No result has an id that the call did not carry."""
    for step, answer in good(played):
        invented = interpret(played.platform, answer, now=played.ended_at).invented
        if invented:
            yield f"{step}: {invented} results with an id that was not sent"


@FORM.add("one-result-each", section=_ANSWER)
def _one_result_each(played: Played) -> Iterator[str]:
    """No id has two results that differ."""
    if played.platform.protocol == "json":
        raise NotNeeded("a call of json has one item")
    for step, answer in good(played):
        codes: dict[object, set[object]] = {}
        for result in results_of(answer):
            codes.setdefault(str(result.get("id")), set()).add(str(result.get("code")))
        several = sum(len(found) > 1 for found in codes.values())
        if several:
            yield f"{step}: {several} ids have two different results"


@FORM.add("no-number-back", section=_ANSWER)
def _no_number_back(played: Played) -> Iterator[str]:
    """No answer, and no error either, repeats a phone number."""
    sent = [asked.item.number.removeprefix("+86").encode() for asked in played.asked]
    known = re.compile(rb"|".join(map(re.escape, sent)))
    for step, answers in played.answers.items():
        if any(known.search(re.sub(rb"[\s.-]", b"", answer.body)) for answer in answers):
            yield f"{step}: a number that was sent stands in the answer"


@FORM.add("unknown-field", section=_ANSWER, must=False)
def _unknown_field(played: Played) -> Iterator[str]:
    """A field that you do not know is ignored, or the call is refused as wrong; it breaks nothing."""
    for answer in played.of(Step.UNKNOWN_FIELD):
        if answer.status not in GOOD | _WRONG_REQUEST:
            yield said_of(played, answer)


@FORM.add("broken-body", section=_MEANING, must=False)
def _broken_body(played: Played) -> Iterator[str]:
    """Half a body, well signed, is refused with 400, 413, 415 or 422."""
    for answer in played.of(Step.BROKEN_BODY):
        if answer.status not in _WRONG_REQUEST:
            yield said_of(played, answer)


@FORM.add("problem-form", section=_MEANING, must=False)
def _problem_form(played: Played) -> Iterator[str]:
    """Errors are application/problem+json with a title (RFC 9457)."""
    for step, answers in played.answers.items():
        for answer in answers:
            if answer.status is not None and answer.status >= min(_WRONG_REQUEST):
                content = content_of(answer) if "problem+json" in answer.headers.get("content-type", "") else None
                if not isinstance((content or {}).get("title"), str):
                    yield f"{step}: HTTP {answer.status} without a problem"


@FORM.add("full-batch", section=_LIMITS)
def _full_batch(played: Played) -> Iterator[str]:
    """A call of limits.items_per_call items is answered within limits.timeout_s."""
    if played.platform.protocol == "json":
        raise NotNeeded("a call of json has one item")
    for answer in played.of(Step.FULL):
        if answer.status not in GOOD:
            yield f"{len(answer.call.keys)} items: {said_of(played, answer)}"


@FORM.add("too-many-calls", section=_LIMITS, must=False)
def _too_many_calls(played: Played) -> Iterator[str]:
    """Twice the calls that the entry allows are served, or told 429: nothing breaks."""
    for answer in played.of(Step.BURST):
        if answer.status not in GOOD | _LATER:
            yield said_of(played, answer)


@FORM.add("retry-after", section=_MEANING, must=False)
def _retry_after(played: Played) -> Iterator[str]:
    """429 and 503 carry Retry-After, in seconds or as an HTTP-date."""
    turned_away = [answer for answer in played.all() if answer.status in _LATER]
    if not turned_away:
        raise NotNeeded("no call was turned away")
    for answer in turned_away:
        if retry_after_s(answer.headers, now=played.ended_at) is None:
            yield f"HTTP {answer.status}: Retry-After is missing, or neither seconds nor a date"
