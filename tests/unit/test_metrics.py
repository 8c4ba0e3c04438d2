"""Metrics say what the counters say, under names by convention, with labels from closed sets only."""

import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from typing_extensions import override

from backends.admission import GateState
from backends.dead import DeadGroup
from backends.figures import Piles
from backends.runs import Counters
from backends.subscribers import Told
from ops.alerts import Alert, AlertCode
from ops.metrics import families
from ops.overdue import Deadlines
from ops.snapshot import Snapshot, SubscriberFigures, SweepFigures
from schemas.outcome import Fault
from schemas.result import LATENCY_BOUNDS_MS
from schemas.state import STATES, State
from tests.snapshots import PLATFORMS, gate, living, quiet

UNITS = ("_total", "_seconds", "_bytes", "_info", "_bucket")
# What counts things has their name and no unit.
COUNTED = {
    "renewal_jobs", "renewal_cases", "renewal_gate_state", "renewal_gate_share", "renewal_calls_in_flight",
    "renewal_waiting_batches", "renewal_dead_letters", "renewal_broker_up", "renewal_queue_messages",
    "renewal_due_batches", "renewal_custody_batches", "renewal_kept_items", "renewal_alerts", "renewal_processes",
    "renewal_subscriber_failures", "renewal_promised_jobs",
}  # fmt: skip


class Once(Collector):
    """One scrape, for the library's registry."""

    def __init__(self, found: list[Metric]) -> None:
        self.found = found

    @override
    def collect(self) -> list[Metric]:
        return self.found


def scraped(now: Snapshot, *found: Alert) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Write a snapshot as OpenMetrics, and read it again with the parser of the specification's own library."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once(list(families(now, found, version="0.1.0"))))
    text = generate_latest(registry).decode()  # type: ignore[no-untyped-call]  # the library has no types here
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # nor here
        for sample in family.samples
    }


def value(now: Snapshot, name: str, *found: Alert, **labels: str) -> float | None:
    """Return one sample; None if there is none."""
    return scraped(now, *found).get((name, tuple(sorted(labels.items()))))


def counted(**values: int) -> dict[str, Any]:
    """Return a system in which alpha has these counters; `__` stands for the colon of their names."""
    counters = Counters(values={name.replace("__", ":"): n for name, n in values.items()})
    return {"counters": {"alpha": counters, "beta": Counters(values={})}}


def busy() -> Snapshot:
    """Return a system in which every family has something to say."""
    dead = DeadGroup(platform="beta", reason=Fault.TIMEOUT, count=4, first_ms=1, last_ms=2, sample="x.beta")
    return quiet(
        **counted(attempts=3, status__200=2, status__timeout=1, fault__timeout=1, latency__0=2, latency__12=1),
        dead=(dead,),
        sweeps={"nightly": SweepFigures(completed_ms=1_700_000_000_000)},
        deadlines={"alpha": Deadlines(overdue=2, at_risk=1)},
        subscribers={"crm": SubscriberFigures(told=Told(delivered=5, failures=2), behind_s=9)},
    )


def test_jobs_that_nobody_has_tried_count_as_queued() -> None:
    """They have no record; only what was accepted knows of them."""
    unbound = f"state:{STATES[State.UNBOUND].code}"
    now = quiet(totals=Counters(values={"jobs": 10, "cases": 2, unbound: 7, "verdict:CLEAN": 1}))
    assert (7, 3) == (value(now, "renewal_jobs", state="UNBOUND"), value(now, "renewal_jobs", state="QUEUED"))
    assert (1, 1) == (value(now, "renewal_cases", verdict="CLEAN"), value(now, "renewal_cases", verdict="INCOMPLETE"))


def test_latencies_are_cumulative_buckets_in_seconds_and_have_no_sum() -> None:
    """A sum that nobody counted would make a mean that nobody measured."""
    found = scraped(busy())
    buckets = {
        dict(labels)["le"]: n
        for (name, labels), n in found.items()
        if name == "renewal_call_duration_seconds_bucket" and ("platform", "alpha") in labels
    }
    assert len(LATENCY_BOUNDS_MS) + 1 == len(buckets)
    assert (2, 2, 3) == (buckets["0.005"], buckets["30.0"], buckets["+Inf"])
    assert [] == [name for name, _ in found if name == "renewal_call_duration_seconds_sum"]


