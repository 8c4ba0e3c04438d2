"""The pages of the console: what each shows, who may do what there, and that nothing stored becomes part of a page."""

import csv
import io
from pathlib import Path

import orjson
import pytest

from backends.actions import Action, What
from backends.api_keys import Scope
from backends.bootstrap import Backends
from ops.alerts import AlertCode
from ops.console.words import words
from schemas.outcome import REASONS, Fault, Hold, Refusal
from schemas.state import State, Verdict
from tests.letters import accept, mobile, record
from tests.snapshots import PLATFORMS, catalogue_of
from tests.visiting import Visit

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def visit(backends: Backends, tmp_path: Path) -> Visit:
    """A browser that has shown nothing yet."""
    return Visit(backends, catalogue_of(tmp_path / "catalogue", category="bank"))


def pages(case: str) -> list[str]:
    """Return every page that shows what is stored."""
    return [
        "/", "/live/overview?once=1", "/alerts", "/alerts/live?once=1", "/platforms", "/platforms/alpha",
        "/platforms/alpha/live?once=1", "/numbers", f"/cases/{case}", f"/cases/{case}/alpha", f"/cases/{case}/beta",
        "/actions", "/runbooks/no_worker", "/runbooks/README",
        "/platforms/act?verb=pause&key=alpha", "/platforms/act?verb=limit&key=alpha&key=beta",
        "/platforms/act?verb=probe&key=alpha", "/platforms/act?verb=unlimit&key=alpha",
    ]  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_is_drawn_for_an_empty_system(visit: Visit, language: str) -> None:
    """On the first day there is nothing yet, and each page says so."""
    visit.log_in()
    for path in pages("a" * 26):
        if "/cases/" not in path:
            assert "<" in visit.page(path, language=language)
    assert 404 == visit.get(f"/cases/{'a' * 26}").status_code


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_that_is_stored_becomes_part_of_a_page(visit: Visit, language: str) -> None:
    """A platform's answer, a file's reference and a person's reason are texts, whatever they hold."""
    cases = accept(visit.backends, PLATFORMS, count=3)
    reason = Fault.REJECTED_REQUEST
    record(visit.backends, "alpha", cases[:1], state=State.WAITING, reason=reason, attempt=1, detail=ATTACK)
    record(visit.backends, "alpha", cases[:1], state=State.DEAD, reason=reason, attempt=2, detail=ATTACK)
    record(visit.backends, "beta", cases[:1], state=State.REFUSED, reason=Refusal.OTHER, detail=ATTACK)
    visit.backends.redis.hset(visit.backends.keys.case(cases[0]), "reference", ATTACK)
    visit.backends.gates.pause("alpha", until=None, reason=ATTACK)
    visit.backends.actions.append(
        Action(what=What.PLATFORM_PAUSE, target=ATTACK, reason=ATTACK, before={"a": 1}, after={"a": ATTACK}, who=ATTACK)
    )
    visit.log_in(name=ATTACK)
    for path in pages(cases[0]):
        page = visit.page(path, language=language)
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
    assert "&lt;script&gt;" in visit.page(f"/cases/{cases[0]}/alpha")


def test_no_page_reads_more_where_more_cases_are_stored(visit: Visit) -> None:
    """With a million cases a page comes as fast as with ten: it asks for counts, and for the one case it shows."""
    (case, *_) = accept(visit.backends, PLATFORMS, count=10)
    visit.log_in()

    # One look at the whole for each page, however slow this machine is.
    visit.lookout._clock = lambda: 0.0

    def asked() -> dict[str, int]:
        counts = {}
        for path in pages(case):
            visit.lookout.forget()
            before = _commands(visit)
            visit.page(path)
            counts[path] = _commands(visit) - before
        return counts

    asked()  # scripts are loaded, and what never changes is remembered
    few = asked()
    accept(visit.backends, PLATFORMS, count=1500, first=10)
    assert few == asked()


def _commands(visit: Visit) -> int:
    stats: dict[str, dict[str, int]] = visit.backends.redis.info("commandstats")
    return sum(each["calls"] for each in stats.values())


def test_no_page_shows_a_number(visit: Visit) -> None:
    """What somebody needs to recognise a request is its first three and last four digits."""
    cases = accept(visit.backends, PLATFORMS)
    record(visit.backends, "alpha", cases, detail=f"no account for {mobile(0)}")
    visit.log_in()
    for path in pages(cases[0]):
        assert mobile(0).removeprefix("+86") not in visit.page(path), path
    assert "138****0000" in visit.page(f"/cases/{cases[0]}")


