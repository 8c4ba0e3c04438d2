"""Dead letters in the console: understood, replayed and given up by the same desks as on the command line."""

import re
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest

from backends.actions import What
from backends.api_keys import Scope
from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.replays import Phase
from producers.replay import Replayer
from schemas.ids import job_id
from schemas.outcome import Fault
from schemas.state import State
from tests.letters import accept, die, record, record_of
from tests.snapshots import catalogue_of
from tests.visiting import Visit

LETTERS = 12
_FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@pytest.fixture
def visit(backends: Backends, tmp_path: Path) -> Visit:
    """A browser of somebody who may operate, over two causes of dead letters."""
    found = Visit(backends, catalogue_of(tmp_path / "catalogue"))
    die(backends, ["alpha"], count=LETTERS)
    record(backends, "beta", accept(backends, ["beta"], count=2, first=100), reason=Fault.TIMEOUT)
    found.log_in(Scope.OPERATE)
    return found


def hidden(page: str) -> dict[str, list[str]]:
    """Return what a form sends along unseen."""
    fields: dict[str, list[str]] = {}
    for name, value in _FIELD.findall(page.partition('class="act"')[2]):
        fields.setdefault(name, []).append(unescape(value))
    return {name: values for name, values in fields.items() if name != "form_token"}


def test_letters_are_understood_by_cause(visit: Visit) -> None:
    """Two causes are two lines, each with what to do, and lead to their letters."""
    page = visit.page("/dead")
    assert "14 letters in 2 groups" in page
    assert ("request rejected" in page, "timed out" in page, "cannot read these requests" in page) == (True, True, True)
    letters = visit.page("/dead/letters?cause=alpha:rejected_request")
    assert LETTERS == letters.count('name="job"')
    assert "138****0011" in letters


def test_one_letter_shows_its_attempts(visit: Visit) -> None:
    """Who replays has seen what the platform answered."""
    case = accept(visit.backends, ["alpha"], first=500)[0]
    for attempt in (1, 2, 3):
        record(visit.backends, "alpha", [case], state=State.WAITING, reason=Fault.SERVER_ERROR, attempt=attempt)
    record(visit.backends, "alpha", [case], attempt=4, detail="<b>no such field</b>")
    page = visit.page(f"/dead/jobs/{job_id(case, 'alpha')}")
    assert "3 times" in page
    assert "&lt;b&gt;no such field" in page
    assert f"/console/dead/replay?job={case}.alpha" in page


@pytest.mark.parametrize("field", ["reason", "expected"])
def test_nothing_is_replayed_without_a_reason_and_the_right_count(visit: Visit, field: str) -> None:
    """Who has another number in mind, or none, is shown the form again with what was wrong."""
    fields = hidden(visit.page("/dead/replay?cause=alpha:rejected_request"))
    said = {**fields, "reason": "mended", "expected": LETTERS, "canary": 5} | {field: "" if field == "reason" else 3}
    answer = visit.send("/dead/replay", said)
    assert (409, True) == (answer.status_code, 'role="alert"' in answer.text)
    assert [] == visit.backends.replays.newest_first()


def test_a_replay_is_begun_watched_stopped_and_resumed(visit: Visit) -> None:
    """The whole of it in the browser, on record with the name of the key."""
    preview = visit.page("/dead/replay?cause=alpha:rejected_request")
    assert f"Type {LETTERS} to confirm" in preview
    begun = visit.send("/dead/replay", {**hidden(preview), "reason": "mended", "expected": LETTERS, "canary": 5})
    path = begun.headers["location"].removeprefix("/console")
    assert 303 == begun.status_code
    (ident,) = visit.backends.replays.newest_first()
    assert ("console:night", 5) == (visit.backends.replays.get(ident).who, visit.backends.replays.get(ident).canary)
    assert "canary" in visit.page(f"{path}/live?once=1")
    assert 303 == visit.send(f"{path}/stop", {"reason": "wait"}).status_code
    assert "stopped by a person: wait" in visit.page(path)
    assert Phase.STOPPED is visit.backends.replays.get(ident).phase
    assert 303 == visit.send(f"{path}/resume", {"reason": "go"}).status_code
    Replayer(visit.backends, visit.app.state.door.catalogue).step()
    assert "5" in visit.page(f"{path}/live?once=1").split("Under way</dt><dd>")[1][:3]
    told = [each.action.what for each in visit.backends.actions.list()]
    assert [What.DEAD_REPLAY, What.DEAD_REPLAY_STOP, What.DEAD_REPLAY_RESUME] == told


