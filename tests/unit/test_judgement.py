"""What the calls of one attempt come to: job faults against platform faults, and what the gate is told."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import orjson
import pytest

from backends.manifests import Item
from platforms.model import Platform
from schemas.batch import Basis, Batch, Job, ManifestPart
from schemas.ids import derive, job_id
from schemas.outcome import Fault
from schemas.state import State
from tests.fixtures_valkey import NOON
from tests.simulated import platform
from workers.judgement import Judgement
from workers.transport import Answer, Call

MANY = platform("many", protocol="bulk-json", limits={"items_per_call": 10, "timeout_s": 10})
ONE = platform("one")


def judged(
    entry: Platform, *, jobs: int = 3, attempt: int = 1, first_attempt: int = 1, probe: bool = False
) -> Judgement:
    """An attempt of which no answer has come yet."""
    batch = Batch(
        id=derive("batch"),
        run=derive("run"),
        platform=entry.key,
        attempt=attempt,
        first_attempt=first_attempt,
        deadline=NOON + timedelta(days=5),
        jobs=tuple(
            Job(case=derive(str(i)), cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE)
            for i in range(jobs)
        ),
        sealed="x",
    )
    items = [Item.of(job, "+8613800138000", place=place) for place, job in enumerate(batch.jobs)]
    return Judgement(entry, batch, items, probe, Random(1))


def answer(
    judgement: Judgement, jobs: slice = slice(None), *, status: int | None = 200, body: object = None,
    fault: Fault | None = None, latency_s: float = 0.1, sent: bool = True, headers: dict[str, str] | None = None,
) -> Answer:  # fmt: skip
    """An answer to the call that carried some of the jobs."""
    keys = tuple(job_id(job.case, judgement.platform.key) for job in judgement.batch.jobs[jobs])
    call = Call(url="https://x.example", headers={}, body=b"", timeout_s=10, keys=keys)
    return Answer(
        call=call,
        sent=sent,
        status=None if fault else status,
        headers={"content-type": "application/json", **(headers or {})},
        body=orjson.dumps(
            body if body is not None else {"results": [{"id": key, "code": "NO_BINDING"} for key in keys]}
        ),
        fault=fault,
        latency_s=latency_s,
    )


@pytest.mark.parametrize(
    ("status", "fault"),
    [(401, None), (403, None), (404, None), (410, None), (302, None), (None, Fault.TLS), (None, Fault.DNS)],
)
def test_a_wrong_connection_suspends_the_platform_and_spends_no_attempt(
    status: int | None, fault: Fault | None
) -> None:
    """The jobs have done nothing wrong: they wait with the attempts they had."""
    judgement = judged(MANY, attempt=3)
    judgement.add(answer(judgement, status=status, fault=fault), now=NOON)
    assert not judgement.results
    assert {State.WAITING: 3} == judgement.unspent.states()
    assert {job.case for job in judgement.batch.jobs} == judgement.again["platform"]
    assert judgement.report().suspend in {Fault.UNAUTHORIZED, Fault.ENDPOINT_GONE, Fault.REDIRECT, Fault.TLS, Fault.DNS}
    (event,) = judgement.events(started_at=NOON, ended_at=NOON, worker="w")
    assert (2, 1, True) == (event.data.attempt, event.data.calls, event.data.closes)


def test_a_bad_moment_spends_an_attempt_and_counts_against_the_platform() -> None:
    """It is retried by the schedule; the breaker hears of it."""
    judgement = judged(MANY)
    judgement.add(answer(judgement, status=503), now=NOON)
    assert ({State.WAITING: 3}, 3) == (judgement.results.states(), len(judgement.again["retry"]))
    assert (1, 1, 0) == (judgement.report().calls, judgement.report().failed, judgement.report().throttled)
    (event,) = judgement.events(started_at=NOON, ended_at=NOON, worker="w")
    assert (1, {"503": 1}) == (event.data.attempt, event.data.http_statuses)
    assert event.data.retry_at


def test_a_failed_probe_spends_no_attempt() -> None:
    """A platform that is away for hours would else use up the attempts of those that were chosen to ask."""
    judgement = judged(MANY, probe=True, attempt=12)
    judgement.add(answer(judgement, fault=Fault.TIMEOUT, status=None), now=NOON)
    assert ({}, {State.WAITING: 3}) == (judgement.results.states(), judgement.unspent.states())
    assert 1 == judgement.report().failed


def test_a_platform_that_asks_us_to_slow_down_is_throttled_and_not_broken() -> None:
    """429 is an answer of a living platform."""
    judgement = judged(MANY)
    judgement.add(answer(judgement, status=429, headers={"retry-after": "30"}), now=NOON)
    report = judgement.report()
    assert (1, 0, 30.0) == (report.throttled, report.failed, report.retry_after_s)


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_rejected_batch_is_split_and_a_single_job_is_buried(status: int) -> None:
    """The other items are innocent; the platform is well."""
    judgement = judged(MANY)
    judgement.add(answer(judgement, status=status), now=NOON)
    assert ({}, 3) == (judgement.results.states(), len(judgement.again["split"]))
    assert (0, None) == (judgement.report().failed, judgement.report().suspend)
    alone = judged(MANY, jobs=1)
    alone.add(answer(alone, status=status), now=NOON)
    assert [(State.DEAD, Fault.REJECTED_REQUEST, status)] == [
        (r.state, r.reason, r.http_status) for r in alone.results.jobs()
    ]


def test_items_left_out_are_the_jobs_trouble_and_not_the_platforms() -> None:
    """It has answered for the others."""
    judgement = judged(MANY)
    key = job_id(judgement.batch.jobs[0].case, judgement.platform.key)
    judgement.add(answer(judgement, body={"results": [{"id": key, "code": "NO_BINDING"}]}), now=NOON)
    assert {State.NO_BINDING: 1, State.WAITING: 2} == judgement.results.states()
    assert 0 == judgement.report().failed


def test_jobs_of_one_attempt_may_end_differently() -> None:
    """Single calls: one is answered, one meets a revoked key, one was not sent: two events, the calls counted once."""
    judgement = judged(ONE)
    judgement.add(answer(judgement, slice(0, 1), body={"code": "UNBOUND"}), now=NOON)
    judgement.add(answer(judgement, slice(1, 2), status=401), now=NOON)
    judgement.add(answer(judgement, slice(2, 3), sent=False), now=NOON)
    spent, unspent = judgement.events(started_at=NOON, ended_at=NOON, worker="w")
    assert [(1, 2, True), (0, 0, False)] == [
        (event.data.attempt, event.data.calls, event.data.closes) for event in (spent, unspent)
    ]
    assert {judgement.batch.jobs[2].case} == judgement.unsent
    assert Fault.UNAUTHORIZED == judgement.report().suspend


def test_a_replay_has_all_its_attempts_again() -> None:
    """Attempt numbers go on, but the schedule starts anew."""
    replayed = judged(MANY, attempt=13, first_attempt=13)
    replayed.add(answer(replayed, status=503), now=NOON)
    assert 3 == len(replayed.again["retry"])
    last = judged(MANY, attempt=12)
    last.add(answer(last, status=503), now=NOON)
    assert {State.DEAD: 3} == last.results.states()


def test_the_gate_hears_how_slow_the_platform_is() -> None:
    """The mean of the calls, against half the timeout."""
    judgement = judged(ONE)
    for index, latency_s in enumerate((1.0, 2.0, 6.0)):
        judgement.add(
            answer(judgement, slice(index, index + 1), body={"code": "UNBOUND"}, latency_s=latency_s), now=NOON
        )
    assert 3.0 == pytest.approx(judgement.report().latency_s)
    assert ONE.limits.timeout_s / 2 == judgement.report().slow_s


def test_jobs_of_a_manifest_are_told_by_their_places() -> None:
    """An event of hundreds of jobs is as short as one of a few; what is said of one alone is said by its name."""
    whole = judged(MANY, jobs=5)
    part = ManifestPart(id=derive("manifest"), spans=((2, 4), (7, 10)))
    batch = whole.batch.model_copy(update={"jobs": (), "sealed": "", "manifest": part})
    items = [replace(item, place=place) for item, place in zip(whole.items, (2, 3, 7, 8, 9), strict=True)]
    judgement = Judgement(MANY, batch, items, False, Random(1))
    codes = ("NO_BINDING", "UNBOUND", "NO_BINDING", "NO_BINDING", "NO_BINDING")
    keys = [job_id(item.job.case, MANY.key) for item in items]
    results = [{"id": key, "code": code} for key, code in zip(keys, codes, strict=True)]
    judgement.add(answer(whole, body={"results": results}), now=NOON)
    (event,) = judgement.events(started_at=NOON, ended_at=NOON, worker="w")
    assert part.id == event.data.manifest
    assert [(State.NO_BINDING, (), ((2, 3), (7, 10)))] == [(a.state, a.cases, a.spans) for a in event.data.alike]
    assert [(items[1].job.case, State.UNBOUND)] == [(job.case, job.state) for job in event.data.jobs]
