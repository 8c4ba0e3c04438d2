from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from platforms.model import Platform
from schemas.ids import derive
from schemas.outcome import Outcome
from simulator.reply import Manner, Reply
from simulator.scenario import Fault, Scenario
from simulator.server import Simulator
from tests.simulated import (
    CALM,
    SECRET,
    always,
    answer,
    bulk,
    call,
    item,
    number,
    numbers_where,
    platform,
    simulator,
)

SINGLE = platform()
BULK = platform(protocol="bulk-json", limits={"items_per_call": 50})
BEFORE_EFFECT = [fault for fault in Fault if fault.before_effect]
AFTER_EFFECT = [Fault.LOST_ANSWER, Fault.SLOW_DRIP, Fault.WRONG_TYPE]


def _rows(sim: Simulator) -> dict[Any, dict[str, object]]:
    return {row["id"]: row for row in sim.ledger.rows()}


def _bound(entry: Platform) -> str:
    return numbers_where(entry, lambda outcome: outcome is Outcome.UNBOUND)[0]


def _results(reply: Reply) -> dict[str, dict[str, str]]:
    return {result["id"]: result for result in answer(reply.payload)[1]["results"]}


def _outcomes(entry: Platform, results: Iterable[dict[str, str]]) -> list[object]:
    return [entry.outcomes[result["code"]] for result in results]


def test_a_single_call_is_answered_by_the_truth_and_noted() -> None:
    """What the caller reads and what the ledger says is the same outcome, with a reference for what was done."""
    sim = simulator(SINGLE)
    sent = item(SINGLE, _bound(SINGLE))
    status, said = answer(sim.handle(call(SINGLE, sent)).payload)
    row = _rows(sim)[sent["id"]]
    assert (200, "UNBOUND") == (status, said["code"])
    assert said["reference"]
    assert (Outcome.UNBOUND, 1, 1) == (row["outcome"], row["answers"], row["effects"])


def test_a_refusal_says_why() -> None:
    """The reason in the answer is the reason in the ledger."""
    sim = simulator(SINGLE)
    sent = item(SINGLE, numbers_where(SINGLE, lambda outcome: outcome is Outcome.REFUSED)[0])
    _, said = answer(sim.handle(call(SINGLE, sent)).payload)
    row = _rows(sim)[sent["id"]]
    assert said["code"] == "REFUSED"
    assert said["reason"] == row["reason"]
    assert row["effects"] == 0


def test_a_bulk_call_answers_each_item() -> None:
    """Every id that was sent is answered once, as the ledger has it."""
    sim = simulator(BULK)
    items = [item(BULK, number(900_000 + i)) for i in range(49)] + [item(BULK, _bound(BULK))]
    results = _results(sim.handle(call(BULK, bulk(items))))
    assert [each["id"] for each in items] == list(results)
    assert [row["outcome"] for row in _rows(sim).values()] == _outcomes(BULK, results.values())


@pytest.mark.parametrize("entry", [SINGLE, BULK], ids=["json", "bulk-json"])
def test_the_same_job_again_gets_the_same_answer_and_no_second_effect(entry: Platform) -> None:
    """However often a job is sent, the platform unbinds once."""
    sim = simulator(entry)
    sent = item(entry, _bound(entry))
    body = sent if entry.protocol == "json" else bulk([sent])
    first, *others = [answer(sim.handle(call(entry, body)).payload) for _ in range(4)]
    assert [first] * 3 == others
    row = _rows(sim)[sent["id"]]
    assert (4, 1) == (row["answers"], row["effects"])
    assert sim.ledger.effects == 1


def test_the_same_pair_under_another_key_finds_nothing_and_is_counted() -> None:
    """A dispatcher that sends one binding under two keys has no second effect, and is seen."""
    sim = simulator(SINGLE)
    of = _bound(SINGLE)
    sim.handle(call(SINGLE, item(SINGLE, of)))
    second = item(SINGLE, of, case=derive("another cycle"))
    _, said = answer(sim.handle(call(SINGLE, second)).payload)
    assert said == {"code": "NO_BINDING"}
    assert (0, Outcome.NO_BINDING) == (_rows(sim)[second["id"]]["effects"], _rows(sim)[second["id"]]["outcome"])
    assert (1, 1) == (sim.ledger.effects, sim.stats()["repeat_pairs"])


