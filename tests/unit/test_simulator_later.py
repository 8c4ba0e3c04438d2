"""Answers that a pretended platform gives later: 202 first, then the truth, by poll or by signed callback."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from backends.signature import SignatureProblem, verify
from platforms.model import Platform
from schemas.ids import derive, job_id
from schemas.outcome import Outcome
from simulator.desk import Call, Desk
from simulator.later import Letter
from simulator.scenario import Scenario
from simulator.server import Simulator
from tests.simulated import SECRET, answer, bulk, call, item, number, numbers_where, platform, simulator

LATER: dict[str, Any] = {"kind": "later", "seconds": 5}
CALLBACK = {"secret": "env:CALLBACK"}


def entry(**fields: Any) -> Platform:
    """A platform that can answer later in both ways."""
    return platform(callback=CALLBACK, poll={"endpoint": "https://acme.example/v1/polls"}, **fields)


def order(pretended: Simulator, **behaviour: object) -> None:
    """Let the platform answer later."""
    body = orjson.dumps({"platform": "acme", "behaviour": LATER | behaviour})
    reply = pretended.handle(Call(method=b"POST", target=b"/_control", headers={}, body=body))
    assert 200 == answer(reply.payload)[0]


def desk_of(pretended: Simulator) -> Desk:
    """The platform's desk, with a clock that tests turn."""
    return pretended._desks[b"acme"]


def at(pretended: Simulator, seconds: float) -> None:
    """Turn its clock."""
    desk_of(pretended)._clock = lambda: seconds


def poll(pretended: Simulator, known: Platform, *cases: str) -> tuple[int, Any]:
    """Ask for answers."""
    asked = [{"id": job_id(case, "acme"), "reference": None} for case in cases]
    body: Any = asked[0] if known.protocol == "json" else {"items": asked}
    headers = {b"content-type": b"application/json", b"idempotency-key": b"poll.x"}
    made = Call(method=b"POST", target=b"/acme/v1/polls", headers=headers, body=orjson.dumps(body))
    return answer(pretended.handle(made).payload)


def signed_by(letter: Letter, *, now_s: float) -> bool:
    """Whether the platform's own key has signed it."""
    headers = {name.lower(): value for name, value in letter.headers.items()}
    try:
        verify([SECRET], headers, letter.body, now=datetime.fromtimestamp(now_s, UTC))
    except SignatureProblem:
        return False
    return True


@pytest.mark.parametrize("protocol", ["json", "bulk-json"])
def test_a_job_is_accepted_decided_and_told_later(protocol: str) -> None:
    """202 tells nothing; the same truth comes by poll and by callback, and the effect is there once."""
    known = entry(protocol=protocol)
    pretended = simulator(known)
    at(pretended, 100.0)
    order(pretended)
    (of,) = numbers_where(known, lambda outcome: outcome is Outcome.UNBOUND)
    one = item(known, of)
    body = one if protocol == "json" else bulk([one])
    status, said = answer(pretended.handle(call(known, body)).payload)
    assert (202, {"reference"}) == (status, set(said))
    assert 1 == pretended.ledger.effects
    assert [] == pretended.letters()
    empty: tuple[int, Any] = (202, {}) if protocol == "json" else (200, {"results": []})
    assert empty == poll(pretended, known, one["case"])
    at(pretended, 105.0)
    status, said = poll(pretended, known, one["case"])
    told = said if protocol == "json" else said["results"][0]
    assert (200, one["id"], "UNBOUND") == (status, told["id"], told["code"])
    (letter,) = pretended.letters()
    assert (one["id"], "UNBOUND") == (orjson.loads(letter.body)["id"], orjson.loads(letter.body)["code"])
    assert signed_by(letter, now_s=105)
    assert [] == pretended.letters()
    assert 1 == pretended.ledger.effects


@pytest.mark.parametrize(
    ("manner", "signed", "ids", "bodies"),
    [
        ("once", [True], 1, 1),
        ("twice", [True, True, True], 2, 1),
        ("forged", [False, True], 2, 2),
        ("contradicting", [True, True], 2, 2),
        ("never", [], 0, 0),
    ],
)
def test_callbacks_misbehave_as_ordered(manner: str, signed: list[bool], ids: int, bodies: int) -> None:
    """So that a dispatcher can be shown each kind of wrong."""
    known = entry()
    pretended = simulator(known)
    at(pretended, 100.0)
    order(pretended, callback=manner)
    pretended.handle(call(known, item(known, number(5))))
    at(pretended, 105.0)
    letters = pretended.letters()
    assert signed == [signed_by(letter, now_s=105) for letter in letters]
    assert ids == len({letter.headers["webhook-id"] for letter in letters})
    assert bodies == len({letter.body for letter in letters})


def test_a_call_that_comes_again_is_told_once() -> None:
    """A repeat of a call is not another job."""
    known = entry()
    pretended = simulator(known)
    at(pretended, 100.0)
    order(pretended)
    for _ in range(2):
        pretended.handle(call(known, item(known, number(5))))
    at(pretended, 106.0)
    assert 1 == len(pretended.letters())


def test_a_share_of_calls_is_deferred_where_an_answer_can_come_later() -> None:
    """By the plan, the same calls each time; a platform without such a way answers at once."""
    plan = Scenario(name="half", deferred_share=0.5, latency_ratio=0.0)
    for known, expected in ((entry(), range(70, 131)), (platform(), range(1))):
        pretended = simulator(known, scenario=plan)
        calls = [call(known, item(known, number(n), case=derive(str(n)))) for n in range(200)]
        first, second = ([answer(pretended.handle(each).payload)[0] for each in calls] for _ in range(2))
        assert first == second
        assert Counter(first)[202] in expected


@pytest.mark.parametrize("body", [b"{}", b'{"items": []}', b'{"items": [{"id": "x", "reference": null}]}'])
def test_a_poll_that_the_protocol_forbids_is_refused(body: bytes) -> None:
    """The simulator is strict: what it takes, a real platform takes."""
    pretended = simulator(entry(protocol="bulk-json"))
    headers = {b"content-type": b"application/json", b"idempotency-key": b"poll.x"}
    made = Call(method=b"POST", target=b"/acme/v1/polls", headers=headers, body=body)
    assert 422 == answer(pretended.handle(made).payload)[0]
