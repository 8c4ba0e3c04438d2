"""Runs as people see them: which there are, how far each is, its report, and its end before its time."""

import csv
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

import producers.cancel
import producers.submit
from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.runs import Cursor
from backends.waiting import Why
from ops.inspector import Inspector
from ops.run_desk import RunDesk, RunState
from platforms.catalogue import Catalogue
from producers.decision import decision
from producers.rows import Row
from producers.submit import Submitter
from schemas.batch import Basis, Batch
from schemas.errors import NotFound, Refused
from schemas.ids import new_id
from schemas.state import State
from tests.fixtures_valkey import NOON

PLATFORMS = ("alipay", "wechat")
CATALOGUE = Catalogue.load().select(list(PLATFORMS))


class Died(BaseException):
    """What stands for SIGKILL: nothing of ours catches it."""


def die_at(step: str, *, times: int = 1) -> Callable[[str], None]:
    """Return a `reach` that ends it all at a step."""
    left = [times]

    def reach(name: str) -> None:
        left[0] -= name == step
        if name == step and not left[0]:
            raise Died

    return reach


@pytest.fixture
def desk(backends: Backends) -> RunDesk:
    """The desk of a catalogue of two platforms."""
    return RunDesk(backends, Inspector(backends, CATALOGUE))


def rows(count: int, *, first: int = 0) -> list[Row]:
    """Return good rows."""
    return [
        Row(
            line=index + 2,
            number=f"+86138{first + index:08d}",
            cutoff_at="2026-11-01T00:00:00+08:00",
            reference=f"R-{first + index}",
            basis=Basis.PLANNED_RELEASE,
            cycle="one",
            platforms=None,
        )
        for index in range(count)
    ]


def submitted(backends: Backends, given: Sequence[Row], *, file: str = "numbers.csv") -> str:
    """Submit rows as a run of their own."""
    run = new_id()
    backends.runs.begin(run, file=file, now=backends.clock.now())
    Submitter(backends, CATALOGUE, operator="op").submit(given, run=run, on_rejected=lambda _: None)
    return run


def settle(backends: Backends, run: str, cases: Sequence[str], *, state: State, platform: str = "alipay") -> None:
    """Record what a platform answered."""
    event = decision(cases, platform=platform, run=run, batch=run, state=state, who="test", now=backends.clock.now())
    backends.store.decide(event, only_from=frozenset({State.QUEUED}))


def cases_of(backends: Backends, run: str) -> list[str]:
    """Return the cases of a run."""
    return list(backends.runs.cases(run))


def states(backends: Backends, run: str) -> list[str]:
    """Return the state of every job of a run, case by case."""
    views = backends.store.cases(backends.runs.cases(run))
    return [view.record(platform).state.value for view in views for platform in PLATFORMS]


def cancel(desk: RunDesk, run: str) -> tuple[int, int]:
    """Cancel a run without waiting; return what was taken out, and what is left."""
    end = desk.cancel(run, reason="wrong file", tell=lambda _: None, pause=lambda _: None)
    return end.jobs, end.left


# --- looking -----------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_with_how_far_they_are(backends: Backends, desk: RunDesk) -> None:
    """What a night operator asks first in the morning."""
    old = submitted(backends, rows(2), file="old.csv")
    settle(backends, old, cases_of(backends, old), state=State.NO_BINDING)
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(NOON + timedelta(seconds=60))
    new = submitted(backends, rows(1, first=50), file="new.csv")
    for platform in PLATFORMS:
        settle(backends, new, cases_of(backends, new), state=State.UNBOUND, platform=platform)
    first, second = desk.rows(limit=10)
    assert [new, "new.csv", RunState.DONE, 1, 2, 2, 100.0] == [
        first[name] for name in ("run", "file", "state", "cases", "jobs", "settled", "done_pct")
    ]
    assert [old, RunState.WORKING, 4, 2, 50.0] == [
        second[name] for name in ("run", "state", "jobs", "settled", "done_pct")
    ]
    assert [new] == [row["run"] for row in desk.rows(limit=1)]


def test_a_file_that_nobody_reads_any_more_shows_as_interrupted(backends: Backends, desk: RunDesk) -> None:
    """Else it would be waited for in vain."""
    run = new_id()
    backends.runs.begin(run, file="numbers.csv", now=backends.clock.now())
    backends.runs.save_cursor(run, Cursor(line=11, accepted=8, rejected=2), now=backends.clock.now())
    progress, state = desk.progress(run, at_s=0)
    assert (RunState.READING, 2, "") == (state, progress.cases_rejected, progress.intake_waits)
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(NOON + timedelta(seconds=61))
    progress, state = desk.progress(run, at_s=0)
    assert RunState.INTERRUPTED is state
    assert "nobody has read the file for 1 min 01 s: submit it again" == progress.intake_waits
    backends.runs.note_waits(run, "the queue is full", now=backends.clock.now())
    progress, state = desk.progress(run, at_s=0)
    assert (RunState.READING, "the queue is full") == (state, progress.intake_waits)