def test_a_number_is_found_and_stands_in_no_address(visit: Visit) -> None:
    """It comes in the body of a form; what follows is named by the request's id."""
    (case,) = accept(visit.backends, PLATFORMS)
    visit.log_in(Scope.READ)
    found = visit.send("/numbers", {"number": "138 0000 0000"})
    assert (303, f"/console/cases/{case}") == (found.status_code, found.headers["location"])
    assert 404 == visit.send("/numbers", {"number": mobile(7)}).status_code
    for wrong in ({"number": "12"}, {}, {"number": mobile(0), "case": case}):
        assert 400 == visit.send("/numbers", wrong).status_code


def test_several_requests_of_a_number_are_listed(visit: Visit) -> None:
    """A number that was recycled twice has two requests, and a person picks one."""
    (first,) = accept(visit.backends, PLATFORMS)
    (second,) = accept(visit.backends, PLATFORMS, cutoff_at="2026-12-01T00:00:00+08:00")
    visit.log_in(Scope.READ)
    page = visit.send("/numbers", {"number": mobile(0)}).text
    assert f"/console/cases/{first}" in page
    assert f"/console/cases/{second}" in page
    assert mobile(0) not in page


def test_the_whole_number_is_shown_to_an_admin_with_a_reason_and_it_is_on_record(visit: Visit) -> None:
    """Nobody looks unseen."""
    (case,) = accept(visit.backends, PLATFORMS)
    visit.log_in(name="desk")
    assert 400 == visit.send(f"/cases/{case}/reveal", {"reason": " "}).status_code
    assert [] == visit.backends.actions.list()
    shown = visit.send(f"/cases/{case}/reveal", {"reason": "the owner asked"})
    assert (200, True) == (shown.status_code, mobile(0) in shown.text)
    (entry,) = visit.backends.actions.list()
    assert (What.NUMBER_REVEAL, "console:desk", "the owner asked") == (
        entry.action.what, entry.action.who, entry.action.reason,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "path", "needed"),
    [
        (Scope.OPERATE, "/cases/{case}/reveal", Scope.ADMIN),
        (Scope.READ, "/cases/{case}/reveal", Scope.ADMIN),
        (Scope.READ, "/platforms/act", Scope.OPERATE),
    ],
)
def test_what_a_key_does_not_reach_is_refused(visit: Visit, scope: Scope, path: str, needed: Scope) -> None:
    """What is not drawn could still be sent."""
    (case,) = accept(visit.backends, PLATFORMS)
    visit.log_in(scope)
    sent = visit.send(path.format(case=case), {"reason": "x", "verb": "pause", "key": "alpha"})
    assert (403, True) == (sent.status_code, needed.value in sent.text)
    assert [] == visit.backends.actions.list()


def test_what_a_key_does_not_reach_is_not_drawn(visit: Visit) -> None:
    """A page offers only what it can do."""
    (case,) = accept(visit.backends, PLATFORMS)
    visit.log_in(Scope.READ)
    for path in ("/platforms", "/platforms/alpha", f"/cases/{case}"):
        page = visit.page(path)
        assert "/platforms/act" not in page.replace('action="/console/platforms/act"', ""), path
        assert "/reveal" not in page, path
    assert 403 == visit.get("/platforms/act?verb=pause&key=alpha").status_code