@pytest.mark.parametrize("fault", BEFORE_EFFECT)
def test_a_fault_before_the_effect_does_nothing(fault: Fault) -> None:
    """A refused call leaves no trace in the ledger."""
    sim = simulator(SINGLE, scenario=always(fault))
    reply = sim.handle(call(SINGLE, item(SINGLE, _bound(SINGLE))))
    assert {} == _rows(sim)
    assert (reply.manner is Manner.RESET) == (fault is Fault.RESET)
    assert sim.stats()["faults"] == {fault: 1}


@pytest.mark.parametrize("fault", AFTER_EFFECT)
def test_a_fault_after_the_effect_has_its_effect_once(fault: Fault) -> None:
    """An answer that is lost, dripped or mislabelled stands for an effect, however often it is repeated."""
    sim = simulator(SINGLE, scenario=always(fault))
    sent = item(SINGLE, _bound(SINGLE))
    for _ in range(3):
        sim.handle(call(SINGLE, sent))
    row = _rows(sim)[sent["id"]]
    assert (1, Outcome.UNBOUND) == (row["effects"], row["outcome"])
    assert (3 if fault is Fault.WRONG_TYPE else 0) == row["answers"]


def test_too_many_requests_come_with_retry_after_in_both_forms() -> None:
    """A client has to read delta-seconds and HTTP-dates."""
    sim = simulator(SINGLE, scenario=always(Fault.TOO_MANY))
    forms = Counter[bool]()
    for index in range(30):
        head = sim.handle(call(SINGLE, item(SINGLE, number(index)))).payload.partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 429 ")
        value = head.partition(b"Retry-After: ")[2].partition(b"\r\n")[0]
        assert value == b"1" or value.endswith(b" GMT")
        forms[value == b"1"] += 1
    assert {True, False} == set(forms)


@pytest.mark.parametrize(
    ("fault", "start"),
    [
        (Fault.UNAVAILABLE, b"HTTP/1.1 503 "),
        (Fault.SERVER_ERROR, b"HTTP/1.1 500 "),
        (Fault.MAINTENANCE_PAGE, b"HTTP/1.1 200 "),
    ],
)
def test_a_failing_platform_speaks_http(fault: Fault, start: bytes) -> None:
    """Each of these faults has its status; a page for people is HTML, also under 200."""
    payload = simulator(SINGLE, scenario=always(fault)).handle(call(SINGLE, item(SINGLE, number(1)))).payload
    assert payload.startswith(start)
    assert (fault is not Fault.UNAVAILABLE) == (b"<!doctype html>" in payload)


def test_a_drip_lasts_longer_than_anybody_waits() -> None:
    """At a byte each 0.3 seconds the answer takes more than two minutes."""
    reply = simulator(SINGLE, scenario=always(Fault.SLOW_DRIP)).handle(call(SINGLE, item(SINGLE, number(1))))
    assert reply.manner is Manner.DRIP
    assert len(reply.payload) * 0.3 > 120
    assert answer(reply.payload)[0] == 200


def test_items_left_out_are_done_and_answered_when_asked_again() -> None:
    """About every tenth item is missing from the answer; a new batch with only these gets them."""
    sim = simulator(BULK, scenario=always(Fault.LEFT_OUT))
    items = [item(BULK, number(i)) for i in range(50)]
    answered = _results(sim.handle(call(BULK, bulk(items))))
    missing = [each for each in items if each["id"] not in answered]
    assert len(missing) == 5
    rows = _rows(sim)
    assert {each["id"] for each in items} == set(rows)
    assert {0} == {rows[each["id"]]["answers"] for each in missing}


def test_of_a_single_item_left_out_nothing_is_left() -> None:
    """The answer to a bulk of one can be an empty list."""
    sim = simulator(BULK, scenario=always(Fault.LEFT_OUT))
    assert {} == _results(sim.handle(call(BULK, bulk([item(BULK, number(1))]))))


def test_an_invented_item_claims_success_and_was_never_sent() -> None:
    """The stranger stands among true answers, looks like one of ours, and is not in the ledger."""
    sim = simulator(BULK, scenario=always(Fault.INVENTED))
    items = [item(BULK, number(i)) for i in range(10)]
    results = _results(sim.handle(call(BULK, bulk(items))))
    (stranger,) = set(results) - {each["id"] for each in items}
    assert len(results) == 11
    assert results[stranger]["code"] == "UNBOUND"
    assert stranger not in _rows(sim)


