"""What the dispatcher may send: the bodies of Unbind protocol v1, read strictly."""

from typing import Annotated, Final, Literal

from pydantic import (
    AwareDatetime,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from platforms.model import Platform
from schemas.batch import Basis
from schemas.ids import BatchId, CaseId, job_id, split_job_id

Number = Annotated[str, StringConstraints(pattern=r"^\+861[3-9][0-9]{9}$")]
_PROBLEMS_SHOWN_MAX: Final = 5
_STRICT: Final = ConfigDict(extra="forbid", strict=True)


class Rejected(Exception):
    """A body that the protocol forbids; carries the HTTP status and one sentence without any value of the body."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


@with_config(_STRICT)
class Item(TypedDict):
    """One job as a platform sees it."""

    id: str
    case: CaseId
    number: Number
    cutoff_at: AwareDatetime
    basis: Basis


@with_config(_STRICT)
class _Withdrawal(TypedDict):
    id: str
    case: CaseId
    number: Number
    reference: str | None
    cause: Literal["number_returned", "authorisation_withdrawn"]


@with_config(_STRICT)
class _Asked(TypedDict):
    id: str
    reference: str | None


@with_config(_STRICT)
class _Poll(TypedDict):
    items: Annotated[list[_Asked], Field(min_length=1)]


@with_config(_STRICT)
class _Bulk(TypedDict):
    batch: BatchId
    items: Annotated[list[Item], Field(min_length=1)]


# Plain dicts, not models: a call of 500 items costs the collector nothing then.
_ITEM: Final = TypeAdapter(Item)
_BULK: Final = TypeAdapter(_Bulk)
_WITHDRAWAL: Final = TypeAdapter(_Withdrawal)
_ASKED: Final = TypeAdapter(_Asked)
_POLL: Final = TypeAdapter(_Poll)


def read_request(platform: Platform, body: bytes, *, key: str | None) -> list[Item]:
    """Return the items of a call whose header `Idempotency-Key` is `key`. Raises Rejected."""
    try:
        if platform.protocol == "json":
            items = [_ITEM.validate_json(body)]
            name = items[0]["id"]
        else:
            bulk = _BULK.validate_json(body)
            name, items = bulk["batch"], bulk["items"]
    except ValidationError as error:
        raise Rejected(422, _problems(error)) from None
    if key != name:
        raise Rejected(422, "Idempotency-Key: expected the id (json) or the batch (bulk-json) of the body")
    _check_items(platform, items)
    return items


def read_withdrawal(platform: Platform, body: bytes, *, key: str | None) -> str:
    """Return the job that is withdrawn. Raises Rejected."""
    try:
        found = _WITHDRAWAL.validate_json(body)
    except ValidationError as error:
        raise Rejected(422, _problems(error)) from None
    if found["id"] != job_id(found["case"], platform.key):
        raise Rejected(422, "id: expected the case, a dot and the platform's key")
    if key != f"withdraw.{found['id']}":
        raise Rejected(422, "Idempotency-Key: expected withdraw. and the id of the body")
    return found["id"]


def read_poll(platform: Platform, body: bytes) -> list[str]:
    """Return the cases that are asked about. Raises Rejected."""
    try:
        asked = [_ASKED.validate_json(body)] if platform.protocol == "json" else _POLL.validate_json(body)["items"]
    except ValidationError as error:
        raise Rejected(422, _problems(error)) from None
    jobs = [_case_at(platform, item["id"]) for item in asked]
    if len(set(jobs)) != len(jobs):
        raise Rejected(422, "items: the same id twice in one call")
    return jobs


def _case_at(platform: Platform, job: str) -> str:
    try:
        case, key = split_job_id(job)
    except ValueError:
        raise Rejected(422, "id: expected the case, a dot and the platform's key") from None
    if key != platform.key:
        raise Rejected(422, "id: expected the case, a dot and the platform's key")
    return case


def _problems(error: ValidationError) -> str:
    shown = error.errors(include_input=False, include_url=False)[:_PROBLEMS_SHOWN_MAX]
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in shown)


def _check_items(platform: Platform, items: list[Item]) -> None:
    """Hold the whole to the catalogue entry; that each item is well formed is known."""
    if platform.protocol == "bulk-json" and len(items) > platform.limits.items_per_call:
        raise Rejected(413, f"items: {len(items)}, this platform takes {platform.limits.items_per_call} a call")
    if len({item["case"] for item in items}) != len(items):
        raise Rejected(422, "items: the same id twice in one call")
    ending = job_id("", platform.key)
    if any([item["id"] != item["case"] + ending for item in items]):  # noqa: C419 - a list is faster, and all are read
        raise Rejected(422, "id: expected the case, a dot and the platform's key")