def test_a_preview_says_what_would_be_skipped(visit: Visit) -> None:
    """A letter that has been answered meanwhile, or whose platform is gone, is counted before anything is begun."""
    cases = die(visit.backends, ["gone"], count=3, first=200)
    page = visit.page("/dead/replay?cause=gone:rejected_request")
    assert ("not in the catalogue <b>3</b>" in page, len(cases)) == (True, 3)


def test_only_what_died_before_the_preview_is_meant(visit: Visit) -> None:
    """What dies while somebody types a reason is not swept along, and does not spoil the count."""
    fields = hidden(visit.page("/dead/discard?cause=alpha:rejected_request"))
    clock = visit.backends.clock
    assert isinstance(clock, ManualClock)
    clock.set(clock.now() + timedelta(minutes=1))
    late = accept(visit.backends, ["alpha"], first=300)
    record(visit.backends, "alpha", late, at=visit.backends.clock.now())
    said = {**fields, "reason": "row is wrong", "expected": LETTERS}
    assert 303 == visit.send("/dead/discard", said).status_code
    assert State.DEAD is record_of(visit.backends, late[0], "alpha").state
    assert f"{LETTERS} of {LETTERS} letters are discarded" in visit.page("/dead")


def test_discarding_needs_the_count(visit: Visit) -> None:
    """It is final: a wrong count changes nothing."""
    said = {"cause": "beta:timeout", "reason": "gone for good", "expected": 1}
    answer = visit.send("/dead/discard", said)
    assert (409, True) == (answer.status_code, "There are 2 now" in answer.text)
    assert 14 == visit.backends.dead.count()


def test_single_letters_are_replayed_and_no_other(visit: Visit) -> None:
    """Two ticks are two letters."""
    jobs = re.findall(r'name="job" value="([^"]+)"', visit.page("/dead/letters?platform=alpha"))[:2]
    said = {"job": jobs, "reason": "these two", "expected": 2}
    assert 303 == visit.send("/dead/replay", said).status_code
    (ident,) = visit.backends.replays.newest_first()
    assert sorted(jobs) == sorted(visit.backends.replays.jobs(ident, start=0, count=9))


@pytest.mark.parametrize("path", ["/dead/replay?cause=alpha:rejected_request", "/dead/discard"])
def test_who_may_only_read_is_offered_no_change(visit: Visit, path: str) -> None:
    """What a key does not reach is not drawn, and refused by the server."""
    visit.log_in(Scope.READ)
    assert 403 == visit.get(path).status_code
    assert 403 == visit.send(path.partition("?")[0], {"reason": "x", "expected": 14}).status_code
    assert "/dead/discard" not in visit.page("/dead")
    assert 14 == visit.backends.dead.count()


@pytest.mark.parametrize(
    "query", ["cause=alpha:nonsense", "reason=vague", "since=yesterday-ish", "job=138000", "job=%3Cscript%3E"]
)
def test_a_choice_that_nobody_could_make_is_an_error_that_repeats_nothing(visit: Visit, query: str) -> None:
    """An address is typed by anybody."""
    answer = visit.get(f"/dead/letters?{query}")
    assert 400 == answer.status_code
    assert query.partition("=")[2] not in answer.text


def test_letters_are_kept_as_a_file_that_no_spreadsheet_runs(visit: Visit) -> None:
    """A detail that a platform wrote may begin like a formula."""
    record(visit.backends, "alpha", accept(visit.backends, ["alpha"], first=400), detail="=1+1")
    rows = visit.get("/dead/letters?format=csv").text.splitlines()
    assert 16 == len(rows)
    assert sum("'=1+1" in row for row in rows) == 1


def test_nothing_fits_and_nothing_there_are_different_pages(visit: Visit) -> None:
    """A filter that hides everything must not look like a clean house."""
    assert "Nothing fits these filters" in visit.page("/dead?platform=beta&reason=dns")
    for case in ("alpha:rejected_request", "beta:timeout"):
        count = LETTERS if case.startswith("alpha") else 2
        visit.send("/dead/discard", {"cause": case, "reason": "clean", "expected": count})
    assert "No dead letters." in visit.page("/dead")