def test_one_run_is_shown_by_state_verdict_and_platform(backends: Backends, desk: RunDesk) -> None:
    """What is counted beside it belongs to other runs."""
    run = submitted(backends, rows(3))
    submitted(backends, rows(2, first=70))
    first, second, _ = cases_of(backends, run)
    for platform in PLATFORMS:
        settle(backends, run, [first], state=State.NO_BINDING, platform=platform)
    settle(backends, run, [second], state=State.REFUSED)
    found = desk.show(run)
    assert {"QUEUED": 3, "NO_BINDING": 2, "REFUSED": 1} == found["by_state"]
    assert {"NO_BINDING": 2, "REFUSED": 1} == found["by_outcome"]
    assert {"CLEAN": 1, "INCOMPLETE": 2} == found["verdicts"]
    alipay, wechat = desk.platforms(run)
    assert ("alipay", 3, 2, 1) == tuple(alipay[name] for name in ("platform", "jobs", "settled", "queued"))
    assert {"QUEUED": 2, "NO_BINDING": 1} == wechat["states"]


def test_a_run_that_is_not_there_is_not_found(desk: RunDesk) -> None:
    """By any verb."""
    for look in (desk.show, desk.platforms, lambda run: desk.progress(run, at_s=0), lambda run: cancel(desk, run)):
        with pytest.raises(NotFound):
            look("a" * 26)


def test_a_report_can_be_written_of_any_run_at_any_time(backends: Backends, desk: RunDesk, tmp_path: Path) -> None:
    """From what is stored alone; it says what only a watcher could have known."""
    run = submitted(backends, rows(3))
    settle(backends, run, cases_of(backends, run)[:2], state=State.UNBOUND)
    summary = desk.report(run, target=tmp_path / "report", sandbox=False)
    assert ({State.QUEUED: 4, State.UNBOUND: 2}, 3) == (summary.jobs.by_state, summary.cases.accepted)
    with (tmp_path / "report" / "results.csv").open(encoding="utf-8", newline="") as file:
        assert states(backends, run) == [row["state"] for row in csv.DictReader(file)]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "nobody who writes reports watched this run" in page
    platforms = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["platforms"]
    assert {"alipay": 3, "wechat": 3} == {row["key"]: row["jobs"] for row in platforms}
    assert "calls" not in platforms[0]
    assert {"report.html", "report.json", "results.csv"} == {path.name for path in (tmp_path / "report").iterdir()}


# --- ending ------------------------------------------------------------------------------------------------------


def test_cancelling_takes_out_what_is_open_and_nothing_else(backends: Backends, desk: RunDesk) -> None:
    """Answers stay, other runs stay, and it is on record."""
    run = submitted(backends, rows(4))
    # A case of the first run that another file names too belongs to the first.
    other = submitted(backends, [*rows(2, first=80), rows(1)[0]])
    settle(backends, run, cases_of(backends, run)[:1], state=State.UNBOUND)
    assert (7, 0) == cancel(desk, run)
    assert ["UNBOUND", *["CANCELLED"] * 7] == states(backends, run)
    own = [view.id for view in backends.store.cases(backends.runs.cases(other)) if view.run == other]
    assert {State.QUEUED} == {view.record(key).state for view in backends.store.cases(own) for key in PLATFORMS}
    [entry] = backends.actions.list(target=run)
    assert ("run.cancel", "wrong file", 7) == (entry.action.what, entry.action.reason, entry.action.before["open_jobs"])
    assert (0, 0) == cancel(desk, run)
    [row] = [row for row in desk.rows(limit=9) if row["run"] == run]
    assert (RunState.CANCELLED, 100.0) == (row["state"], row["done_pct"])


def test_a_run_that_is_done_cannot_be_cancelled(backends: Backends, desk: RunDesk) -> None:
    """It would look as if something had been stopped."""
    run = submitted(backends, rows(1))
    for platform in PLATFORMS:
        settle(backends, run, cases_of(backends, run), state=State.UNBOUND, platform=platform)
    with pytest.raises(Refused, match="done"):
        cancel(desk, run)


def wait_again(backends: Backends, batch: Batch) -> None:
    """Put a batch into the waiting set, as a worker does with what has to wait."""
    note = backends.custody.begin(batch, holder="worker", lease_s=60, now=NOON)
    assert note is not None
    cases = tuple(backends.manifests.cases(batch))
    child = backends.manifests.child(batch, Why.RETRY, items=backends.manifests.open(batch), attempt=2)
    backends.waiting.put(child, due=NOON + timedelta(days=1), why=Why.RETRY)
    settle(backends, batch.run, cases, state=State.WAITING, platform=batch.platform)
    backends.custody.end(batch.id)


def held(backends: Backends, platform: str) -> list[Batch]:
    """Return the batches for a platform that are in custody."""
    names = [entry.batch for entry in backends.custody.every()]
    batches = [Batch.model_validate_json(body) for body in backends.custody.bodies(names).values()]
    return [batch for batch in batches if batch.platform == platform]


