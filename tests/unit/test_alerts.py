"""Every alert comes when it should and stays away when it should not, and has a page that says what to do."""

import re
from pathlib import Path
from typing import Any

import pytest

from backends.admission import GateState
from backends.custody import Phase
from backends.figures import Piles, Server
from backends.runs import Counters
from backends.subscribers import Told
from ops.alerts import (
    DUE_LATE_S,
    RESULTS_BACKLOG,
    SUBSCRIBER_LATE_S,
    SWEEP_LATE_S,
    TRIPS_MIN,
    AlertCode,
    Severity,
    alerts,
)
from ops.overdue import Deadlines
from ops.snapshot import Held, Snapshot, SubscriberFigures, SweepFigures
from schemas.outcome import Fault
from schemas.state import STATES, State
from tests.fixtures_valkey import NOON
from tests.snapshots import gate, living, quiet, waiting

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
SAFE: dict[str, Any] = {"maxmemory_policy": "noeviction", "appendonly": True, "used_memory": 1}
HELD: dict[str, Any] = {"by_phase": {Phase.QUEUED: 2}, "oldest_s": {}}

REVIEWED = Counters(values={f"state:{STATES[State.PENDING_REVIEW].code}": 3})


def without(role: str) -> dict[str, Any]:
    """Return a system in which one role is missing: its one process was silent for too long."""
    roles = ("worker", "recorder", "scheduler")
    return {"processes": tuple(living(each, silent_s=16.0 if each == role else 1.0) for each in roles)}


def with_gate(**fields: Any) -> dict[str, Any]:
    """Return a system one of whose gates does not stand as usual."""
    return {"gates": {"alpha": gate(**fields), "beta": gate("beta")}}


def failing(seconds: float) -> Told:
    """Return a subscriber that has failed for so long."""
    return Told(failures=3, failing_ms=int((NOON.timestamp() - seconds) * 1000), problem="HTTP 500")


WRONG: list[tuple[AlertCode, dict[str, Any]]] = [
    (AlertCode.STORE_NOT_SAFE, {"server": Server(**SAFE | {"maxmemory_policy": "allkeys-lru"})}),
    (AlertCode.STORE_NOT_SAFE, {"server": Server(**SAFE | {"appendonly": False})}),
    (AlertCode.BROKER_AWAY, {"queues": {}, "broker_problem": "the broker cannot be reached"}),
    (AlertCode.NO_WORKER, without("worker")),
    (AlertCode.NO_RECORDER, without("recorder")),
    (AlertCode.NO_SCHEDULER, without("scheduler")),
    (AlertCode.RESULTS_BACKLOG, {"queues": {"bulk": 0, "results": RESULTS_BACKLOG}}),
    (AlertCode.OLDEST_DUE_LATE, {"waiting": waiting(due=1, oldest_due_s=DUE_LATE_S + 1)}),
    (AlertCode.POISON_PRESENT, {"piles": Piles(poison=1)}),
    (AlertCode.POISON_PRESENT, {"piles": Piles(unreadable=1)}),
    (AlertCode.PLATFORM_SUSPENDED, with_gate(state=GateState.SUSPENDED, reason="unauthorized")),
    (AlertCode.PLATFORM_BROKEN, with_gate(state=GateState.BROKEN, trips=TRIPS_MIN)),
    (AlertCode.PLATFORM_BROKEN, with_gate(state=GateState.PROBING, trips=TRIPS_MIN)),
    (AlertCode.DEADLINE_MISSED, {"deadlines": {"alpha": Deadlines(overdue=3)}}),
    (AlertCode.DEADLINE_AT_RISK, {"deadlines": {"alpha": Deadlines(at_risk=3)}}),
    (AlertCode.DEAD_GROWING, {"dead_lately": {("alpha", Fault.TIMEOUT): 2}}),
    (AlertCode.FOR_REVIEW, {"counters": {"alpha": REVIEWED}}),
    (AlertCode.ORPHANS_PRESENT, {"piles": Piles(orphans=1)}),
    (AlertCode.DISPUTES_PRESENT, {"piles": Piles(disputes=1)}),
    (AlertCode.CALLBACKS_REFUSED, {"callbacks_refused": {"alpha": 2}}),
    (AlertCode.CALLBACKS_REFUSED, {"callbacks_refused": {"": 1}}),
    (AlertCode.SWEEP_STUCK, {"sweeps": {"nightly": SweepFigures(problem="changes.csv: not there")}}),
    (AlertCode.SWEEP_STUCK, {"sweeps": {"nightly": SweepFigures(overdue_s=SWEEP_LATE_S + 1)}}),
    (AlertCode.WITHDRAWALS_BY_HAND, {"by_hand": {"alpha": 2}}),
    (AlertCode.REDRIVEN, {"held": Held(**HELD, sent_again=1)}),
    (AlertCode.SUBSCRIBER_FAILING, {"piles": Piles(undelivered=1)}),
    (AlertCode.SUBSCRIBER_FAILING, {"subscribers": {"": SubscriberFigures(problem="not YAML")}}),
    (AlertCode.SUBSCRIBER_FAILING, {"subscribers": {"crm": SubscriberFigures(told=Told(gone_ms=1))}}),
    (AlertCode.SUBSCRIBER_FAILING, {"subscribers": {"crm": SubscriberFigures(told=failing(SUBSCRIBER_LATE_S + 1))}}),
    (AlertCode.SUBSCRIBER_FAILING, {"subscribers": {"crm": SubscriberFigures(behind_s=SUBSCRIBER_LATE_S + 1)}}),
]