def test_a_platform_is_paused_with_a_reason_and_resumed(visit: Visit) -> None:
    """The change is one of the operator's: the same gate, the same log."""
    visit.log_in(Scope.OPERATE, name="night")
    sent = visit.send("/platforms/act", {"verb": "pause", "key": "alpha", "reason": "they asked"})
    assert (303, "/console/platforms/alpha") == (sent.status_code, sent.headers["location"])
    page = visit.page("/platforms/alpha")
    assert "they asked" in page
    assert "1 paused." in page
    assert "1 paused." not in visit.page("/platforms/alpha")
    visit.send("/platforms/act", {"verb": "resume", "key": ["alpha", "beta"], "reason": "over"})
    assert ["paused", "flowing"] == [each.action.after["state"] for each in visit.backends.actions.list(target="alpha")]
    assert {"console:night"} == {each.action.who for each in visit.backends.actions.list()}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"verb": "pause", "reason": ""}, "reason"),
        ({"verb": "pause", "reason": "x", "for": "soon"}, "for"),
        ({"verb": "limit", "reason": "x", "calls_per_s": "many"}, "calls_per_s"),
        ({"verb": "limit", "reason": "x", "in_flight": "1.5"}, "in_flight"),
        ({"verb": "limit", "reason": "x", "calls_per_s": "nan"}, "calls_per_s"),
        ({"verb": "explode", "reason": "x"}, "verb"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_changed(visit: Visit, fields: dict[str, str], named: str) -> None:
    """What was typed stays on the form; what was expected is said."""
    visit.log_in(Scope.OPERATE)
    sent = visit.send("/platforms/act", {"key": "alpha", **fields})
    assert (400, True) == (sent.status_code, f"{named}:" in sent.text)
    assert [] == visit.backends.actions.list()


def test_limits_are_set_below_the_catalogue_and_taken_away(visit: Visit) -> None:
    """As by the command line."""
    visit.log_in(Scope.OPERATE)
    visit.send("/platforms/act", {"verb": "limit", "key": "alpha", "reason": "slow tonight", "calls_per_s": "2.5"})
    (gate,) = visit.backends.gates.views(["alpha"])
    assert (2.5, None) == (gate.limit_calls_per_s, gate.limit_in_flight)
    assert "2.5 calls/s" in visit.page("/platforms/act?verb=unlimit&key=alpha")
    visit.send("/platforms/act", {"verb": "unlimit", "key": "alpha", "reason": "over"})
    assert visit.backends.gates.views(["alpha"])[0].limit_calls_per_s is None


def test_the_board_is_filtered_ordered_and_told_apart_when_nothing_fits(visit: Visit) -> None:
    """An empty list says why it is empty, and how to get out."""
    visit.backends.gates.pause("beta", until=None, reason="contract")
    visit.log_in(Scope.READ)
    page = visit.page("/platforms?state=paused")
    assert ("/platforms/beta" in page, "/platforms/alpha" in page) == (True, False)
    assert "Nothing fits these filters." in visit.page("/platforms?q=nowhere&category=bank")
    ordered = visit.page("/platforms?sort=-platform")
    assert ordered.index("/platforms/beta") < ordered.index("/platforms/alpha")
    assert 'aria-sort="descending"' in ordered


def test_a_list_is_kept_as_a_file_that_no_spreadsheet_runs(visit: Visit) -> None:
    """The reason of a pause may be a formula; a cell of a file must not be one."""
    visit.backends.gates.pause("beta", until=None, reason="=HYPERLINK(1)")
    visit.log_in(Scope.READ)
    answer = visit.get("/platforms?state=paused&format=csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [("beta", "'=HYPERLINK(1)")] == [(row["key"], row["gate_reason"]) for row in rows]
    assert "attachment" in answer.headers["content-disposition"]
    body = orjson.loads(visit.get("/platforms?format=json").content)
    assert {"alpha", "beta"} == {row["key"] for row in body}


def test_the_actions_log_is_searched(visit: Visit) -> None:
    """Who did what to whom is found by any of the three."""
    for target in ("alpha", "beta"):
        visit.backends.actions.append(
            Action(what=What.PLATFORM_PAUSE, target=target, reason="because", before={}, after={}, who="night")
        )
    visit.log_in(Scope.READ)
    assert "because" in visit.page("/actions?q=night+beta&what=platform.pause")
    assert "Nothing fits" in visit.page("/actions?what=run.cancel")
    rows = orjson.loads(visit.get("/actions?q=beta&format=json").content)
    assert ["beta"] == [row["target"] for row in rows]
    assert 400 == visit.get("/actions?since=yesterday").status_code


def test_attempts_with_the_same_answer_are_one_line(visit: Visit) -> None:
    """Ten times the same is one thing to read; what came after it stays apart."""
    cases = accept(visit.backends, PLATFORMS)
    for attempt in range(1, 6):
        record(visit.backends, "alpha", cases, state=State.WAITING, reason=Fault.SERVER_ERROR, attempt=attempt)
    record(visit.backends, "alpha", cases, reason=Fault.SERVER_ERROR, attempt=6)
    visit.log_in(Scope.READ)
    page = visit.page(f"/cases/{cases[0]}/alpha")
    assert "× 5" in page
    assert 1 == page.count("× ")


def test_every_alert_leads_to_its_runbook(visit: Visit) -> None:
    """An alert without a next step only frightens."""
    visit.log_in(Scope.READ)
    for code in AlertCode:
        assert "<h1>" in visit.page(f"/runbooks/{code}")
    assert 404 == visit.get("/runbooks/..%2Foperate").status_code


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_member_of_a_list_has_its_word(language: str) -> None:
    """Where a list has grown, its new word is missing here first and not on somebody's screen."""
    known = {
        *(f"state.{each}" for each in State), *(f"verdict.{each}" for each in Verdict),
        *(f"reason.{each}" for each in (*REASONS, *Hold)), *(f"what.{each}" for each in What),
        *(f"alert.{each}" for each in AlertCode),
    }  # fmt: skip
    assert set() == known - words(language).keys()
