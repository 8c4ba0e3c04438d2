from typing import Any

import orjson
import pytest

from platforms.model import Platform
from schemas.outcome import Outcome
from simulator.behaviour import HUGE_BYTES
from simulator.desk import Call
from simulator.reply import Manner, Reply
from simulator.scenario import Fault
from simulator.server import Simulator
from tests.simulated import always, answer, bulk, call, item, number, numbers_where, platform, simulator
from workers.transport import BODY_BYTES_MAX

SINGLE = platform()
BULK = platform("many", protocol="bulk-json", limits={"items_per_call": 50})
REFUSALS = [
    ({"kind": "away"}, 503),
    ({"kind": "gone"}, 404),
    ({"kind": "unauthorized"}, 401),
    ({"kind": "unauthorized", "status": 403}, 403),
    ({"kind": "throttle", "retry_after_s": 7}, 429),
]
WITH_EFFECT = ["lost", "drip", "wrong_type", "broken_json", "huge"]


def _order(sim: Simulator, key: str, behaviour: object) -> tuple[int, Any]:
    body = orjson.dumps({"platform": key, "behaviour": behaviour})
    return answer(sim.handle(Call(method=b"POST", target=b"/_control", headers={}, body=body)).payload)


def _bound(entry: Platform) -> dict[str, str]:
    return item(entry, numbers_where(entry, lambda outcome: outcome is Outcome.UNBOUND)[0])


def _ask(sim: Simulator, entry: Platform, sent: dict[str, str]) -> Reply:
    return sim.handle(call(entry, sent if entry.protocol == "json" else bulk([sent])))


@pytest.mark.parametrize(("behaviour", "status"), REFUSALS)
def test_a_call_that_is_turned_away_has_no_effect(behaviour: dict[str, object], status: int) -> None:
    """A test that blames the dispatcher for a lost effect must know that there was none."""
    sim = simulator(SINGLE)
    assert 200 == _order(sim, "acme", behaviour)[0]
    reply = _ask(sim, SINGLE, _bound(SINGLE))
    assert status == answer(reply.payload)[0]
    assert 0 == len(sim.ledger) == sim.ledger.effects


def test_a_reset_has_no_effect() -> None:
    """A connection that is cut before the platform read anything changed nothing there."""
    sim = simulator(SINGLE)
    _order(sim, "acme", {"kind": "reset"})
    assert Manner.RESET is _ask(sim, SINGLE, _bound(SINGLE)).manner
    assert 0 == len(sim.ledger)


@pytest.mark.parametrize("kind", WITH_EFFECT)
@pytest.mark.parametrize("entry", [SINGLE, BULK], ids=["json", "bulk-json"])
def test_a_spoilt_answer_comes_after_the_effect(entry: Platform, kind: str) -> None:
    """The call has happened: whoever does not understand the answer must ask again under the same key."""
    sim = simulator(entry)
    sent = _bound(entry)
    _order(sim, entry.key, {"kind": kind})
    _ask(sim, entry, sent)
    assert 1 == sim.ledger.effects
    _order(sim, entry.key, None)
    status, said = answer(_ask(sim, entry, sent).payload)
    result = said if entry.protocol == "json" else said["results"][0]
    assert (200, "UNBOUND", 1) == (status, result["code"], sim.ledger.effects)


def test_broken_json_cannot_be_parsed() -> None:
    """Half an answer that still parses would be no fault at all."""
    sim = simulator(SINGLE)
    _order(sim, "acme", {"kind": "broken_json"})
    with pytest.raises(orjson.JSONDecodeError):
        answer(_ask(sim, SINGLE, _bound(SINGLE)).payload)


def test_a_huge_answer_is_longer_than_the_dispatcher_reads() -> None:
    """The cap on an answer's size is tried only by one that is above it."""
    sim = simulator(SINGLE)
    _order(sim, "acme", {"kind": "huge"})
    assert HUGE_BYTES > BODY_BYTES_MAX
    assert HUGE_BYTES < len(_ask(sim, SINGLE, _bound(SINGLE)).payload)


def test_a_hanging_platform_acts_at_once_and_answers_late() -> None:
    """The worst time-out is the one after which everything is done."""
    sim = simulator(SINGLE)
    _order(sim, "acme", {"kind": "hang", "seconds": 30})
    reply = _ask(sim, SINGLE, _bound(SINGLE))
    assert 30 == reply.delay_s
    assert 200 == answer(reply.payload)[0]
    assert 1 == sim.ledger.effects


def test_retry_after_is_the_ordered_one() -> None:
    """A test of patience needs to know for how long it was asked for."""
    sim = simulator(SINGLE)
    _order(sim, "acme", {"kind": "throttle", "retry_after_s": 0})
    payload = _ask(sim, SINGLE, _bound(SINGLE)).payload
    assert b"\r\nRetry-After: 0\r\n" in payload or b" GMT\r\n" in payload


