"""Alerts: what a person should know without asking. Pure, over a snapshot; each has a page in `docs/runbooks/`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from backends.admission import GateState
from ops.progress import duration_text
from ops.snapshot import RESULTS, Snapshot
from schemas.state import State

TRIPS_MIN: Final = 3
DUE_LATE_S: Final = 60.0
RESULTS_BACKLOG: Final = 1000
SWEEP_LATE_S: Final = 900.0
SUBSCRIBER_LATE_S: Final = 900.0


class Severity(StrEnum):
    """How soon somebody has to look."""

    CRITICAL = "critical"  # jobs do not flow, or may be lost: now
    WARNING = "warning"  # something is wrong; the rest goes on: today


class AlertCode(StrEnum):
    """Every alert there is."""

    STORE_NOT_SAFE = "store_not_safe"
    BROKER_AWAY = "broker_away"
    NO_WORKER = "no_worker"
    NO_RECORDER = "no_recorder"
    NO_SCHEDULER = "no_scheduler"
    RESULTS_BACKLOG = "results_backlog"
    OLDEST_DUE_LATE = "oldest_due_late"
    SWEEP_STUCK = "sweep_stuck"
    POISON_PRESENT = "poison_present"
    PLATFORM_SUSPENDED = "platform_suspended"
    PLATFORM_BROKEN = "platform_broken"
    DEADLINE_MISSED = "deadline_missed"
    DEADLINE_AT_RISK = "deadline_at_risk"
    DEAD_GROWING = "dead_growing"
    FOR_REVIEW = "for_review"
    ORPHANS_PRESENT = "orphans_present"
    DISPUTES_PRESENT = "disputes_present"
    CALLBACKS_REFUSED = "callbacks_refused"
    WITHDRAWALS_BY_HAND = "withdrawals_by_hand"
    REDRIVEN = "redriven"
    SUBSCRIBER_FAILING = "subscriber_failing"

    @property
    def severity(self) -> Severity:
        """How soon somebody has to look."""
        return Severity.CRITICAL if self in _CRITICAL else Severity.WARNING

    @property
    def runbook(self) -> str:
        """The page that says what to do."""
        return f"docs/runbooks/{self}.md"


_CRITICAL: Final = {
    AlertCode.STORE_NOT_SAFE,
    AlertCode.BROKER_AWAY,
    AlertCode.NO_WORKER,
    AlertCode.NO_RECORDER,
    AlertCode.NO_SCHEDULER,
    AlertCode.RESULTS_BACKLOG,
    AlertCode.OLDEST_DUE_LATE,
    AlertCode.SWEEP_STUCK,
    AlertCode.POISON_PRESENT,
}
_ROLES: Final = {
    AlertCode.NO_WORKER: ("worker", "nothing is sent"),
    AlertCode.NO_RECORDER: ("recorder", "no answer is recorded"),
    AlertCode.NO_SCHEDULER: ("scheduler", "nothing that waits is sent again"),
}
ALERT_FIELDS: Final = ("severity", "code", "subject", "text", "runbook")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that is wrong. `subject` is a platform or a sweep, or empty where it concerns the system."""

    code: AlertCode
    text: str
    subject: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as a list shows it."""
        return {
            "severity": self.code.severity.value,
            "code": self.code.value,
            "subject": self.subject or None,
            "text": self.text,
            "runbook": self.code.runbook,
        }


def alerts(now: Snapshot, earlier: Snapshot | None = None) -> list[Alert]:
    """Return what is wrong, the most severe first. `earlier` shows what has grown since."""
    found = [*_of_processes(now), *_of_queues(now), *_of_store(now), *_of_platforms(now), *_of_jobs(now, earlier),
             *_of_sweeps(now), *_of_subscribers(now)]  # fmt: skip
    order = {code: place for place, code in enumerate(AlertCode)}
    return sorted(found, key=lambda alert: (order[alert.code], alert.subject))


def _of_processes(now: Snapshot) -> Iterator[Alert]:
    for code, (role, therefore) in _ROLES.items():
        if not now.alive(role):
            yield Alert(code=code, text=f"no {role} shows a sign of life: {therefore}")


def _of_queues(now: Snapshot) -> Iterator[Alert]:
    if now.broker_problem:
        yield Alert(code=AlertCode.BROKER_AWAY, text=now.broker_problem)
    results = now.queues.get(RESULTS, 0)
    if results >= RESULTS_BACKLOG:
        yield Alert(code=AlertCode.RESULTS_BACKLOG, text=f"{results:,} results wait for a recorder; it falls behind")
    late_s = now.waiting.oldest_due_s
    if late_s > DUE_LATE_S:
        text = f"{now.waiting.due:,} batches are due and not sent, the first of them for {duration_text(late_s)}"
        yield Alert(code=AlertCode.OLDEST_DUE_LATE, text=text)


def _of_store(now: Snapshot) -> Iterator[Alert]:
    wrong = []
    if now.server.maxmemory_policy != "noeviction":
        wrong.append(f"maxmemory-policy is {now.server.maxmemory_policy}: it may throw jobs away")
    if not now.server.appendonly:
        wrong.append("appendonly is off: a restart forgets what happened since the last snapshot")
    if wrong:
        yield Alert(code=AlertCode.STORE_NOT_SAFE, text="; ".join(wrong))


def _of_sweeps(now: Snapshot) -> Iterator[Alert]:
    for name, sweep in now.sweeps.items():
        if sweep.problem:
            yield Alert(code=AlertCode.SWEEP_STUCK, subject=name, text=f"the night cannot go on: {sweep.problem}")
        elif sweep.overdue_s > SWEEP_LATE_S and now.alive("scheduler"):
            text = f"nobody has stepped the night that is due for {duration_text(sweep.overdue_s)}"
            yield Alert(code=AlertCode.SWEEP_STUCK, subject=name, text=text)
    for platform, count in now.by_hand.items():
        text = f"a person tells the platform of {count:,} numbers that were taken back"
        yield Alert(code=AlertCode.WITHDRAWALS_BY_HAND, subject=platform, text=text)


def _of_subscribers(now: Snapshot) -> Iterator[Alert]:
    code = AlertCode.SUBSCRIBER_FAILING
    for name, subscriber in now.subscribers.items():
        told = subscriber.told
        failing_s = now.at.timestamp() - told.failing_ms / 1000 if told.failing_ms else 0.0
        if subscriber.problem:
            yield Alert(code=code, subject=name, text=f"nobody is told: {subscriber.problem}")
        elif told.gone_ms:
            yield Alert(code=code, subject=name, text="it has answered 410 and is told nothing more")
        elif failing_s > SUBSCRIBER_LATE_S:
            text = f"it has taken nothing for {duration_text(failing_s)}: {told.problem}"
            yield Alert(code=code, subject=name, text=text)
        elif subscriber.behind_s > SUBSCRIBER_LATE_S:
            text = f"the first notice that it has not got is {duration_text(subscriber.behind_s)} old"
            yield Alert(code=code, subject=name, text=text)
    if now.piles.undelivered:
        text = f"{now.piles.undelivered:,} notices were not taken, and are kept"
        yield Alert(code=code, text=text)


def _of_platforms(now: Snapshot) -> Iterator[Alert]:
    for key, gate in now.gates.items():
        if gate.state is GateState.SUSPENDED:
            text = f"suspended: {gate.reason}; {now.waiting.by_platform.get(key, 0):,} batches wait"
            yield Alert(code=AlertCode.PLATFORM_SUSPENDED, subject=key, text=text)
        elif gate.trips >= TRIPS_MIN and gate.state in {GateState.BROKEN, GateState.PROBING}:
            text = f"broke {gate.trips} times in a row, {gate.state} now: {gate.reason}"
            yield Alert(code=AlertCode.PLATFORM_BROKEN, subject=key, text=text)


def _of_deadlines(now: Snapshot) -> Iterator[Alert]:
    for platform, found in now.deadlines.items():
        if found.overdue:
            text = f"{found.overdue:,} open jobs are beyond the time that was promised"
            yield Alert(code=AlertCode.DEADLINE_MISSED, subject=platform, text=text)
        if found.at_risk:
            text = f"{found.at_risk:,} open jobs have less than a working day left"
            yield Alert(code=AlertCode.DEADLINE_AT_RISK, subject=platform, text=text)


def _of_jobs(now: Snapshot, earlier: Snapshot | None) -> Iterator[Alert]:
    for (platform, reason), count in now.dead_lately.items():
        text = f"{count:,} jobs died of {reason or 'nothing known'} within the last hour"
        yield Alert(code=AlertCode.DEAD_GROWING, subject=platform, text=text)
    for platform, count in now.callbacks_refused.items():
        text = f"{count:,} callbacks were refused within the last hour; they changed nothing"
        yield Alert(code=AlertCode.CALLBACKS_REFUSED, subject=platform, text=text)
    for platform, counters in now.counters.items():
        if count := counters.by_state().get(State.PENDING_REVIEW, 0):
            text = f"{count:,} answers need a person: mostly codes that the catalogue does not know"
            yield Alert(code=AlertCode.FOR_REVIEW, subject=platform, text=text)
    yield from _of_deadlines(now)
    piles = now.piles
    if piles.poison or piles.unreadable:
        text = f"{piles.poison:,} messages can never be read, {piles.unreadable:,} entries of the broker are none"
        yield Alert(code=AlertCode.POISON_PRESENT, text=text)
    if piles.orphans:
        yield Alert(code=AlertCode.ORPHANS_PRESENT, text=f"{piles.orphans:,} results for cases that are not known here")
    if piles.disputes:
        yield Alert(
            code=AlertCode.DISPUTES_PRESENT, text=f"{piles.disputes:,} final answers contradict the recorded one"
        )
    grown = now.redriven - earlier.redriven if earlier is not None else 0
    if grown > 0 or now.held.sent_again:
        text = f"{now.held.sent_again:,} batches under way were sent again for want of progress; {now.redriven:,} ever"
        yield Alert(code=AlertCode.REDRIVEN, text=text)
