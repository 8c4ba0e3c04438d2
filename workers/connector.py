"""Unbind protocol v1, seen from the dispatcher: what is sent, and what an answer means. Pure: no I/O, no clock.

`build_calls` makes the calls of a batch, `build_polls` those that ask later; `interpret` reads one answer to either,
`read_answer` one item. Whatever a platform sends, each job of the call gets exactly one entry; nothing but a code that
the catalogue maps makes an outcome (rule 4: delivery is not outcome).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final, assert_never

import orjson

from backends.manifests import Item
from backends.signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from backends.withdrawals import Cause
from platforms.model import Bearer, NoAuth, Platform, Refused, StandardWebhooks
from schemas.errors import ConfigurationError
from schemas.ids import derive, job_id, split_job_id
from schemas.number import mask_text
from schemas.outcome import Fault, Hold, Outcome, Reason, Refusal
from schemas.result import DETAIL_CHARS_MAX
from workers.transport import Answer, Call

USER_AGENT: Final = "number-renewal/0.1.0"
CODE_CHARS_MAX: Final = 64
_SECRETS_CACHED_MAX: Final = 2048
_TEXT_CHARS_READ_MAX: Final = 2 * DETAIL_CHARS_MAX
_REFUSALS: Final[dict[str, Refusal]] = {reason.value: reason for reason in Refusal}
_PROBLEM_FIELDS: Final = ("detail", "title", "message", "reason", "error")
_GROUPED_NUMBER: Final = re.compile(r"(1[3-9]\d)[\s.-]{1,2}(\d{4})[\s.-]{1,2}(\d{4})")
_MANY_DIGITS: Final = re.compile(r"(?:\d[\s.-]{0,2}){7}")
_DELAY_SECONDS: Final = re.compile(r"[0-9]{1,10}")
_BEARER_TOKEN: Final = re.compile(r"[!-~]+")
_OK: Final = 200
_ACCEPTED: Final = 202
_FAULT_OF_STATUS: Final[dict[int, Fault]] = {
    401: Fault.UNAUTHORIZED,
    403: Fault.UNAUTHORIZED,
    404: Fault.ENDPOINT_GONE,
    408: Fault.TIMEOUT,
    410: Fault.ENDPOINT_GONE,
    425: Fault.TOO_MANY_REQUESTS,
    429: Fault.TOO_MANY_REQUESTS,
}
# The first digit, for all other statuses. A 1xx or a 2xx of another kind is no answer of this protocol.
_FAULT_OF_CLASS: Final[dict[int, Fault]] = {3: Fault.REDIRECT, 4: Fault.REJECTED_REQUEST, 5: Fault.SERVER_ERROR}
_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": USER_AGENT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The platform said something about one job. Texts are masked, printable and at most 200 characters."""

    outcome: Outcome
    reason: Reason | None = None
    reference: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The call gave no answer for one job; `retry_after_s` is what the platform asked for, at least 0."""

    fault: Fault
    retry_after_s: float | None = None
    detail: str | None = None


Entry = Answered | Failed
_UNANSWERED: Final = Failed(fault=Fault.UNANSWERED)
# Nearly all answers are one of these, word for word.
_PLAIN: Final = {outcome: Answered(outcome=outcome) for outcome in Outcome}
# What goes into one call: its Idempotency-Key, the jobs that it carries, its body.
_Letter = tuple[str, tuple[str, ...], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpretation:
    """What one answer says: an entry for each idempotency key of the call, in its order."""

    results: Mapping[str, Entry]
    invented: int = 0  # items of the answer with an id that this call never sent


def build_calls(
    platform: Platform, batch: str, items: Sequence[Item], *, credentials: Sequence[str], now: datetime
) -> tuple[Call, ...]:
    """Return the calls that carry these jobs of a batch: one for each (json), or one for all of them (bulk-json).

    `credentials` are the resolved secrets in the order of `platform.call_refs`. Raises ConfigurationError for a
    secret that its scheme cannot use.
    """
    keys = tuple(job_id(item.job.case, platform.key) for item in items)
    # Put together from what was rendered once for all platforms: an id is letters, digits, a dot and dashes.
    told = [b'{"id":"%b",%b' % (key.encode(), item.rest) for key, item in zip(keys, items, strict=True)]
    letters: list[_Letter]
    match platform.protocol:
        case "json":
            letters = [(key, (key,), body) for key, body in zip(keys, told, strict=True)]
        case "bulk-json":
            letters = [(batch, keys, b'{"batch":"%b","items":[%b]}' % (batch.encode(), b",".join(told)))]
        case _:
            assert_never(platform.protocol)
    return tuple(_call(platform, letter, credentials=credentials, now=now) for letter in letters)


def build_withdrawal(
    platform: Platform, *, job: str, number: str, reference: str | None, credentials: Sequence[str], now: datetime,
    cause: Cause = Cause.NUMBER_RETURNED,
) -> Call:  # fmt: skip
    """Return the call that tells a platform with a `withdraw` address to leave one number alone, and why.

    `reference` is what the platform answered about the job. Raises ConfigurationError as `build_calls` does.
    """
    message = {"id": job, "case": split_job_id(job)[0], "number": number, "reference": reference, "cause": cause.value}
    call = _call(platform, (f"withdraw.{job}", (job,), orjson.dumps(message)), credentials=credentials, now=now)
    return replace(call, url=platform.withdraw or "")


def build_polls(
    platform: Platform, jobs: Mapping[str, str | None], *, message: str, credentials: Sequence[str], now: datetime
) -> tuple[Call, ...]:
    """Return the calls that ask a platform with a `poll` address about jobs that it has accepted; no number is in them.

    `jobs` are ids, each with the reference that the platform gave. `message` names this asking alone. Raises
    ConfigurationError as `build_calls` does.
    """
    asked = [{"id": job, "reference": reference} for job, reference in jobs.items()]
    letters: list[_Letter]
    match platform.protocol:
        case "json":
            letters = [
                (f"poll.{derive(message, job)}", (job,), orjson.dumps(body))
                for job, body in zip(jobs, asked, strict=True)
            ]
        case "bulk-json":
            letters = [(f"poll.{message}", tuple(jobs), orjson.dumps({"items": asked}))]
        case _:
            assert_never(platform.protocol)
    url = platform.poll.endpoint if platform.poll is not None else ""
    return tuple(replace(_call(platform, letter, credentials=credentials, now=now), url=url) for letter in letters)


def interpret(platform: Platform, answer: Answer, *, now: datetime) -> Interpretation:
    """Say what an answer means for each job of its call. Never raises, whatever the bytes.

    `now` is what a Retry-After date is held against where the answer has no date of its own.
    """
    keys = answer.call.keys
    if answer.fault or answer.status is None:
        return _for_all(keys, Failed(fault=answer.fault or Fault.UNANSWERED))
    if fault := fault_of_status(answer.status):
        wait_s = retry_after_s(answer.headers, now=now)
        return _for_all(keys, Failed(fault=fault, retry_after_s=wait_s, detail=_problem(answer)))
    content = _json_object(answer)
    if content is None:
        return _for_all(keys, _unreadable(f"HTTP {answer.status}: expected a JSON object as application/json"))
    if answer.status == _ACCEPTED:
        return _for_all(keys, _accepted(content))
    match platform.protocol:
        case "json":
            return _for_all(keys, read_answer(platform, content))
        case "bulk-json":
            return _interpret_bulk(platform, keys, content)
        case _:
            assert_never(platform.protocol)


def read_answer(platform: Platform, item: Mapping[str, Any]) -> Entry:
    """Read one `{"code", "reason"?, "reference"?}`. Only a code of the catalogue can end a job. Never raises."""
    code = item.get("code")
    if not isinstance(code, str):
        return _unreadable("no code in the answer")
    meaning = platform.outcomes.get(code)
    if meaning is None:
        detail = _shown(code)[:CODE_CHARS_MAX]
        return _answered(Outcome.PENDING_REVIEW, item, reason=Hold.UNKNOWN_CODE, detail=detail)
    return _mapped(meaning, item)


def fault_of_status(status: int) -> Fault | None:
    """Return the fault that an HTTP status stands for; None for 200 and 202, whose bodies say what happened."""
    if status in (_OK, _ACCEPTED):
        return None
    return _FAULT_OF_STATUS.get(status) or _FAULT_OF_CLASS.get(status // 100, Fault.UNREADABLE_ANSWER)


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Return the seconds that Retry-After asks for, in either form (RFC 9110 10.2.3); None if it is unreadable.

    A date is held against the answer's own Date, since the platform's clock may differ from ours, else against `now`.
    """
    value = headers.get("retry-after", "").strip()
    if _DELAY_SECONDS.fullmatch(value):
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    since = _http_date(headers.get("date", "")) or now
    return max(0.0, (until - since).total_seconds())