@pytest.mark.parametrize("step", ["cancel.waiting", "cancel.seized", "cancel.decided", "cancel.page"])
@pytest.mark.parametrize("times", [1, 2])
def test_cancelling_goes_on_wherever_it_ended(
    backends: Backends, desk: RunDesk, monkeypatch: pytest.MonkeyPatch, *, step: str, times: int
) -> None:
    """A closed terminal must leave nothing that nobody holds, and nothing that is cancelled under a call."""
    monkeypatch.setattr("backends.runs._PAGE", 2)
    monkeypatch.setattr("producers.cancel._AT_ONCE", 1)
    run = submitted(backends, [*rows(3), *[row._replace(line=row.line + 9) for row in rows(2, first=60)]])
    for batch in held(backends, "wechat"):
        wait_again(backends, batch)
    # One file died between recording and sending: nobody holds its jobs.
    with monkeypatch.context() as patch:
        patch.setattr(producers.submit, "reach", die_at("submit.accepted"))
        with pytest.raises(Died):
            Submitter(backends, CATALOGUE, operator="op").submit(
                [row._replace(line=row.line + 99) for row in rows(3, first=90)], run=run, on_rejected=lambda _: None
            )
    with monkeypatch.context() as patch:
        patch.setattr(producers.cancel, "reach", die_at(step, times=times))
        try:
            cancel(desk, run)
        except Died:
            assert backends.runs.facts([run])[0].counters.held or step == "cancel.page"
    end = desk.cancel(run, reason="wrong file", tell=lambda _: None, pause=lambda _: None)
    assert 0 == end.left
    assert {"CANCELLED"} == set(states(backends, run))
    assert (0, 0) == (backends.custody.counts()[0], backends.waiting.count())


def test_a_worker_finds_nothing_to_do_in_a_cancelled_batch(backends: Backends, desk: RunDesk) -> None:
    """Its message is still in the queue."""
    run = submitted(backends, rows(2))
    [batch] = held(backends, "alipay")
    assert (4, 0) == cancel(desk, run)
    assert backends.custody.begin(batch, holder="worker", lease_s=60, now=NOON) is not None
    assert {State.CANCELLED} == {
        record.state for record in backends.store.records("alipay", backends.manifests.cases(batch))
    }


def test_a_batch_that_is_being_cancelled_is_begun_by_no_worker(
    backends: Backends, desk: RunDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes first holds it: there is no moment in which both do."""
    run = submitted(backends, [row._replace(platforms=("alipay",)) for row in rows(2)])
    [batch] = held(backends, "alipay")
    begun: list[object] = []

    def try_to_begin(step: str) -> None:
        if step == "cancel.seized":
            begun.append(backends.custody.begin(batch, holder="worker", lease_s=60, now=NOON))

    monkeypatch.setattr(producers.cancel, "reach", try_to_begin)
    desk.cancel(run, reason="wrong file", tell=lambda _: None, pause=lambda _: None)
    assert [None] == begun


def test_what_a_platform_is_being_asked_is_left_to_its_answer(backends: Backends, desk: RunDesk) -> None:
    """Cancelled under the call, the answer would contradict what was recorded."""
    run = submitted(backends, rows(2))
    [asked] = held(backends, "alipay")
    now = backends.clock.now()
    note = backends.custody.begin(asked, holder="worker", lease_s=60, now=now)
    assert note is not None
    pauses = 0

    def answer_at_last(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 3:
            items = backends.manifests.open(asked)
            settle(backends, run, [items[0].job.case], state=State.UNBOUND)
            again = backends.manifests.child(asked, Why.RETRY, items=items[1:], attempt=2)
            backends.waiting.put(again, due=NOON + timedelta(days=1), why=Why.RETRY)
            backends.custody.end(asked.id)

    end = desk.cancel(run, reason="wrong file", tell=lambda _: None, pause=answer_at_last)
    # One was answered; the other would have been tried again.
    assert (3, 0, 3) == (end.jobs, end.left, pauses)
    assert ["UNBOUND", "CANCELLED", "CANCELLED", "CANCELLED"] == states(backends, run)
    assert 0 == backends.redis.llen(backends.keys.disputes)


def test_a_call_that_never_ends_does_not_hold_up_who_cancels(backends: Backends, desk: RunDesk) -> None:
    """They are told how much is left, and the same command looks after it."""
    run = submitted(backends, rows(1))
    entry = next(iter(backends.custody.every()))
    [body] = backends.custody.bodies([entry.batch]).values()
    now = backends.clock.now()
    backends.custody.begin(
        Batch.model_validate_json(body), holder="worker", lease_s=timedelta(hours=1).seconds, now=now
    )
    assert (1, 1) == cancel(desk, run)
    backends.custody.end(entry.batch)
    assert (1, 0) == cancel(desk, run)