def codes(now: Snapshot, earlier: Snapshot | None = None) -> list[AlertCode]:
    """Return what is told."""
    return [alert.code for alert in alerts(now, earlier)]


def test_a_quiet_system_raises_no_alert() -> None:
    """An alert that is always there is read by nobody."""
    assert [] == alerts(quiet(), quiet(taken_s=90.0))


@pytest.mark.parametrize(("code", "wrong"), WRONG)
def test_what_is_wrong_raises_its_alert_and_no_other(code: AlertCode, wrong: dict[str, Any]) -> None:
    """One cause that raises several alerts sends several people after one thing."""
    assert [code] == codes(quiet(**wrong))


def test_every_alert_is_tried_above() -> None:
    """A code that nothing raises is a promise that nobody keeps."""
    assert set(AlertCode) == {code for code, _ in WRONG}


@pytest.mark.parametrize(
    "well",
    [
        {"queues": {"bulk": 10**6, "results": RESULTS_BACKLOG - 1}},
        {"waiting": waiting(due=10**6, oldest_due_s=DUE_LATE_S)},
        with_gate(state=GateState.BROKEN, trips=TRIPS_MIN - 1),
        {"sweeps": {"nightly": SweepFigures(overdue_s=SWEEP_LATE_S)}},
        {"subscribers": {"crm": SubscriberFigures(told=failing(SUBSCRIBER_LATE_S), behind_s=SUBSCRIBER_LATE_S)}},
        with_gate(state=GateState.PAUSED, trips=TRIPS_MIN, reason="their wish"),
    ],
)
def test_below_its_threshold_nothing_is_told(well: dict[str, Any]) -> None:
    """A full lane, one break, and what a person has stopped on purpose are everyday things."""
    assert [] == codes(quiet(**well))


def test_batches_sent_again_are_told_when_their_count_has_grown() -> None:
    """They may be recorded already when somebody looks; the count of all time alone says nothing of today."""
    assert [AlertCode.REDRIVEN] == codes(quiet(redriven=8), quiet(redriven=7))
    assert [] == codes(quiet(redriven=8), quiet(redriven=8))


def test_the_most_severe_comes_first() -> None:
    """On a small screen only the first lines are seen."""
    everything = {name: value for _, wrong in WRONG for name, value in wrong.items() if name != "piles"}
    severities = [alert.code.severity for alert in alerts(quiet(**everything, piles=Piles(poison=1, disputes=1)))]
    assert sorted(severities, key=list(Severity).index) == severities
    assert set(Severity) == set(severities)


def test_an_alert_names_its_platform_and_why() -> None:
    """Who is woken wants to know where to go."""
    (alert,) = alerts(quiet(**with_gate(state=GateState.SUSPENDED, reason="unauthorized")))
    assert "alpha" == alert.subject
    assert "unauthorized" in alert.text
    assert "docs/runbooks/platform_suspended.md" == alert.row()["runbook"]


@pytest.mark.parametrize("code", list(AlertCode))
def test_every_alert_has_a_page(code: AlertCode) -> None:
    """A person at night reads what to do, and does not have to invent it."""
    page = (RUNBOOKS.parents[1] / code.runbook).read_text(encoding="utf-8")
    assert f"Alert `{code}`, {code.severity}." in page
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert ["What it means", "How to look", "What to do", "How to see that it is over"] == headings


def test_every_page_is_of_an_alert_or_of_a_task() -> None:
    """A page for an alert that is gone sends people astray."""
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    listed, tasks = (set(re.findall(r"\]\(([^)]+)\)", part)) for part in index.split("## Tasks"))
    assert {f"{code}.md" for code in AlertCode} == listed
    assert listed | tasks | {"README.md"} == {path.name for path in RUNBOOKS.iterdir()}
