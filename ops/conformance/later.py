"""The checks of answers that come later: 202, callbacks, polls. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from backends.signature import SignatureProblem, verify
from ops.conformance.check import Checks
from ops.conformance.plan import Step
from ops.conformance.played import NOT_NOW, TAKEN, Heard, NotNeeded, NotTried, Played
from ops.conformance.reading import ACCEPTED, GOOD, OK, content_of, problems_of_results, said_of
from schemas.errors import ContractError
from schemas.ids import job_id
from schemas.result import DETAIL_CHARS_MAX
from workers.callback import read_callback

LATER: Final = Checks()
CALLBACK_PATH: Final = "/v1/callbacks/{platform}"
_SECTION: Final = "202-accepted-not-done"


@LATER.add("accepted-shape", section=_SECTION)
def _accepted_shape(played: Played) -> Iterator[str]:
    """An answer of 202 names a reference, and an instant with its offset where it says `expected_by`."""
    answers = [answer for answer in played.of(Step.FIRST) if answer.status == ACCEPTED]
    if not answers:
        raise NotNeeded("no call was answered 202")
    for answer in answers:
        content = content_of(answer) or {}
        reference = content.get("reference")
        if not isinstance(reference, str) or not 1 <= len(reference) <= DETAIL_CHARS_MAX:
            yield f"reference: expected a text of 1 to {DETAIL_CHARS_MAX} characters"
        if "expected_by" in content and not _is_instant(content["expected_by"]):
            yield "expected_by: expected an instant with its offset (RFC 3339)"


@LATER.add("accepted-channel", section=_SECTION)
def _accepted_channel(played: Played) -> Iterator[str]:
    """Who accepts has a way to answer later: the entry has `callback` or `poll`."""
    if not played.accepted():
        raise NotNeeded("nothing was accepted")
    if not played.platform.answers_later:
        yield "items were accepted, and the entry has neither callback nor poll: nobody can hear what becomes of them"


@LATER.add("accepted-answered", section=_SECTION)
def _accepted_answered(played: Played) -> Iterator[str]:
    """What was accepted is answered in the end."""
    accepted = played.accepted()
    if not accepted:
        raise NotNeeded("nothing was accepted")
    if not played.platform.answers_later:
        raise NotTried("the entry has neither callback nor poll")
    _needs_ear(played)
    missing = accepted.keys() - played.said_later().keys()
    if missing:
        yield f"{len(missing)} of {len(accepted)} accepted items had no outcome; wait longer with --wait"


@LATER.add("callback-address", section=_SECTION)
def _callback_address(played: Played) -> Iterator[str]:
    """Callbacks come to /v1/callbacks/ and the key of the entry."""
    expected = CALLBACK_PATH.format(platform=played.platform.key)
    if any(heard.path != expected for heard in _callbacks(played)):
        yield f"a callback came to another path than {expected}"


@LATER.add("callback-signature", section=_SECTION)
def _callback_signature(played: Played) -> Iterator[str]:
    """Every callback has a Standard Webhooks signature by the key of the entry, made now."""
    for heard in _callbacks(played):
        try:
            verify(played.callback_keys, heard.headers, heard.body, now=heard.at)
        except SignatureProblem as problem:
            yield str(problem)


@LATER.add("callback-body", section=_SECTION)
def _callback_body(played: Played) -> Iterator[str]:
    """A callback is one result, or a list of results, each about a job that was asked, with a code of the entry."""
    for heard in _callbacks(played):
        try:
            reading = read_callback(played.platform, heard.body)
        except ContractError as problem:
            yield str(problem)
            continue
        for wrong in reading.wrong:
            yield f"{wrong.field}: expected {wrong.expected}"
        sent = {key for answer in played.all() for key in answer.call.keys}
        strangers = [case for case in reading.said if job_id(case, played.platform.key) not in sent]
        if strangers:
            yield f"{len(strangers)} results with an id that was never sent"


@LATER.add("callback-again", section=_SECTION)
def _callback_again(played: Played) -> Iterator[str]:
    """A callback that was answered 503 comes again: with the same webhook-id, and the same body."""
    heard = _callbacks(played)
    turned_away = next((each for each in heard if each.status == NOT_NOW), None)
    if turned_away is None:
        raise NotTried("no callback was turned away")
    again = [each for each in heard if each is not turned_away and each.ident == turned_away.ident]
    if not again:
        yield "it did not come again; wait longer with --wait"
    elif again[0].body != turned_away.body:
        yield "it came again with another body"


@LATER.add("callback-once", section=_SECTION, must=False)
def _callback_once(played: Played) -> Iterator[str]:
    """A callback that was taken does not come again."""
    taken = [heard.ident for heard in _callbacks(played) if heard.status == TAKEN]
    if len(set(taken)) != len(taken):
        yield "a callback that was answered 2xx came again"


@LATER.add("poll", section=_SECTION)
def _poll(played: Played) -> Iterator[str]:
    """The poll address answers about accepted jobs as the endpoint does."""
    if played.platform.poll is None:
        raise NotNeeded("the entry has no poll")
    if not played.accepted():
        raise NotTried("nothing was accepted: let your test copy answer a number later")
    if Step.POLLED not in played.answers:
        raise NotTried("its first delay is longer than --wait")
    for answer in played.of(Step.POLLED):
        content = content_of(answer)
        if answer.status not in GOOD or content is None:
            yield said_of(played, answer)
        elif answer.status == OK:
            yield from problems_of_results(played.platform, content)


def _needs_ear(played: Played) -> None:
    if played.platform.callback is not None and played.platform.poll is None and not played.listened:
        raise NotTried("callbacks were not listened for: give --listen and --callback-url")


def _callbacks(played: Played) -> tuple[Heard, ...]:
    if played.platform.callback is None:
        raise NotNeeded("the entry has no callback")
    if not played.accepted():
        raise NotTried("nothing was accepted: let your test copy answer a number later")
    if not played.listened:
        raise NotTried("callbacks were not listened for: give --listen and --callback-url")
    if not played.heard:
        raise NotTried("no callback came; wait longer with --wait")
    return played.heard


def _is_instant(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