@pytest.mark.parametrize(("share", "left"), [(0.1, 45), (0.5, 25), (1, 0)])
def test_the_ordered_share_of_an_answer_is_left_out(share: float, left: int) -> None:
    """Items without an answer were served all the same: they are asked again, and are the same then."""
    sim = simulator(BULK)
    _order(sim, "many", {"kind": "left_out", "share": share})
    items = [item(BULK, number(index)) for index in range(50)]
    results = answer(sim.handle(call(BULK, bulk(items))).payload)[1]["results"]
    assert (left, 50) == (len(results), len(sim.ledger))


def test_an_invented_item_stands_beside_the_true_ones() -> None:
    """A dispatcher that takes whatever id it finds is caught."""
    sim = simulator(BULK)
    _order(sim, "many", {"kind": "invented"})
    items = [item(BULK, number(index)) for index in range(5)]
    results = answer(sim.handle(call(BULK, bulk(items))).payload)[1]["results"]
    assert 6 == len(results)
    assert 1 == len({result["id"] for result in results} - {each["id"] for each in items})


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("name", ["id", "case"])
def test_only_a_call_with_the_bad_item_is_rejected(status: int, name: str) -> None:
    """The bad item is found by halving: every call without it must go through, every call with it must not."""
    sim = simulator(BULK)
    items = [item(BULK, number(index)) for index in range(6)]
    _order(sim, "many", {"kind": "reject_batch", "status": status, "cases": [items[4][name]]})
    assert status == answer(sim.handle(call(BULK, bulk(items[3:]))).payload)[0]
    assert 0 == len(sim.ledger)
    assert 200 == answer(sim.handle(call(BULK, bulk(items[:3]))).payload)[0]
    assert 3 == len(sim.ledger)


def test_a_behaviour_stands_above_the_scenario_until_it_is_taken_back() -> None:
    """A test orders one fault and must see that one, and afterwards what it started the simulator with."""
    sim = simulator(SINGLE, scenario=always(Fault.UNAVAILABLE))
    sent = _bound(SINGLE)
    _order(sim, "acme", {"kind": "gone"})
    assert 404 == answer(_ask(sim, SINGLE, sent).payload)[0]
    _order(sim, "acme", None)
    assert 503 == answer(_ask(sim, SINGLE, sent).payload)[0]


def test_only_the_named_platform_misbehaves() -> None:
    """What hurts one platform must be seen not to hurt the others."""
    sim = simulator(SINGLE, BULK)
    assert {"platforms": {"many": {"kind": "away"}}} == _order(sim, "many", {"kind": "away"})[1]
    assert 200 == answer(_ask(sim, SINGLE, _bound(SINGLE)).payload)[0]
    assert 503 == answer(_ask(sim, BULK, _bound(BULK)).payload)[0]


def test_an_order_to_all_reaches_all_and_is_shown() -> None:
    """At the end of a storm one order must bring calm everywhere."""
    sim = simulator(SINGLE, BULK)
    _order(sim, "*", {"kind": "hang", "seconds": 2})
    shown = sim.handle(Call(method=b"GET", target=b"/_control", headers={}, body=b""))
    expected = {"kind": "hang", "seconds": 2.0}
    assert (200, {"platforms": {"acme": expected, "many": expected}}) == answer(shown.payload)
    assert {"platforms": {}} == _order(sim, "*", None)[1]


@pytest.mark.parametrize(
    ("key", "behaviour", "status", "field"),
    [
        ("nobody", None, 404, "no such platform"),
        ("acme", {"kind": "tired"}, 422, "behaviour"),
        ("acme", {"kind": "hang"}, 422, "seconds"),
        ("acme", {"kind": "away", "seconds": 2}, 422, "seconds"),
        ("acme", {"kind": "reject_batch", "cases": []}, 422, "cases"),
        ("acme", {"kind": "left_out", "share": 2}, 422, "share"),
    ],
)
def test_an_order_that_cannot_be_read_names_the_field_and_changes_nothing(
    key: str, behaviour: object, status: int, field: str
) -> None:
    """A misspelt fault that is silently no fault makes a chaos test pass for nothing."""
    sim = simulator(SINGLE)
    found, said = _order(sim, key, behaviour)
    assert status == found
    assert field in said["title"]
    assert 200 == answer(_ask(sim, SINGLE, _bound(SINGLE)).payload)[0]


def test_what_was_ordered_is_counted_with_the_times_of_the_calls() -> None:
    """A scorecard counts what was injected, and a test asks how many calls came since."""
    sim = simulator(SINGLE)
    _order(sim, "acme", {"kind": "broken_json"})
    for _ in range(3):
        _ask(sim, SINGLE, _bound(SINGLE))
    stats: Any = sim.stats()
    one = stats["platforms"]["acme"]
    assert {"broken_json": 3} == stats["faults"] == one["faults"]
    assert 3 == one["requests"]
    assert 0 < one["first_s"] <= one["last_s"]
