"""What a replay has come to, as people and programs read it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from backends.bootstrap import Backends
from backends.replays import Phase, Replay
from ops.when import iso
from schemas.ids import split_job_id

LIST_FIELDS: Final = (
    "replay", "asked_at", "who", "state", "total", "sent", "settled", "failed", "skipped", "pending", "why", "reason",
)  # fmt: skip
PLATFORM_FIELDS: Final = ("platform", "state", "total", "sent", "settled", "failed", "skipped", "pending", "why")
_PAGE: Final = 1000


def replay_row(replay: Replay) -> dict[str, Any]:
    """Return a replay as a list shows it. `pending` jobs are out, `total` less the others is still to be sent."""
    return {
        "replay": replay.id,
        "asked_at": iso(replay.asked_ms),
        "who": replay.who,
        "state": replay.phase,
        "total": replay.total,
        "sent": sum(progress.sent for progress in replay.platforms),
        "settled": sum(_total(progress.settled for progress in replay.platforms).values()),
        "failed": sum(_total(progress.failed for progress in replay.platforms).values()),
        "skipped": sum(_total(progress.skipped for progress in replay.platforms).values()),
        "pending": replay.out,
        "why": why_of(replay),
        "reason": replay.reason,
    }


def platform_rows(replay: Replay) -> list[dict[str, Any]]:
    """Return how far a replay is at each platform."""
    return [
        {
            "platform": progress.platform,
            "state": Phase.STOPPED if replay.halt and progress.phase is not Phase.DONE else progress.phase,
            "total": progress.end - progress.start,
            "sent": progress.sent,
            "settled": sum(progress.settled.values()),
            "failed": sum(progress.failed.values()),
            "skipped": sum(progress.skipped.values()),
            "pending": progress.out,
            "why": progress.why or None,
        }
        for progress in replay.platforms
    ]


def replay_figures(replay: Replay) -> dict[str, Any]:
    """Return all that is counted of a replay, as a whole and at each platform."""
    platforms = replay.platforms
    return replay_row(replay) | {
        "wanted": replay.wanted,
        "canary": replay.canary,
        "settled_by_state": dict(_total(progress.settled for progress in platforms)),
        "failed_by_reason": dict(_total(progress.failed for progress in platforms)),
        "skipped_by_why": dict(_total(progress.skipped for progress in platforms)),
        "platforms": platform_rows(replay),
    }


def replay_report(backends: Backends, replay: Replay) -> dict[str, Any]:
    """Return the whole report. `now` counts all its jobs by what they are at this moment."""
    return replay_figures(replay) | {"now": _now(backends, replay)}


def why_of(replay: Replay) -> str | None:
    """Say why a replay stands still."""
    if replay.phase is Phase.DONE:
        return None
    if replay.halt:
        return f"stopped by a person: {replay.halt}"
    stopped = [progress for progress in replay.platforms if progress.phase is Phase.STOPPED]
    if not stopped:
        return None
    more = f" (and {len(stopped) - 1} platforms more)" if len(stopped) > 1 else ""
    return f"{stopped[0].platform}: {stopped[0].why}{more}"


def _now(backends: Backends, replay: Replay) -> dict[str, int]:
    states: Counter[str] = Counter()
    for progress in replay.platforms:
        for start in range(progress.start, progress.end, _PAGE):
            count = min(_PAGE, progress.end - start)
            cases = [split_job_id(job)[0] for job in backends.replays.jobs(replay.id, start=start, count=count)]
            states.update(record.state.value for record in backends.store.records(progress.platform, cases))
    return dict(states)


def _total(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total
