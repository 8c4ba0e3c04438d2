"""`renewal platforms test`: a right platform passes, and each wrong one is told what is wrong with it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backends.signature import new_pair
from ops.conformance.check import Verdict
from tests.rehearsed import (
    ROOT,
    broken,
    case_of,
    entry,
    example_numbers,
    example_served,
    not_holding,
    rehearsed,
    simulated,
    simulated_numbers,
)

GUIDE = (ROOT / "docs" / "integrate.md").read_text(encoding="utf-8")


def test_the_example_server_passes(tmp_path: Path) -> None:
    """Who copies it begins with a platform that is right."""
    with example_served(tmp_path / "record.csv") as platform:
        findings = rehearsed(platform, example_numbers())
    assert [] == not_holding(findings)
    assert {} == broken(findings)


@pytest.mark.parametrize("protocol", ["bulk-json", "json"])
def test_the_simulator_passes(protocol: str) -> None:
    """What shows an integrator right answers keeps every rule itself, withdrawals included."""
    with simulated(protocol=protocol, limits={"calls_per_s": 1000, "timeout_s": 5}) as platform:
        findings = rehearsed(platform, simulated_numbers(platform))
    assert [] == not_holding(findings)
    assert {} == broken(findings)


def test_a_platform_that_checks_v1a_passes() -> None:
    """The forged calls are forged in the same version, so that they are refused for the right reason."""
    private, _ = new_pair()
    with simulated(secret=private) as platform:
        findings = rehearsed(platform, simulated_numbers(platform), credentials=(private,))
    assert [] == not_holding(findings)


def test_a_platform_with_a_token_is_tried_with_a_wrong_one_and_without() -> None:
    """What only signatures can show is not asked of it."""
    with simulated(auth={"scheme": "bearer", "token": "env:T"}) as platform:
        findings = rehearsed(platform, simulated_numbers(platform))
        stranger = rehearsed(platform, simulated_numbers(platform), credentials=("another",))
    assert [] == not_holding(findings)
    verdicts = {finding.check.name: finding.verdict for finding in findings}
    assert Verdict.PASSED is verdicts["wrong-key"] is verdicts["no-proof"]
    assert Verdict.NOT_NEEDED is verdicts["raw-body"]
    assert "HTTP 401" in broken(stranger)["answered"]


MISBEHAVIOURS: list[tuple[dict[str, object], str, str]] = [
    ({"kind": "away"}, "answered", "HTTP 503"),
    ({"kind": "gone"}, "answered", "HTTP 404"),
    ({"kind": "reset"}, "answered", "connection"),
    ({"kind": "lost"}, "answered", "connection"),
    ({"kind": "drip"}, "in-time", "0.3 s"),
    ({"kind": "hang", "seconds": 2}, "in-time", "0.3 s"),
    ({"kind": "wrong_type"}, "content-type", "application/json"),
    ({"kind": "broken_json"}, "json-object", "no JSON object"),
    ({"kind": "huge"}, "answer-size", "4 MiB"),
    ({"kind": "invented"}, "nothing-invented", "not sent"),
    ({"kind": "left_out", "share": 0.5}, "complete", "no result"),
    ({"kind": "unauthorized", "status": 403}, "answered", "HTTP 403"),
    ({"kind": "throttle", "retry_after_s": 3000}, "answered", "HTTP 429"),
]


@pytest.mark.parametrize(
    ("behaviour", "check", "said"), MISBEHAVIOURS, ids=[str(behaviour["kind"]) for behaviour, _, _ in MISBEHAVIOURS]
)
def test_each_misbehaviour_of_the_simulator_is_found_and_named(
    behaviour: dict[str, object], check: str, said: str
) -> None:
    """One rule is named, in words that say what was seen."""
    with simulated(
        behaviour=behaviour, limits={"calls_per_s": 1000, "items_per_call": 50, "timeout_s": 0.3}
    ) as platform:
        findings = rehearsed(platform, simulated_numbers(platform))
    assert said in broken(findings)[check]
    assert not_holding(findings)


def test_a_batch_that_is_refused_for_one_item_is_named() -> None:
    """A good item that is called wrong stops all the others."""
    behaviour = {"kind": "reject_batch", "cases": [case_of("run", "0")]}
    with simulated(behaviour=behaviour) as platform:
        findings = rehearsed(platform, simulated_numbers(platform), run="run")
    assert "HTTP 422" in broken(findings)["answered"]


def test_a_platform_that_checks_no_signature_is_told_so_for_each_way_to_forge_one() -> None:
    """It answers every good call well, and that is not enough."""
    with simulated(secret=None) as platform:
        findings = rehearsed(platform, simulated_numbers(platform))
    forged = {"wrong-key", "no-proof", "old-call", "raw-body", "signed-id", "withdrawal-proof"}
    assert forged == set(broken(findings))
    assert "it was let in (HTTP 200)" == broken(findings)["raw-body"]


def test_after_a_first_call_without_an_answer_nothing_more_is_sent() -> None:
    """One clear cause, and not forty that follow from it."""
    with simulated(behaviour={"kind": "gone"}) as platform:
        findings = rehearsed(platform, simulated_numbers(platform))
    assert {"answered", "problem-form"} >= set(broken(findings))
    assert {Verdict.NOT_TRIED} == {f.verdict for f in findings if f.check.name in {"raw-body", "same-call-twice"}}


def test_who_asks_for_a_moment_gets_it_once_or_twice(tmp_path: Path) -> None:
    """A platform may be slow to wake: what it said before is not held against it, its Retry-After is."""
    turned = iter([(429, {"title": "not now"}), (503, {"title": "not yet"})])

    def wakes(module: Any) -> None:
        right, end = module.Handler._send, module.Handler.end_headers
        module.Handler._send = lambda self, status, content: right(self, *next(turned, (status, content)))
        module.Handler.end_headers = lambda self: (self.send_header("retry-after", "0"), end(self))

    with example_served(tmp_path / "record.csv", spoil=wakes) as platform:
        findings = rehearsed(platform, example_numbers())
    assert {} == broken(findings)
    assert Verdict.PASSED is {finding.check.name: finding.verdict for finding in findings}["retry-after"]


def test_nobody_listens() -> None:
    """An endpoint that is not there is one failed rule with its reason."""
    findings = rehearsed(entry(1), example_numbers())
    assert {"answered": "the connection was refused or broke"} == broken(findings)


# -- platforms that are wrong in one thing -----------------------------------------------------------------------------


def _compares_texts(module: Any) -> None:
    def unbind(number: str, cutoff_at: datetime) -> str:
        code = right(number, cutoff_at)
        if code in {"OK", "LATER"}:
            return "OK" if "2019-05-01T08:00:00+08:00" < cutoff_at.isoformat() else "LATER"
        return str(code)

    right, module.unbind = module.unbind, unbind


def _includes_the_cutoff(module: Any) -> None:
    def unbind(number: str, cutoff_at: datetime) -> str:
        code = right(number, cutoff_at)
        return "OK" if code == "LATER" and cutoff_at == datetime(2019, 5, 1, tzinfo=UTC) else str(code)

    right, module.unbind = module.unbind, unbind


def _forgets_its_answers(module: Any) -> None:
    gone: set[str] = set()

    def answer(self: Any, item: dict[str, str]) -> dict[str, str]:
        code = module.unbind(item["number"], datetime.fromisoformat(item["cutoff_at"]))
        if code == "OK" and item["number"] in gone:
            code = "NONE"
        gone.add(item["number"])
        return {"id": item["id"], "code": code}

    module.Record.answer = answer


def _sends(change: Callable[[int, Any], tuple[int, Any]]) -> Callable[[Any], None]:
    """Return what spoils a module so that it says something else than it would."""

    def spoil(module: Any) -> None:
        right = module.Handler._send
        module.Handler._send = lambda self, status, content: right(self, *change(status, content))

    return spoil


def _each(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], None]:
    def changed(status: int, content: Any) -> tuple[int, Any]:
        return status, {"results": [change(r) for r in content["results"]]} if "results" in content else content

    return _sends(changed)


def _believes_every_signature_by_its_key(module: Any) -> None:
    module.CLOCK_TOLERANCE_S = 10**9


def _reads_one_signature(module: Any) -> None:
    right = module.signed

    def signed(headers: Any, body: bytes, secret: str) -> bool:
        first = headers.get("webhook-signature", "").split()[:1]
        return bool(right({**headers, "webhook-signature": "".join(first)}, body, secret))

    module.signed = signed


def _signs_the_parsed_body(module: Any) -> None:
    right = module.signed

    def signed(headers: Any, body: bytes, secret: str) -> bool:
        return bool(right(headers, json.dumps(json.loads(body), separators=(",", ":")).encode(), secret))

    module.signed = signed


def _repeats_the_number(module: Any) -> None:
    right = module.Record.answer

    def answer(self: Any, item: dict[str, str]) -> dict[str, str]:
        return {**right(self, item), "reference": f"acct 138 {item['number'][-11:]}"}

    module.Record.answer = answer


def _accepts(answer: dict[str, Any]) -> Callable[[Any], None]:
    """Return what makes a platform answer 202 to every batch."""
    return _sends(lambda status, content: (202, answer) if "results" in content else (status, content))


def _twice(status: int, content: Any) -> tuple[int, Any]:
    if "results" in content:
        content = {"results": [*content["results"], {**content["results"][0], "code": "HELD"}]}
    return status, content


WRONG: dict[str, tuple[Callable[[Any], None], set[str]]] = {
    "cut-offs compared as texts": (_compares_texts, {"cutoff-instant"}),
    "the cut-off itself counted as before": (_includes_the_cutoff, {"cutoff-strict", "cutoff-instant"}),
    "answers forgotten": (_forgets_its_answers, {"same-id-other-batch", "same-call-twice"}),
    "timestamps not looked at": (_believes_every_signature_by_its_key, {"old-call"}),
    "only the first signature read": (_reads_one_signature, {"several-signatures"}),
    "the body written anew before it is checked": (_signs_the_parsed_body, {"raw-body", "broken-body"}),
    "the number in the reference": (_repeats_the_number, {"no-number-back"}),
    "a code that the entry has not": (
        _each(lambda result: {**result, "code": "MOVED"} if result["code"] == "NONE" else result),
        {"known-codes", "nothing-bound"},
    ),
    "no code at all": (_each(lambda result: {"id": result["id"]}), {"shape"}),
    "two results that differ": (_sends(_twice), {"one-result-each"}),
    "a list in place of an object": (_sends(lambda s, content: (s, content.get("results", content))), {"json-object"}),
    "201 in place of 200": (_sends(lambda status, c: (201 if status == 200 else status, c)), {"answered"}),
    "a redirect": (_sends(lambda _, content: (302, content)), {"answered", "no-redirect"}),
    "404 for a wrong body": (_sends(lambda status, c: (404 if status == 400 else status, c)), {"broken-body"}),
    "accepted without a reference": (_accepts({}), {"accepted-shape", "accepted-channel"}),
    "accepted without a way to answer": (_accepts({"reference": "N-1"}), {"accepted-channel"}),
    "an instant without its offset": (
        _accepts({"reference": "N-1", "expected_by": "2026-12-02T08:00:00"}),
        {"accepted-shape", "accepted-channel"},
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_one_thing_that_is_wrong_is_named(tmp_path: Path, wrong: str) -> None:
    """Each rule finds its breach, where everything else is right."""
    spoil, expected = WRONG[wrong]
    with example_served(tmp_path / "record.csv", spoil=spoil) as platform:
        findings = rehearsed(platform, example_numbers(), wait_s=0)
    found = broken(findings)
    assert expected == set(found), found
    assert not any(lent.number[3:] in said for lent in example_numbers() for said in found.values())
