"""What is watched, as rows: where batches are, and which processes live. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from backends.custody import Phase
from backends.heartbeat import Heartbeat
from ops.snapshot import RESULTS, Snapshot

QUEUE_FIELDS: Final = ("what", "name", "count", "oldest_s", "meaning")
WORKER_FIELDS: Final = (
    "role",
    "name",
    "state",
    "since",
    "last_sign_s",
    "running",
    "platforms",
    "done",
    "unit",
    "client",
)
_PHASES: Final = {
    Phase.QUEUED: "sent, and begun by no worker",
    Phase.BEGUN: "with a worker",
    Phase.ANSWERED: "answered; the result is not recorded yet",
}
_DONE: Final = {"worker": "batches", "recorder": "events", "scheduler": "released"}


def queue_rows(now: Snapshot, whys: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield how much is where: queues, custody, waiting set, and what a person has to look through."""
    for name, depth in now.queues.items():
        meaning = "result events for a recorder" if name == RESULTS else "batches for a worker"
        yield _row("queue", name, depth, meaning=meaning)
    for phase, meaning in _PHASES.items():
        count, oldest_s = now.held.by_phase.get(phase, 0), now.held.oldest_s.get(phase)
        yield _row("custody", phase.value, count, oldest_s=oldest_s, meaning=meaning)
    yield _row("custody", "sent again", now.held.sent_again, meaning="of these, showed no progress once")
    waiting = now.waiting
    due_s = waiting.oldest_due_s if waiting.due else None
    yield _row("waiting", "due now", waiting.due, oldest_s=due_s, meaning="a scheduler is about to send them")
    yield _row("waiting", "due later", waiting.later, meaning="not due yet")
    for why, count in whys.items():
        yield _row("waiting why", why, count, meaning="batches")
    yield _row("for a person", "dead", now.dead_total, meaning="jobs: renewal dead groups")
    piles = now.piles
    yield _row("for a person", "poison", piles.poison, meaning="messages that can never be read")
    yield _row("for a person", "unreadable", piles.unreadable, meaning="entries of the broker that are no message")
    yield _row("for a person", "orphans", piles.orphans, meaning="results for cases that are not known here")
    yield _row("for a person", "disputes", piles.disputes, meaning="answers that contradict the recorded one")
    yield _row("for a person", "late", piles.late, meaning="answers after their job had ended for want of one")


def _row(what: str, name: str, count: int, *, meaning: str, oldest_s: float | None = None) -> dict[str, Any]:
    oldest = None if oldest_s is None else round(oldest_s, 1)
    return {"what": what, "name": name, "count": count, "oldest_s": oldest, "meaning": meaning}


def worker_rows(processes: Sequence[Heartbeat]) -> Iterator[dict[str, Any]]:
    """Yield what each process does, the living first; one that is silent for long is shown as such."""
    for beat in sorted(processes, key=lambda beat: (not beat.alive, beat.role, beat.name)):
        unit = _DONE.get(beat.role)
        yield {
            "role": beat.role,
            "name": beat.name,
            "state": "gone" if beat.gone else "alive" if beat.alive else "silent",
            "since": _iso(beat.facts.get("since_s")),
            "last_sign_s": round(beat.silent_s, 1),
            "running": beat.facts.get("running"),
            "platforms": ", ".join(beat.facts.get("platforms", ())) or None,
            "done": beat.facts.get(unit) if unit else None,
            "unit": unit,
            "client": beat.facts.get("transport"),
        }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
