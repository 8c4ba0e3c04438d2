"""Answers that come later than the call, as the result events that carry them. Pure.

They are grouped by what is known of their jobs, so that each keeps its own generation and number of attempts: a final
answer wins whatever they are, and one that only asks for a review does not move a job that was replayed meanwhile.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal

from schemas.ids import derive
from schemas.record import JobRecord
from schemas.result import ANSWERED, LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import State
from workers.connector import Answered

Way = Literal["callback", "poll"]


def answered(
    platform: str,
    said: Mapping[str, Answered],
    known: Mapping[str, JobRecord],
    *,
    message: str,
    way: Way,
    now: datetime,
) -> Iterator[ResultEvent]:
    """Yield the events that say what a platform answered later; `said` and `known` are by case.

    The same `message` about the same jobs gives events of the same ids: heard twice it takes effect once.
    """
    alike: dict[tuple[int, int], list[JobResult]] = defaultdict(list)
    for case, answer in said.items():
        alike[known[case].generation, known[case].attempts].append(_result(case, answer))
    for (generation, attempt), jobs in alike.items():
        data = AttemptData(
            batch=message,
            run=message,
            platform=platform,
            attempt=attempt,
            generation=generation,
            started_at=now,
            ended_at=now,
            worker=way,
            calls=0,
            latencies=(0,) * (len(LATENCY_BOUNDS_MS) + 1),
            closes=False,
            jobs=tuple(jobs),
        )
        ident = derive(way, platform, message, str(generation), str(attempt), *(job.case for job in jobs))
        yield ResultEvent(id=ident, type=ANSWERED, time=now, subject=platform, data=data)


def _result(case: str, answer: Answered) -> JobResult:
    return JobResult(
        case=case,
        state=State(answer.outcome.value),
        outcome=answer.outcome,
        reason=answer.reason,
        reference=answer.reference,
        detail=answer.detail,
    )
