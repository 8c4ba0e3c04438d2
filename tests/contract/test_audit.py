"""The audit: every accepted job is final or in somebody's hands, and what is not is named and can be sent again."""

from datetime import timedelta
from pathlib import Path

import pytest

from backends.bootstrap import Backends
from backends.waiting import Why
from ops.audit import Hand, audit
from platforms.catalogue import Catalogue
from producers.redrive import redrive
from producers.rows import Rejection, Row
from producers.submit import Submitter
from schemas.batch import Basis, Batch, Lane
from schemas.errors import NotFound
from schemas.ids import new_id
from schemas.outcome import Fault, Reason
from schemas.result import LATENCY_BOUNDS_MS, Alike, AttemptData, ResultEvent
from schemas.state import State
from tests.command import numbers, write_platform
from tests.fixtures_valkey import NOON

CASES = 8


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms."""
    write_platform(tmp_path / "catalogue", "many", limits={"items_per_call": 4})
    write_platform(tmp_path / "catalogue", "one", protocol="json", limits={"calls_per_s": 2})
    return Catalogue.load(tmp_path / "catalogue")


def submit(backends: Backends, catalogue: Catalogue, *, first: int = 0) -> str:
    """Submit some numbers. Returns the run."""
    backends.broker.declare()
    run = new_id()
    backends.runs.begin(run, file="numbers.csv", now=NOON)
    rows = [
        Row(line=line, number=f"+86{number}", cutoff_at="2026-12-02T00:00:00+08:00", basis=Basis.PLANNED_RELEASE,
            cycle="2026-12-02", reference="", platforms=())
        for line, number in enumerate(numbers(CASES, first=first), start=2)
    ]  # fmt: skip
    refused: list[Rejection] = []
    Submitter(backends, catalogue, operator="op").submit(rows, run=run, on_rejected=refused.append)
    assert [] == refused
    return run


def batches(backends: Backends) -> list[Batch]:
    """Return every batch in custody."""
    names = [entry.batch for entry in backends.custody.every()]
    return [Batch.parse(body) for body in backends.custody.bodies(names).values()]


def record(backends: Backends, batch: Batch, state: State, reason: Reason | None = None) -> None:
    """Record the same answer for all jobs of a batch."""
    data = AttemptData(
        batch=batch.id, run=batch.run, platform=batch.platform, attempt=1, started_at=NOON, ended_at=NOON, worker="w",
        calls=1, latencies=(1,) + (0,) * len(LATENCY_BOUNDS_MS),
        alike=(Alike(state=state, reason=reason, cases=tuple(backends.manifests.cases(batch))),),
    )  # fmt: skip
    backends.store.apply(ResultEvent(id=new_id(), time=NOON, subject=batch.platform, data=data))


def look(backends: Backends, run: str | None = None) -> dict[Hand, int]:
    """Return the sums, and hold that no job is counted twice."""
    found = audit(backends, run=run, pause=lambda _: None)
    assert sum(found.total.values()) == sum(sum(hands.values()) for hands in found.by_platform.values())
    assert found.adds_up == (Hand.NOBODY not in found.total)
    return dict(found.total)


def test_every_job_is_counted_in_the_hands_that_have_it(backends: Backends, catalogue: Catalogue) -> None:
    """Accepted = final + with the platform + for review + dead + waiting + queued + in flight."""
    submit(backends, catalogue)
    assert {Hand.QUEUED: 2 * CASES} == look(backends)
    one, two, *others = sorted(batches(backends), key=lambda batch: (-batch.size, batch.id))
    assert (4, 4) == (one.size, two.size)
    record(backends, one, State.NO_BINDING)
    record(backends, two, State.DEAD, Fault.TIMEOUT)
    accepted, review, begun, waiting = others
    record(backends, accepted, State.ACCEPTED)
    record(backends, review, State.PENDING_REVIEW)
    assert backends.custody.begin(begun, holder="w", lease_s=9, now=NOON)
    backends.waiting.put(waiting, due=NOON + timedelta(hours=1), why=Why.LIMIT)
    backends.custody.end(waiting.id)
    hands = look(backends)
    assert {
        Hand.FINAL: one.size, Hand.DEAD: two.size, Hand.WITH_PLATFORM: accepted.size,
        Hand.FOR_REVIEW: review.size, Hand.IN_FLIGHT: begun.size, Hand.WAITING: waiting.size,
    } == hands  # fmt: skip
    assert 2 * CASES == sum(hands.values())


def test_a_job_in_nobody_s_hands_is_named_and_sent_again(backends: Backends, catalogue: Catalogue) -> None:
    """The last net: whatever the reason, the store still knows what is owed."""
    run = submit(backends, catalogue)
    lost = batches(backends)[0]
    cases = backends.manifests.cases(lost)
    backends.custody.end(lost.id)
    backends.redis.delete(backends.keys.queue(Lane.BULK))
    found = audit(backends, run=run, pause=lambda _: None)
    assert sorted((case, lost.platform) for case in cases) == sorted(found.nobody)
    assert 1 == redrive(backends, catalogue, jobs=found.nobody)
    assert {Hand.QUEUED: 2 * CASES} == look(backends, run)
    assert 1 == backends.broker.depths()[backends.keys.queue(Lane.BULK)]
    assert set(cases) <= {case for batch in batches(backends) for case in backends.manifests.cases(batch)}


def test_what_a_dead_producer_left_is_found_and_sent(
    backends: Backends, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case that was recorded and never queued is owed all the same."""

    def dies(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(backends.dispatch, "send", dies)
    with pytest.raises(KeyboardInterrupt):
        submit(backends, catalogue)
    monkeypatch.undo()
    found = audit(backends, pause=lambda _: None)
    assert 2 * CASES == len(found.nobody)
    redrive(backends, catalogue, jobs=found.nobody)
    assert {Hand.QUEUED: 2 * CASES} == look(backends)


def test_a_job_that_passes_from_hand_to_hand_meanwhile_is_not_missed(backends: Backends, catalogue: Catalogue) -> None:
    """A working system may be audited: what is not seen at first is looked for again."""
    submit(backends, catalogue)
    passing = batches(backends)[0]
    backends.custody.end(passing.id)
    looks = 0

    def arrives(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            backends.waiting.put(passing, due=NOON, why=Why.RETRY)

    found = audit(backends, pause=arrives)
    assert found.adds_up
    assert passing.size == found.total[Hand.WAITING]


def test_settled_jobs_are_not_sent_again(backends: Backends, catalogue: Catalogue) -> None:
    """Between look and repair the job may have come to its end."""
    submit(backends, catalogue)
    batch = batches(backends)[0]
    record(backends, batch, State.UNBOUND)
    assert 0 == redrive(backends, catalogue, jobs=[(case, batch.platform) for case in backends.manifests.cases(batch)])


def test_two_runs_are_counted_apart_and_an_unknown_one_is_refused(backends: Backends, catalogue: Catalogue) -> None:
    """A typing error must not look like a clean audit."""
    with pytest.raises(NotFound, match="no run yet"):
        look(backends)
    one, two = submit(backends, catalogue), submit(backends, catalogue, first=100)
    assert {one, two} == set(audit(backends).by_run)
    assert 2 * CASES == sum(look(backends, two).values())
    with pytest.raises(NotFound):
        look(backends, new_id())