def test_an_unknown_code_is_said_for_ever_and_is_no_outcome() -> None:
    """The job gets the same strange code each time; the ledger says that nobody knows what it means."""
    sim = simulator(SINGLE, scenario=replace(CALM, unknown_code_share=1.0))
    sent = item(SINGLE, _bound(SINGLE))
    codes = {answer(sim.handle(call(SINGLE, sent)).payload)[1]["code"] for _ in range(3)}
    row = _rows(sim)[sent["id"]]
    assert {row["code"]} == codes
    assert row["code"] not in SINGLE.outcomes
    assert (None, 0) == (row["outcome"], row["effects"])


def test_a_failed_call_is_decided_anew_when_repeated() -> None:
    """In a storm every job is answered in the end, with one effect where there was a binding."""
    storm = Scenario(name="half", fault_shares=((Fault.UNAVAILABLE, 0.25), (Fault.LOST_ANSWER, 0.25)))
    sim = simulator(SINGLE, scenario=storm)
    for index in range(100):
        sent = item(SINGLE, number(index))
        tries = (sim.handle(call(SINGLE, sent)).payload.startswith(b"HTTP/1.1 200") for _ in range(50))
        assert any(tries)
    assert {1} == {row["answers"] for row in _rows(sim).values()}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"number": "13800001234"}, "number"),
        ({"number": None}, "number"),
        ({"cutoff_at": "2026-11-01T00:00:00"}, "cutoff_at"),
        ({"cutoff_at": 1793462400}, "cutoff_at"),
        ({"basis": "whim"}, "basis"),
        ({"case": "short"}, "case"),
        ({"name": "nobody's business"}, "name"),
        ({"id": f"{derive('other')}.acme"}, "id"),
    ],
)
def test_a_malformed_item_is_named_by_field_and_never_repeated(change: dict[str, Any], problem: str) -> None:
    """422 says which field is wrong; the number is not in the answer, and nothing was done."""
    for entry in (SINGLE, BULK):
        sim = simulator(entry)
        sent = item(entry, _bound(entry)) | change
        body: Any = sent if entry.protocol == "json" else {"batch": derive("b"), "items": [sent]}
        payload = sim.handle(call(entry, body)).payload
        status, said = answer(payload)
        assert status == 422
        assert problem in said["title"]
        assert b"138000" not in payload
        assert {} == _rows(sim)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff"])
def test_a_body_that_is_no_object_is_malformed(body: bytes) -> None:
    """Whatever comes, the answer is a 422 with a sentence."""
    for entry in (SINGLE, BULK):
        sent = replace(call(entry, item(entry, number(1))), body=body)
        assert answer(simulator(entry).handle(sent).payload)[0] == 422


def test_the_idempotency_key_must_be_that_of_the_body() -> None:
    """A key that is missing or differs from the id or the batch is refused."""
    for entry, body in ((SINGLE, item(SINGLE, number(1))), (BULK, bulk([item(BULK, number(1))]))):
        for key in ("", "other"):
            status, said = answer(simulator(entry).handle(call(entry, body, headers={"idempotency-key": key})).payload)
            assert status == 422
            assert "Idempotency-Key" in said["title"]


def test_more_items_than_the_contract_allows_are_refused_whole() -> None:
    """413 for one item too many; nothing is done then."""
    sim = simulator(BULK)
    items = [item(BULK, number(i)) for i in range(51)]
    assert answer(sim.handle(call(BULK, bulk(items))).payload)[0] == 413
    assert {} == _rows(sim)
    assert answer(sim.handle(call(BULK, bulk(items[:50]))).payload)[0] == 200


def test_the_same_job_twice_in_a_call_is_malformed() -> None:
    """A batch names a job once."""
    twice = [item(BULK, number(1))] * 2
    assert answer(simulator(BULK).handle(call(BULK, bulk(twice))).payload)[0] == 422


def test_only_json_by_post_is_served() -> None:
    """Another method is 405, another content type 415, another platform 404."""
    sim = simulator(SINGLE)
    body = item(SINGLE, number(1))
    assert answer(sim.handle(call(SINGLE, body, method=b"GET")).payload)[0] == 405
    assert answer(sim.handle(call(SINGLE, body, headers={"content-type": "text/plain"})).payload)[0] == 415
    assert answer(sim.handle(call(platform("nobody"), body)).payload)[0] == 404
    assert sim.stats()["rejected"] == 2


