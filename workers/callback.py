"""A callback, seen from the dispatcher: what a platform says later about its own jobs, item by item. Pure.

Only the bytes of the body are read here; that they are the platform's own was checked before (`backends.signature`). An
item that cannot be taken is named with what was expected, never with what it said, and the others are taken.
"""

from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import orjson

from platforms.model import Platform
from schemas.errors import ContractError
from schemas.ids import split_job_id
from schemas.outcome import Outcome, Refusal
from workers.connector import CODE_CHARS_MAX, Answered, read_answer

ITEMS_MAX: Final = 1000
_FIELDS: Final = frozenset({"id", "code", "reason", "reference", "next"})
_OWNER: Final = "user"  # the number's owner has to act next
_TEXTS: Final = ("reason", "reference")


class Why(StrEnum):
    """Why a callback, or an item of it, was refused."""

    NO_CHANNEL = "no_channel"  # no such platform, or it does not call back
    SIGNATURE = "signature"  # forged, altered, too old, or signed with another key
    REPLAYED = "replayed"  # the id of another callback that was taken before
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"  # not a callback of this protocol
    ITEM = "item"  # an item that is not of this protocol
    FOREIGN = "foreign"  # not a job of this platform
    NO_REASON = "no_reason"  # REFUSED without a reason of the list (requirement 11)
    CONTRADICTORY = "contradictory"  # two different answers for one id


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """One item that cannot be taken: its field, and what was expected."""

    field: str
    why: Why
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one callback says: an answer for each case, the field in which each was named, and what cannot be taken."""

    said: Mapping[str, Answered]
    fields: Mapping[str, str]
    wrong: tuple[Wrong, ...]

    def only(self, known: Container[str]) -> "Reading":
        """Return it without the answers about jobs that nobody knows."""
        foreign = tuple(_foreign(self.fields[case]) for case in self.said if case not in known)
        left = {case: answer for case, answer in self.said.items() if case in known}
        return replace(self, said=left, wrong=self.wrong + foreign)


def read_callback(platform: Platform, body: bytes) -> Reading:
    """Return what a body says. Raises ContractError, which repeats nothing of it, for a body that is no callback."""
    said: dict[str, dict[str, Answered]] = defaultdict(dict)
    fields: dict[str, str] = {}
    wrong: list[Wrong] = []
    for place, item in _items(body):
        found = _read(platform, item, place=place)
        if isinstance(found, Wrong):
            wrong.append(found)
            continue
        case, answer = found
        fields.setdefault(case, f"{place}id")
        said[case].setdefault(repr((answer.outcome, answer.reason)), answer)
    wrong += [
        Wrong(field=fields[case], why=Why.CONTRADICTORY, expected="one answer for each id; there are several")
        for case, answers in said.items()
        if len(answers) > 1
    ]
    taken = {case: next(iter(answers.values())) for case, answers in said.items() if len(answers) == 1}
    return Reading(said=taken, fields=fields, wrong=tuple(wrong))


def _items(body: bytes) -> list[tuple[str, Any]]:
    """Return the items, each with what stands before the names of its fields."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ContractError("body: expected JSON") from None
    if not isinstance(content, dict):
        raise ContractError("body: expected one result, or an object with results")
    if "results" not in content:
        return [("", content)]
    results = content["results"]
    if len(content) > 1 or not isinstance(results, list) or not results:
        raise ContractError("results: expected a list of results, and nothing beside it")
    if len(results) > ITEMS_MAX:
        raise ContractError(f"results: expected at most {ITEMS_MAX} items")
    return [(f"results.{index}.", item) for index, item in enumerate(results)]


def _read(platform: Platform, item: Any, *, place: str) -> tuple[str, Answered] | Wrong:
    malformed = _malformed(item, place=place)
    if malformed is not None:
        return malformed
    try:
        case, key = split_job_id(str(item.get("id")))
    except ValueError:
        return Wrong(field=f"{place}id", why=Why.ITEM, expected="the id of a job, as it was sent")
    if key != platform.key:
        return _foreign(f"{place}id")
    if platform.outcomes.get(item["code"]) is Outcome.REFUSED and item.get("reason") not in set(Refusal):
        return Wrong(field=f"{place}reason", why=Why.NO_REASON, expected=f"one of {', '.join(Refusal)}")
    answer = read_answer(platform, item)
    assert isinstance(answer, Answered), "an item with a code is an answer"  # noqa: S101 - read_answer promises it
    return case, answer


def _malformed(item: Any, *, place: str) -> Wrong | None:
    """Return what is wrong with the form of an item, None if nothing is."""
    whole = place.rstrip(".") or "body"
    if not isinstance(item, dict):
        return Wrong(field=whole, why=Why.ITEM, expected="an object with id and code")
    if item.keys() - _FIELDS:
        # The name of an unknown field is the sender's text: it is not repeated.
        return Wrong(field=whole, why=Why.ITEM, expected="no fields but id, code, reason, reference and next")
    code = item.get("code")
    if not isinstance(code, str) or not 1 <= len(code) <= CODE_CHARS_MAX:
        return Wrong(field=f"{place}code", why=Why.ITEM, expected=f"a text of 1 to {CODE_CHARS_MAX} characters")
    for name in _TEXTS:
        if not isinstance(item.get(name, ""), str):
            return Wrong(field=f"{place}{name}", why=Why.ITEM, expected="a text")
    if item.get("next", _OWNER) != _OWNER:
        return Wrong(field=f"{place}next", why=Why.ITEM, expected=_OWNER)
    return None


def _foreign(field: str) -> Wrong:
    # The same words for the job of another platform and for none at all: nobody finds out which ids there are.
    return Wrong(field=field, why=Why.FOREIGN, expected="a job of this platform")