@pytest.mark.parametrize(("status", "label"), [("200", "200"), ("timeout", "timeout"), ("799", "7xx"), ("299", "2xx")])
def test_a_status_that_a_platform_makes_up_makes_no_series_of_its_own(status: str, label: str) -> None:
    """900 statuses at 240 platforms would bring a Prometheus down."""
    now = quiet(**counted(**{f"status__{status}": 5}))
    assert 5 == value(now, "renewal_calls_total", platform="alpha", status=label)


def test_a_gate_is_in_one_state() -> None:
    """A state that stays at 1 beside the new one would ring for ever."""
    now = quiet(gates={"alpha": gate(state=GateState.SUSPENDED), "beta": gate("beta")})
    states = {state: value(now, "renewal_gate_state", platform="alpha", state=state) for state in GateState}
    assert {state: float(state is GateState.SUSPENDED) for state in GateState} == states


def test_an_alert_is_one_for_its_subject_and_all_others_are_zero() -> None:
    """A rule that waits for a series that never was says nothing when it should."""
    alert = Alert(code=AlertCode.FOR_REVIEW, text="3 answers", subject="alpha")
    found = scraped(quiet(), alert)
    told = {dict(labels)["code"]: n for (name, labels), n in found.items() if name == "renewal_alerts" and n}
    assert {"for_review": 1.0} == told
    assert set(AlertCode) == {dict(labels)["code"] for name, labels in found if name == "renewal_alerts"}


def test_without_its_broker_there_are_no_depths() -> None:
    """Nothing known is not nothing waiting."""
    now = quiet(queues={}, broker_problem="away")
    assert 0 == value(now, "renewal_broker_up")
    assert [] == [name for name, _ in scraped(now) if name == "renewal_queue_messages"]


def test_the_newest_sign_of_life_of_a_role_counts() -> None:
    """One worker of many that died is no alarm; none at all is."""
    now = quiet(processes=(living("worker", silent_s=90), living("worker", silent_s=2)))
    at = now.at.timestamp()
    assert at - 2 == value(now, "renewal_process_heartbeat_timestamp_seconds", role="worker")
    assert (1, 0) == tuple(value(now, "renewal_processes", role=role) for role in ("worker", "beat"))


def test_names_follow_the_convention() -> None:
    """Whoever writes an expression guesses the name, and is right."""
    names = {name for name, _ in scraped(busy())}
    assert [] == [name for name in names if not re.fullmatch(r"renewal_[a-z_]+", name)]
    assert [] == [name for name in names if not name.endswith(UNITS) and name not in COUNTED]
    assert COUNTED <= names


def test_every_label_is_of_a_closed_set() -> None:
    """A host, an id or a number as a label makes a new series each time, and tells what nobody may read."""
    labels = {label for _, found in scraped(busy()) for label in found}
    free = {(name, text) for name, text in labels if name not in {"le", "version"}}
    words = {text for _, text in free}
    assert set(PLATFORMS) <= words
    assert [] == [text for text in words if re.search(r"\d{4}|host|[A-Z]{2}\d", text)]
    assert {"platform", "status", "fault", "state", "verdict", "queue", "phase", "kind", "code", "severity", "subject",
            "sweep", "role", "reason", "subscriber", "standing"} == {name for name, _ in free}  # fmt: skip


def test_a_subscriber_is_counted_under_its_name() -> None:
    """The name stands in the operator's own file; its URL may hold a secret."""
    names = ("renewal_notices_delivered_total", "renewal_subscriber_failures", "renewal_subscriber_behind_seconds")
    assert [5, 2, 9] == [value(busy(), name, subscriber="crm") for name in names]


def test_what_was_kept_is_counted_by_kind() -> None:
    """Each kind has its own page of what to do."""
    now = quiet(piles=Piles(poison=1, unreadable=2, orphans=3, disputes=4, late=5, undelivered=6))
    kinds = ("poison", "unreadable", "orphans", "disputes", "late", "undelivered")
    assert [1, 2, 3, 4, 5, 6] == [value(now, "renewal_kept_items", kind=kind) for kind in kinds]