def test_a_call_without_the_platforms_token_is_refused_and_counted() -> None:
    """401 for a wrong and for a missing token, before anything else is looked at."""
    guarded = platform(auth={"scheme": "bearer", "token": "env:TOKEN"})
    sim = simulator(guarded)
    body = item(guarded, _bound(guarded))
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": SECRET}):
        assert answer(sim.handle(call(guarded, body, headers=headers)).payload)[0] == 401
    assert (3, {}) == (sim.stats()["auth_failures"], _rows(sim))
    assert answer(sim.handle(call(guarded, body, headers={"authorization": f"Bearer {SECRET}"})).payload)[0] == 200


def test_the_webhook_id_must_be_the_idempotency_key() -> None:
    """A call that is signed well but names itself otherwise breaks the protocol: 422."""
    guarded = platform(auth={"scheme": "standard-webhooks", "secret": "env:SECRET"})
    sim = simulator(guarded)
    for ident, status in (("other", 422), (f"{derive('case', number(1))}.acme", 200)):
        sent = call(guarded, item(guarded, number(1)))
        now = datetime.now(UTC)
        signed = {
            b"webhook-id": ident.encode(),
            b"webhook-timestamp": str(int(now.timestamp())).encode(),
            b"webhook-signature": Webhook(SECRET).sign(ident, now, sent.body.decode()).encode(),
        }
        assert status == answer(sim.handle(replace(sent, headers={**sent.headers, **signed})).payload)[0]


def test_the_meter_remembers_the_most_calls_at_once_and_within_a_second() -> None:
    """A test reads from it whether the dispatcher kept to the platform's limits."""
    sim = simulator(SINGLE)
    meter = sim.handle(call(SINGLE, item(SINGLE, number(1)))).meter
    assert meter is not None
    meter.leave()
    for instant_s in (1e10, 1e10 + 0.4, 1e10 + 0.9, 1e10 + 1.5):
        meter.enter(instant_s)
    meter.leave()
    assert (4, 3, 3) == (meter.in_flight_max, meter.in_flight, meter.requests_per_s_max)


def test_the_ledger_page_lists_every_job_and_one_platform_on_request() -> None:
    """JSON lines, one a job; `?platform=` narrows, and an unknown platform is 404."""
    other = platform("other")
    sim = simulator(SINGLE, other)
    for entry in (SINGLE, other):
        for index in range(700):
            sim.handle(call(entry, item(entry, number(index))))

    def page(query: str) -> Reply:
        return sim.handle(replace(call(SINGLE, {}, method=b"GET"), target=f"/_ledger{query}".encode()))

    def jobs(query: str) -> list[Any]:
        return [orjson.loads(line) for line in b"".join(page(query).rest or ()).splitlines()]

    assert len(jobs("")) == 1400
    assert {"other"} == {job["platform"] for job in jobs("?platform=other")}
    assert {"id", "platform", "outcome", "reason", "code", "answers", "effects"} == set(jobs("?platform=other")[0])
    assert answer(page("?platform=nobody").payload)[0] == 404


def test_a_restarted_simulator_answers_as_before(tmp_path: Path) -> None:
    """With its ledger file a second simulator neither unbinds again nor says anything else."""
    path = tmp_path / "ledger"
    sent = item(SINGLE, _bound(SINGLE))
    first = simulator(SINGLE, ledger_path=path)
    said = answer(first.handle(call(SINGLE, sent)).payload)
    first.ledger.close()
    second = simulator(SINGLE, ledger_path=path)
    assert said == answer(second.handle(call(SINGLE, sent)).payload)
    again = item(SINGLE, sent["number"], case=derive("another"))
    assert answer(second.handle(call(SINGLE, again)).payload)[1]["code"] == "NO_BINDING"
    second.ledger.close()
    assert second.ledger.effects == 1
    assert sent["number"].removeprefix("+86") not in path.read_text()


def test_two_simulators_of_one_seed_do_the_same() -> None:
    """The same calls in the same order give byte for byte the same replies."""

    def run() -> list[tuple[bytes, Manner, float]]:
        sim = simulator(BULK, scenario=Scenario(name="mix", fault_shares=((Fault.LEFT_OUT, 0.3), (Fault.RESET, 0.3))))
        calls = [call(BULK, bulk([item(BULK, number(10 * c + i)) for i in range(10)])) for c in range(40)]
        return [(r.payload, r.manner, r.delay_s) for r in map(sim.handle, calls * 2)]

    assert run() == run()
