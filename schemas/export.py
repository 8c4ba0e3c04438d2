"""The contract as JSON Schema 2020-12, for whoever reads our messages without our code."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from schemas.batch import Basis, Batch, Job
from schemas.ids import derive
from schemas.notice import CaseSettled, Notice
from schemas.outcome import Outcome, Refusal
from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import State, Verdict
from schemas.summary import CaseCounts, JobCounts, LedgerCheck, Summary

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_START = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
_CASES = (derive("case", "example", "1"), derive("case", "example", "2"))


def json_schema(example: BaseModel, *, name: str, version: int) -> dict[str, Any]:
    """Return the schema of the example's model, with the names by which others refer to it."""
    schema = type(example).model_json_schema()
    head = {
        "$schema": DIALECT,
        "$id": f"urn:number-renewal:{name}:v{version}",
        "title": f"{type(example).__name__} v{version}",
    }
    return head | {key: value for key, value in schema.items() if key != "title"} | {"examples": [_dump(example)]}


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every message and document of this package, by name."""
    examples: dict[str, BaseModel] = {
        "batch": _example_batch(),
        "result-event": _example_event(),
        "summary": _example_summary(),
        "notice": _example_notice(),
    }
    return {name: json_schema(example, name=name, version=1) for name, example in examples.items()}


def _dump(example: BaseModel) -> dict[str, Any]:
    return example.model_dump(mode="json", exclude_none=True)


def _example_batch() -> Batch:
    return Batch(
        id=derive("batch", "example"),
        run=derive("run", "example"),
        platform="acme",
        deadline=_START + timedelta(days=5),
        jobs=tuple(
            Job(case=case, cutoff_at="2026-02-28T16:00:00+00:00", basis=Basis.PLANNED_RELEASE) for case in _CASES
        ),
        sealed="AQAAAAFvcGFxdWUgdG8gYWxsIGJ1dCB0aGUgaG9sZGVycyBvZiB0aGUga2V5",
    )


def _example_event() -> ResultEvent:
    ended = _START + timedelta(milliseconds=48)
    return ResultEvent(
        id=derive("event", "example"),
        time=ended,
        subject="acme",
        data=AttemptData(
            batch=derive("batch", "example"),
            run=derive("run", "example"),
            platform="acme",
            attempt=1,
            started_at=_START,
            ended_at=ended,
            worker="worker-1",
            calls=1,
            http_statuses={"200": 1},
            latencies=tuple(int(bound == 50) for bound in (*LATENCY_BOUNDS_MS, None)),  # noqa: PLR2004 - 48 ms
            jobs=(
                JobResult(case=_CASES[0], state=State.UNBOUND, outcome=Outcome.UNBOUND, reference="A-17"),
                JobResult(case=_CASES[1], state=State.REFUSED, outcome=Outcome.REFUSED, reason=Refusal.FUNDS_OR_DEBT),
            ),
        ),
    )


def _example_notice() -> Notice:
    data = CaseSettled(case=_CASES[0], run=derive("run", "example"), verdict=Verdict.CLEAN)
    return Notice.of(data, ident=derive("notice", "example"), time=_START)


def _example_summary() -> Summary:
    return Summary(
        run=derive("run", "example"),
        cases=CaseCounts(accepted=2, rejected=1, duplicate=0),
        jobs=JobCounts(
            total=2,
            by_state={State.UNBOUND: 1, State.REFUSED: 1},
            by_outcome={Outcome.UNBOUND: 1, Outcome.REFUSED: 1},
        ),
        verdicts={Verdict.CLEAN: 1, Verdict.CLEAN_WITH_EXCEPTIONS: 1},
        attempts=1,
        calls=1,
        duration_s=0.4,
        jobs_per_s=5.0,
        files={"results": "results.csv", "rejected": "rejected.csv", "report": "report.html"},
        ledger=LedgerCheck(
            agrees=True, compared=2, without_outcome=0, disagreements=0, second_effects=0, unknown_effects=0
        ),
    )
