"""Metrics: a snapshot as Prometheus metric families. Pure.

All of it comes from counters that the status store keeps, so it is exact whatever the number of processes, and goes on
over their restarts. Labels come from closed sets (catalogue, sweeps, enumerations): never a number, an id or a host.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from backends.admission import GateState
from backends.custody import Phase
from ops.alerts import Alert, AlertCode
from ops.snapshot import Snapshot
from schemas.result import LATENCY_BOUNDS_MS
from schemas.state import State, Verdict

# Those that a deployment may have; a role that never lived has no sign of life.
ROLES: Final = ("worker", "recorder", "scheduler", "beat", "console")
# By the values of a family's labels.
Samples = Mapping[tuple[str, ...], float]


def families(now: Snapshot, found: Iterable[Alert], *, version: str) -> Iterator[Metric]:
    """Yield every family, also those that have nothing to say now."""
    yield from _of_jobs(now)
    yield from _of_platforms(now)
    yield from _of_queues(now)
    yield from _of_trouble(now, found)
    yield from _of_subscribers(now)
    yield from _of_processes(now)
    yield InfoMetricFamily("renewal_build", "What is running.", value={"version": version})


def _of_jobs(now: Snapshot) -> Iterator[Metric]:
    states = now.totals.by_state(now.totals.get("jobs"))
    yield _gauge("renewal_jobs", "Jobs ever accepted, by the state they are in.", ("state",),
                 of={(state,): states.get(state, 0) for state in State})  # fmt: skip
    verdicts = {verdict: now.totals.get(f"verdict:{verdict}") for verdict in Verdict}
    verdicts[Verdict.INCOMPLETE] = now.totals.get("cases") - sum(verdicts.values())
    yield _gauge("renewal_cases", "Cases ever accepted, by their verdict.", ("verdict",),
                 of={(verdict,): count for verdict, count in verdicts.items()})  # fmt: skip


def _of_platforms(now: Snapshot) -> Iterator[Metric]:
    counters = now.counters.items()
    yield _counter("renewal_attempts", "Attempts at batches.", ("platform",),
                   of={(key,): each.get("attempts") for key, each in counters})  # fmt: skip
    calls: Counter[tuple[str, ...]] = Counter()
    for key, each in counters:
        for status, count in each.family("status").items():
            calls[key, _status(status)] += count
    yield _counter("renewal_calls", "HTTP calls, by status or, without an answer, by fault.", ("platform", "status"),
                   of=calls)  # fmt: skip
    faults: Samples = {(key, fault): n for key, each in counters for fault, n in each.family("fault").items()}
    yield _counter(
        "renewal_faults", "Jobs of attempts that brought no answer, by fault.", ("platform", "fault"), of=faults
    )
    yield _durations(now)
    states: Samples = {(key, state): gate.state is state for key, gate in now.gates.items() for state in GateState}
    yield _gauge(
        "renewal_gate_state", "1 for the state in which a platform's gate is.", ("platform", "state"), of=states
    )
    yield _gauge("renewal_gate_share", "The part of its rate that a platform bears, as it has taught us.",
                 ("platform",), of={(key,): gate.share for key, gate in now.gates.items()})  # fmt: skip
    yield _gauge("renewal_calls_in_flight", "Calls that are open now.", ("platform",),
                 of={(key,): gate.in_flight_now for key, gate in now.gates.items()})  # fmt: skip
    yield _gauge("renewal_waiting_batches", "Batches of the waiting set.", ("platform",),
                 of={(key,): count for key, count in now.waiting.by_platform.items()})  # fmt: skip
    late: Samples = {
        (key, standing): getattr(each, standing)
        for key, each in now.deadlines.items()
        for standing in ("overdue", "at_risk")
    }
    yield _gauge(
        "renewal_promised_jobs", "Open jobs that are late, or soon will be.", ("platform", "standing"), of=late
    )
    yield _gauge("renewal_dead_letters", "Jobs that need a person.", ("platform", "reason"),
                 of={(group.platform, group.reason or "unknown"): group.count for group in now.dead})  # fmt: skip


def _durations(now: Snapshot) -> Metric:
    """Return the latency buckets that workers count; they keep no sum, so there is none (and no mean to be had)."""
    family = HistogramMetricFamily(
        "renewal_call_duration_seconds", "How long calls took, without a sum.", labels=("platform",)
    )
    for key, counters in now.counters.items():
        total, buckets = 0, []
        for bucket, bound in enumerate([*(str(bound / 1000) for bound in LATENCY_BOUNDS_MS), "+Inf"]):
            total += counters.get(f"latency:{bucket}")
            buckets.append((bound, float(total)))
        if total:
            family.add_metric((key,), buckets, sum_value=None)
    return family


def _of_queues(now: Snapshot) -> Iterator[Metric]:
    yield _gauge("renewal_broker_up", "1 if the broker could be asked.", (), of={(): not now.broker_problem})
    yield _gauge("renewal_queue_messages", "Messages that wait on the broker.", ("queue",),
                 of={(queue,): depth for queue, depth in now.queues.items()})  # fmt: skip
    yield _gauge("renewal_due_batches", "Batches of the waiting set that are due.", (), of={(): now.waiting.due})
    yield _gauge("renewal_oldest_due_seconds", "How long the first of them has been due.", (),
                 of={(): now.waiting.oldest_due_s})  # fmt: skip
    yield _gauge("renewal_custody_batches", "Batches that a queue or a worker holds.", ("phase",),
                 of={(phase,): now.held.by_phase.get(phase, 0) for phase in Phase})  # fmt: skip
    yield _counter("renewal_redriven_batches", "Batches that were sent again for want of progress.", (),
                   of={(): now.redriven})  # fmt: skip


def _of_trouble(now: Snapshot, found: Iterable[Alert]) -> Iterator[Metric]:
    yield _gauge("renewal_kept_items", "What was kept whole for a person to look through.", ("kind",),
                 of={(kind,): count for kind, count in asdict(now.piles).items()})  # fmt: skip
    told: Counter[tuple[str, ...]] = Counter({(code, code.severity, ""): 0 for code in AlertCode})
    known = {*now.gates, *now.sweeps, *now.subscribers}
    told.update((each.code, each.code.severity, each.subject if each.subject in known else "") for each in found)
    yield _gauge("renewal_alerts", "What `renewal alerts` tells now; subject is a platform, sweep or subscriber.",
                 ("code", "severity", "subject"), of=told)  # fmt: skip
    yield _gauge("renewal_sweep_last_success_timestamp_seconds", "When the last night ended that sent all it planned.",
                 ("sweep",), of={(name,): s.completed_ms / 1000 for name, s in now.sweeps.items() if name})  # fmt: skip


def _of_subscribers(now: Snapshot) -> Iterator[Metric]:
    named = {name: each for name, each in now.subscribers.items() if name}
    yield _counter("renewal_notices_delivered", "Notices that a subscriber took.", ("subscriber",),
                   of={(name,): each.told.delivered for name, each in named.items()})  # fmt: skip
    yield _gauge("renewal_subscriber_failures", "Failures in a row.", ("subscriber",),
                 of={(name,): each.told.failures for name, each in named.items()})  # fmt: skip
    yield _gauge("renewal_subscriber_behind_seconds", "How old the first notice is that a subscriber has not got.",
                 ("subscriber",), of={(name,): each.behind_s for name, each in named.items()})  # fmt: skip


def _of_processes(now: Snapshot) -> Iterator[Metric]:
    silent_s = {role: [beat.silent_s for beat in now.processes if beat.role == role] for role in ROLES}
    yield _gauge("renewal_processes", "Processes that show a sign of life.", ("role",),
                 of={(role,): len(now.alive(role)) for role in ROLES})  # fmt: skip
    yield _gauge("renewal_process_heartbeat_timestamp_seconds", "The last sign of life of any process of a role.",
                 ("role",), of={(role,): now.at.timestamp() - min(s) for role, s in silent_s.items() if s})  # fmt: skip
    yield _gauge("renewal_store_used_bytes", "Memory that the status store's server uses.", (),
                 of={(): now.server.used_memory})  # fmt: skip


def _gauge(name: str, about: str, labels: tuple[str, ...], *, of: Samples) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in of.items():
        family.add_metric(values, float(value))
    return family


def _counter(name: str, about: str, labels: tuple[str, ...], *, of: Samples) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in of.items():
        family.add_metric(values, float(value))
    return family


def _status(counted: str) -> str:
    """Return a label for what was counted: a platform that makes up statuses must not make up time series."""
    if not counted.isdigit():
        return counted
    try:
        return str(HTTPStatus(int(counted)).value)
    except ValueError:
        return f"{counted[0]}xx"