def _call(platform: Platform, letter: _Letter, *, credentials: Sequence[str], now: datetime) -> Call:
    ident, keys, body = letter
    headers = {**_HEADERS, "Idempotency-Key": ident}
    match platform.auth:
        case NoAuth():
            pass
        case Bearer():
            headers["Authorization"] = _bearer(*credentials)
        case StandardWebhooks():
            headers |= _signature(ident, body, secrets=credentials, now=now)
        case _:
            assert_never(platform.auth)
    return Call(url=platform.endpoint, headers=headers, body=body, timeout_s=platform.limits.timeout_s, keys=keys)


def _signature(ident: str, body: bytes, *, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    try:
        signature = sign(secrets, message_id=ident, timestamp=now, body=body)
    except ConfigurationError as error:
        raise ConfigurationError(f"auth.secret: {error}") from None
    return {ID_HEADER: ident, TIMESTAMP_HEADER: str(int(now.timestamp())), SIGNATURE_HEADER: signature}


@lru_cache(maxsize=_SECRETS_CACHED_MAX)
def _bearer(token: str) -> str:
    if not _BEARER_TOKEN.fullmatch(token):
        raise ConfigurationError("auth.token: expected a token of visible ASCII characters (RFC 6750 2.1)")
    return f"Bearer {token}"


def _interpret_bulk(platform: Platform, keys: tuple[str, ...], content: Mapping[str, Any]) -> Interpretation:
    results = content.get("results")
    if not isinstance(results, list):
        return _for_all(keys, _unreadable("expected results: a list"))
    entries: dict[str, Entry] = dict.fromkeys(keys, _UNANSWERED)
    invented = 0
    for item in results:
        key = item.get("id") if isinstance(item, dict) else None
        if not isinstance(key, str) or key not in entries:
            invented += 1
            continue
        entry = read_answer(platform, item)
        known = entries[key]
        if known is not _UNANSWERED and _meaning(known) != _meaning(entry):
            entry = _unreadable("two different answers for one id")
        entries[key] = entry
    return Interpretation(results=entries, invented=invented)


def _mapped(meaning: Outcome | Refused, item: Mapping[str, Any]) -> Answered:
    match meaning:
        case (Outcome.NO_BINDING | Outcome.UNBOUND | Outcome.BOUND_AFTER_CUTOFF) as clean:
            return _answered(clean, item)
        case Refused(REFUSED=reason):
            return _answered(Outcome.REFUSED, item, reason=reason, detail=_text(item.get("reason")))
        case Outcome.REFUSED:
            said = _text(item.get("reason"))
            listed = _REFUSALS.get(said or "")
            return _answered(Outcome.REFUSED, item, reason=listed or Refusal.OTHER, detail=None if listed else said)
        case Outcome.ACCEPTED:
            return _accepted(item)
        case (Outcome.NOT_SUPPORTED | Outcome.PENDING_REVIEW) as other:
            return _answered(other, item, detail=_text(item.get("reason")))
        case _:
            assert_never(meaning)


def _answered(
    outcome: Outcome, item: Mapping[str, Any], *, reason: Reason | None = None, detail: str | None = None
) -> Answered:
    reference = _text(item.get("reference"))
    if reason is None and reference is None and detail is None:
        return _PLAIN[outcome]
    return Answered(outcome=outcome, reason=reason, reference=reference, detail=detail)


def _accepted(content: Mapping[str, Any]) -> Answered:
    expected_by = _text(content.get("expected_by"))
    detail = f"expected by {expected_by}"[:DETAIL_CHARS_MAX] if expected_by else None
    reason = Hold.USER_ACTION if content.get("next") == "user" else None
    return _answered(Outcome.ACCEPTED, content, reason=reason, detail=detail)


def _meaning(entry: Entry) -> tuple[object, object]:
    """Return what two entries for one id must agree in."""
    match entry:
        case Answered():
            return entry.outcome, entry.reason
        case Failed():
            return entry.fault, None
        case _:
            assert_never(entry)


def _json_object(answer: Answer) -> dict[str, Any] | None:
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        return None
    try:
        content = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def _problem(answer: Answer) -> str:
    """Return the status and, where the body is JSON, the sentence in it (RFC 9457 or what people use instead)."""
    content = _json_object(answer) or {}
    sentence = next((text for name in _PROBLEM_FIELDS if (text := _text(content.get(name)))), None)
    return f"HTTP {answer.status}: {sentence}"[:DETAIL_CHARS_MAX] if sentence else f"HTTP {answer.status}"


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _text(value: object) -> str | None:
    """Return a platform's text as we keep it; None for what is no text."""
    return _shown(value) if isinstance(value, str) and value else None


def _shown(text: str) -> str:
    """Make a stranger's text fit to be kept: one printable line, short, and no full number in it (rule 8)."""
    text = text[:_TEXT_CHARS_READ_MAX]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    if _MANY_DIGITS.search(text):
        text = mask_text(_GROUPED_NUMBER.sub(r"\1\2\3", text))
    return text[:DETAIL_CHARS_MAX]


def _unreadable(detail: str) -> Failed:
    return Failed(fault=Fault.UNREADABLE_ANSWER, detail=detail)


def _for_all(keys: tuple[str, ...], entry: Entry) -> Interpretation:
    return Interpretation(results=dict.fromkeys(keys, entry))
