"""What a person decided about jobs, as the same kind of event by which a worker says what became of them."""

from collections.abc import Sequence
from datetime import datetime

from schemas.ids import new_id
from schemas.number import mask_text
from schemas.outcome import Reason
from schemas.result import DETAIL_CHARS_MAX, LATENCY_BOUNDS_MS, Alike, AttemptData, ResultEvent
from schemas.state import State

# What one event decides at most: a script call blocks the store for as long as it takes.
JOBS_AT_ONCE = 500


def decision(
    cases: Sequence[str],
    *,
    platform: str,
    run: str,
    batch: str,
    state: State,
    reason: Reason | None = None,
    detail: str = "",
    attempt: int = 0,
    generation: int = 0,
    who: str,
    now: datetime,
    event: str = "",
) -> ResultEvent:
    """Return the event that moves the jobs of one platform to `state`; for `StatusStore.decide`.

    The same `event` twice counts once. `detail` is a person's text: numbers in it are masked.
    """
    told = mask_text(detail)[:DETAIL_CHARS_MAX] or None
    data = AttemptData(
        batch=batch,
        run=run,
        platform=platform,
        attempt=attempt,
        generation=generation,
        started_at=now,
        ended_at=now,
        worker=who,
        calls=0,
        latencies=(0,) * (len(LATENCY_BOUNDS_MS) + 1),
        alike=(Alike(state=state, reason=reason, detail=told, cases=tuple(cases)),),
    )
    return ResultEvent(id=event or new_id(), time=now, subject=platform, data=data)
