"""Retries, runs and sweeps in the console: the same desks as on the command line, with the same conditions."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from backends.actions import What
from backends.api_keys import Scope
from backends.bootstrap import Backends
from backends.sweeps import Ending, Night
from backends.waiting import Why
from backends.withdrawals import Stage, Withdrawal
from schemas.ids import job_id, new_id
from schemas.outcome import Fault
from schemas.state import State
from tests.fixtures_valkey import NOON
from tests.letters import accept, record, record_of, wait
from tests.snapshots import catalogue_of
from tests.visiting import Visit

LATER = NOON + timedelta(hours=1)
SWEEP = """
name: pool
inventory: {path: pool.csv}
at: "22:30"
days_before_release: 7
catch_up: {rule: none}
"""


@pytest.fixture
def visit(backends: Backends, tmp_path: Path) -> Visit:
    """A browser of somebody who may operate."""
    found = Visit(backends, catalogue_of(tmp_path / "catalogue"))
    found.log_in(Scope.OPERATE)
    return found


def night_of(backends: Backends, day: date, **fields: object) -> Night:
    """Let a night of the sweep have been."""
    facts: dict[str, object] = {"day": day.isoformat(), "run": new_id(), "begun_ms": int(NOON.timestamp() * 1000)}
    night = Night(**facts | fields)  # type: ignore[arg-type]  # a test names the fields it means
    backends.redis.hset(backends.keys.sweep_nights("pool"), night.day, night.packed())
    return night


# -- retries -----------------------------------------------------------------------------------------------------------


def test_what_waits_is_shown_by_platform_and_why(visit: Visit) -> None:
    """Until when, for what, how many: and one batch with its jobs behind it."""
    cases = accept(visit.backends, ["alpha"], count=3)
    batch = wait(visit.backends, "alpha", cases, due=LATER, why=Why.PAUSED)
    page = visit.page("/retries")
    assert ("the end of a pause" in page, "in 1 h" in page) == (True, True)
    assert batch.id in visit.page("/retries/batches?platform=alpha&why=paused")
    assert batch.id not in visit.page("/retries/batches?why=retry")
    assert "138****0002" in visit.page(f"/retries/batches/{batch.id}")


def test_batches_are_hurried_and_taken_out_with_reason_and_count(visit: Visit) -> None:
    """A wrong count changes nothing; a right one exactly what was meant."""
    first, second = accept(visit.backends, ["alpha", "beta"], count=2)
    wait(visit.backends, "alpha", [first], due=LATER)
    wait(visit.backends, "beta", [second], due=LATER)
    assert (
        409
        == visit.send("/retries/act", {"verb": "cancel", "platform": "alpha", "reason": "x", "expected": 2}).status_code
    )
    assert State.QUEUED is record_of(visit.backends, first, "alpha").state
    assert (
        303
        == visit.send("/retries/act", {"verb": "cancel", "platform": "alpha", "reason": "x", "expected": 1}).status_code
    )
    assert State.CANCELLED is record_of(visit.backends, first, "alpha").state
    assert (
        303
        == visit.send("/retries/act", {"verb": "run_now", "everything": "1", "reason": "y", "expected": 1}).status_code
    )
    assert "1 batches are due" in visit.page("/retries")
    said = [(each.action.what, each.action.who) for each in visit.backends.actions.list()]
    assert [(What.RETRIES_CANCEL, "console:night"), (What.RETRIES_RUN_NOW, "console:night")] == said


def test_everything_that_waits_is_only_meant_if_it_is_said(visit: Visit) -> None:
    """A form without any choice is a mistake, and not everything."""
    wait(visit.backends, "alpha", accept(visit.backends, ["alpha"]), due=LATER)
    assert 400 == visit.send("/retries/act", {"verb": "cancel", "reason": "x", "expected": 1}).status_code
    assert 400 == visit.get("/retries/act?verb=burn&everything=1").status_code


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_run_is_followed_and_its_results_are_kept(visit: Visit) -> None:
    """How far it is, by platform, live, and as a file that no spreadsheet runs."""
    run = new_id()
    cases = accept(visit.backends, ["alpha", "beta"], count=4, run=run)
    record(visit.backends, "alpha", cases, state=State.UNBOUND)
    record(visit.backends, "beta", cases[:1], reason=Fault.TIMEOUT)
    assert f"/console/runs/{run}" in visit.page("/runs")
    assert "Nothing fits" in visit.page("/runs?q=another.csv")
    assert "62.5 %" in visit.page(f"/runs/{run}/live?once=1")
    assert f"/console/dead/letters?run={run}&amp;platform=beta" in visit.page(f"/runs/{run}/platforms")
    lines = visit.get(f"/runs/{run}/results").text.splitlines()
    assert (9, "138****0000") == (len(lines), lines[1].split(",")[1])
    assert 8 == len(visit.get(f"/runs/{run}/results?format=json").text.splitlines())
    assert 404 == visit.get(f"/runs/{new_id()}").status_code


def test_rows_that_were_refused_are_shown_masked(visit: Visit) -> None:
    """Who handed the file in sees which rows to mend, and where all of them are."""
    run = new_id()
    accept(visit.backends, ["alpha"], run=run)
    folder = visit.backends.settings.data_dir / "runs" / run
    folder.mkdir(parents=True)
    (folder / "rejected.csv").write_text("line,field,problem,value\n7,number,<i>too short</i>,138****\n")
    page = visit.page(f"/runs/{run}")
    assert ("&lt;i&gt;too short" in page, "rejected.csv" in page) == (True, True)


def test_a_run_is_cancelled_with_a_reason(visit: Visit) -> None:
    """What nobody has sent is taken out; without a reason nothing is."""
    run = new_id()
    (case,) = accept(visit.backends, ["alpha"], run=run)
    wait(visit.backends, "alpha", [case], due=LATER, run=run)
    assert 400 == visit.send(f"/runs/{run}/cancel", {"reason": " "}).status_code
    assert "" == visit.backends.runs.cancelled(run)
    assert 303 == visit.send(f"/runs/{run}/cancel", {"reason": "wrong file"}).status_code
    assert "wrong file" in visit.page(f"/runs/{run}")


# -- sweeps ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweeping(visit: Visit, tmp_path: Path) -> Visit:
    """The same browser, where a sweep is set."""
    folder = tmp_path / "sweeps"
    folder.mkdir()
    (folder / "pool.yaml").write_text(SWEEP)
    object.__setattr__(visit.backends.settings, "sweeps", folder)
    return visit


def test_where_no_sweep_is_set_the_page_says_so(visit: Visit) -> None:
    """Nothing there yet is no error."""
    assert "RENEWAL_SWEEPS" in visit.page("/sweeps")
    assert 404 == visit.get("/sweeps/pool").status_code


def test_a_sweep_is_shown_paused_and_resumed(sweeping: Visit) -> None:
    """In words when it runs; with a reason it stands still, and the list says why."""
    night_of(sweeping.backends, date(2026, 10, 31), ending=Ending.COMPLETED, planned=20, accepted=19, known=1)
    assert "every day at 22:30, Asia/Shanghai" in sweeping.page("/sweeps")
    assert 303 == sweeping.send("/sweeps/pool/pause", {"reason": "stocktaking"}).status_code
    page = sweeping.page("/sweeps/pool")
    assert ("stocktaking" in page, "2026-10-31" in page, "/sweeps/pool/run" in page) == (True, True, False)
    assert 409 == sweeping.send("/sweeps/pool/run", {"reason": "now"}).status_code
    assert 303 == sweeping.send("/sweeps/pool/resume", {"reason": "done"}).status_code
    assert "at rest" in sweeping.page("/sweeps/pool")
    night = sweeping.page("/sweeps/pool/nights/2026-10-31")
    assert ("completed" in night, "No forecast is kept" in night) == (True, True)
    assert 409 == sweeping.get("/sweeps/pool/nights/2026-10-30").status_code


def test_withdrawals_that_need_a_person_are_noted_as_told(visit: Visit) -> None:
    """All or none, with a reason and the count; what needs no person cannot be ticked off."""
    first, second = (job_id(case, "alpha") for case in accept(visit.backends, ["alpha"], count=2))
    for job, stage in ((first, Stage.NOT_SUPPORTED), (second, Stage.REQUESTED)):
        at_ms = int(NOON.timestamp() * 1000)
        visit.backends.withdrawals.note(
            Withdrawal(job=job, stage=stage, requested_ms=at_ms, changed_ms=at_ms, attempts=0, detail=""), again_at=None
        )
    assert 1 == visit.page("/withdrawals").count('name="job"')
    assert (
        409 == visit.send("/withdrawals/told", {"job": [first, second], "reason": "by mail", "expected": 2}).status_code
    )
    assert 409 == visit.send("/withdrawals/told", {"job": first, "reason": "by mail", "expected": 2}).status_code
    assert 303 == visit.send("/withdrawals/told", {"job": first, "reason": "by mail", "expected": 1}).status_code
    assert {first: Stage.ACKNOWLEDGED, second: Stage.REQUESTED} == {
        each.job: each.stage for each in visit.backends.withdrawals.every()
    }


# -- roles -------------------------------------------------------------------------------------------------------------

CHANGES = (
    "/dead/replay", "/dead/discard", "/dead/replays/x/stop", "/dead/replays/x/resume", "/retries/act", "/runs/x/cancel",
    "/sweeps/pool/pause", "/sweeps/pool/resume", "/sweeps/pool/run", "/withdrawals/told",
)  # fmt: skip


def test_who_may_only_read_changes_nothing_here(visit: Visit) -> None:
    """Each form is refused by the server, whatever a browser draws."""
    visit.log_in(Scope.READ)
    token = visit.token
    assert {403} == {visit.send(path, {"reason": "x", "expected": 0}, token=token).status_code for path in CHANGES}
    assert [] == visit.backends.actions.list()


def test_a_form_without_the_session_s_token_or_from_elsewhere_is_refused(visit: Visit) -> None:
    """A page of somebody else's cannot send one of these forms."""
    token = visit.token
    said = {"reason": "x", "expected": 0}
    assert {409} == {visit.send(path, said, token="0" * 32).status_code for path in CHANGES}
    foreign = {visit.send(path, said, token=token, origin="https://evil.example").status_code for path in CHANGES}
    assert {409} == foreign
    assert [] == visit.backends.actions.list()
