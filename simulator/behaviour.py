"""Misbehaviour on demand: what a running simulator is told that a platform does, until it is told otherwise. Pure.

`POST /_control` with `{"platform": "acme" | "*", "behaviour": {"kind": …} | null}` sets it; null goes back to the
scenario. The docstring or comment of a kind says what has become of the call's effects.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.ids import PlatformKey
from simulator.reply import problem_response, too_many_response
from simulator.request import Rejected
from simulator.scenario import Fault

EVERY_PLATFORM: Final = "*"
# More than any client of ours reads of one answer.
HUGE_BYTES: Final = 5 * 1024 * 1024
_CASES_MAX: Final = 1000
_SECONDS_MAX: Final = 3600
# What a scenario can do to single calls, a behaviour does to all of them.
_FAULTS: Final = {
    "reset": Fault.RESET,
    "lost": Fault.LOST_ANSWER,
    "drip": Fault.SLOW_DRIP,
    "wrong_type": Fault.WRONG_TYPE,
    "left_out": Fault.LEFT_OUT,
    "invented": Fault.INVENTED,
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Plain(_Strict):
    """A kind that needs no more words; `left_out` and `invented` are nothing to a platform of single calls."""

    kind: Literal[
        "away",  # 503; nothing done
        "gone",  # 404; nothing done
        "reset",  # the connection is reset; nothing done
        "lost",  # the connection is reset; everything done
        "drip",  # one byte now and then; everything done
        "wrong_type",  # a true answer under a false content type; everything done
        "broken_json",  # the first half of a true answer; everything done
        "huge",  # a true answer that is too long to be read; everything done
        "invented",  # one item that was never sent stands in the answer; everything done
    ]


class Unauthorized(_Strict):
    """401 or 403, whatever the credentials; nothing done."""

    kind: Literal["unauthorized"]
    status: Literal[401, 403] = 401


class Throttle(_Strict):
    """429 with Retry-After; nothing done."""

    kind: Literal["throttle"]
    retry_after_s: Annotated[int, Field(ge=0, le=_SECONDS_MAX)] = 1


class Hang(_Strict):
    """No byte for a while, then the true answer; everything done when the call came."""

    kind: Literal["hang"]
    seconds: Annotated[float, Field(gt=0, le=_SECONDS_MAX)]


class LeftOut(_Strict):
    """A share of the items, rounded to one in n, is missing from the answer; everything done."""

    kind: Literal["left_out"]
    share: Annotated[float, Field(gt=0, le=1)] = 0.1


class RejectBatch(_Strict):
    """A call that carries one of `cases`, or of their job ids, is refused whole, nothing done; others are served."""

    kind: Literal["reject_batch"]
    status: Literal[400, 413, 422] = 422
    cases: Annotated[frozenset[str], Field(min_length=1, max_length=_CASES_MAX)]


class Later(_Strict):
    """202, and the true answer later, to a poll or by a callback; everything done when the call came.

    `callback` says how: `once`; `twice`, word for word and then once more under another id; `forged`, signed with
    another key before the true one; `contradicting`, another answer after the true one; `never`.
    """

    kind: Literal["later"]
    seconds: Annotated[float, Field(ge=0, le=_SECONDS_MAX)] = 2.0
    callback: Literal["once", "twice", "forged", "contradicting", "never"] = "once"


Behaviour = Annotated[
    Plain | Unauthorized | Throttle | Hang | LeftOut | RejectBatch | Later,
    Field(discriminator="kind"),
]


class Order(_Strict):
    """What `POST /_control` reads."""

    platform: PlatformKey | Literal["*"]
    behaviour: Behaviour | None


def read_order(body: bytes) -> Order:
    """Return what a body orders. Raises Rejected that names each wrong field, and no value."""
    try:
        return Order.model_validate_json(body)
    except ValidationError as error:
        shown = error.errors(include_input=False, include_url=False)
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in shown)
        raise Rejected(422, problems) from None


def concerns(behaviour: Behaviour, items: Iterable[tuple[str, str]]) -> bool:
    """Tell whether a call meets the behaviour; each of its items is given as job id and case."""
    if not isinstance(behaviour, RejectBatch):
        return True
    return any(case in behaviour.cases or ident in behaviour.cases for ident, case in items)


def refusal(behaviour: Behaviour, *, now_s: float, as_date: bool) -> bytes | None:
    """Return the response that turns a call away before it does anything, None where the call is carried out."""
    if isinstance(behaviour, Throttle):
        return too_many_response(now_s=now_s, as_date=as_date, after_s=behaviour.retry_after_s)
    if isinstance(behaviour, Unauthorized):
        return problem_response(behaviour.status, "not with these credentials")
    if isinstance(behaviour, RejectBatch):
        return problem_response(behaviour.status, "an item of this call cannot be read")
    if behaviour.kind == "away":
        return problem_response(503, "try again later")
    if behaviour.kind == "gone":
        return problem_response(404, "there is nothing here")
    return None


def fault_of(behaviour: Behaviour) -> Fault | None:
    """Return the fault of a scenario that is the same, if there is one."""
    return _FAULTS.get(behaviour.kind)


def spoiled(behaviour: Behaviour, body: bytes) -> bytes:
    """Return what becomes of the body of a true answer."""
    if behaviour.kind == "broken_json":
        return body[: len(body) // 2]
    return body.ljust(HUGE_BYTES) if behaviour.kind == "huge" else body


def delay_s(behaviour: Behaviour) -> float:
    """Return for how long nothing at all is answered."""
    return behaviour.seconds if isinstance(behaviour, Hang) else 0.0


def left_out_every(behaviour: Behaviour) -> int | None:
    """Return n where one item in n is left out of an answer, None where the scenario decides."""
    return max(1, round(1 / behaviour.share)) if isinstance(behaviour, LeftOut) else None
