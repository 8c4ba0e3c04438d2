"""`accept.lua`: a case is recorded once, whoever hands it in and however often; and what a job costs at rest."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.bootstrap import Backends, open_backends
from backends.embedded import EmbeddedValkey
from backends.store import Accepted, Known
from platforms.catalogue import Catalogue
from schemas.batch import Basis
from schemas.case import Case
from schemas.ids import derive, new_id
from schemas.result import LATENCY_BOUNDS_MS, Alike, AttemptData, ResultEvent
from schemas.state import State, Verdict
from tests.fixtures_valkey import NOON, ONE_NAMESPACE, settings_of, stored

BYTES_A_JOB_MAX = 32
CASES = 5
RUNS = 2


def make_case(*, ident: str, line: int, platforms: tuple[str, ...] = ("alpha",), reference: str = "") -> Case:
    """A case with everything else at its usual."""
    return Case(
        id=ident,
        number="+8613800001234",
        token=derive("token", ident),
        line=line,
        cutoff_at="2026-11-01T00:00:00+08:00",
        basis=Basis.PLANNED_RELEASE,
        cycle="2026-11-01",
        reference=reference,
        platforms=platforms,
    )


def known(found: list[Accepted]) -> list[tuple[Known, str]]:
    """What was known of each case, and whose it is."""
    return [(accepted.known, accepted.run) for accepted in found]


@dataclass(slots=True)
class Model:
    """What intake must have recorded: each case with the row that brought it, and the rows of each run."""

    cases: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    unqueued: set[str] = field(default_factory=set)
    rows: dict[str, dict[str, int]] = field(default_factory=dict)

    def accept(self, run: str, case: Case) -> tuple[Known, str]:
        """Record one row. Returns what is known, and the run that owns the case."""
        self.rows.setdefault(run, {}).setdefault(case.id, case.line)
        if case.id not in self.cases:
            self.cases[case.id] = (run, case.line, len(case.platforms))
            self.unqueued.add(case.id)
            return Known.NEW, run
        owner, line, _ = self.cases[case.id]
        if case.id in self.unqueued:
            return Known.UNQUEUED, owner
        return (Known.SAME_ROW if (owner, line) == (run, case.line) else Known.DUPLICATE), owner

    def counted(self, run: str) -> tuple[int, int]:
        """Cases and jobs that a run has brought."""
        owned = [jobs for owner, _, jobs in self.cases.values() if owner == run]
        return len(owned), sum(owned)

    def in_order(self, run: str) -> list[str]:
        """The cases that a run names, by line and then by name."""
        return sorted(self.rows[run], key=lambda case: (self.rows[run][case], case))


ROWS = st.lists(st.tuples(st.integers(0, CASES - 1), st.integers(2, 9), st.integers(1, 3)), min_size=1, max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("accept"), st.integers(0, RUNS - 1), ROWS),
        st.tuples(st.just("queued"), st.integers(0, CASES - 1), st.just([])),
    ),
    max_size=12,
)


@ONE_NAMESPACE
@given(steps=STEPS)
def test_whatever_is_handed_in_is_recorded_as_the_model_says(
    backends: Backends, steps: list[tuple[str, int, list[tuple[int, int, int]]]]
) -> None:
    """New, not yet queued, a duplicate or this very row; and each case and job is counted for one run, once."""
    model = Model()
    runs, cases = sorted(new_id() for _ in range(RUNS)), [new_id() for _ in range(CASES)]
    for verb, number, rows in steps:
        if verb == "queued":
            backends.store.mark_queued([cases[number]])
            model.unqueued.discard(cases[number])
            continue
        chunk = [
            make_case(ident=cases[case], line=line, platforms=("alpha", "beta", "gamma")[:jobs])
            for case, line, jobs in rows
        ]
        expected = [model.accept(runs[number], case) for case in chunk]
        assert expected == known(backends.store.accept(runs[number], chunk, now=NOON))
    for run in model.rows:
        counters = backends.runs.counters(run)
        assert model.counted(run) == (counters.get("accepted"), counters.get("jobs"))
        if model.counted(run) != (0, 0):
            assert model.in_order(run) == list(backends.runs.cases(run))
    for ident, (run, line, jobs) in model.cases.items():
        view = backends.store.case(ident)
        assert (run, line, jobs, Verdict.INCOMPLETE) == (view.run, view.line, len(view.platforms), view.verdict)
        assert (ident in model.unqueued) == backends.redis.hexists(backends.keys.case(ident), "unqueued")


def test_a_case_is_new_once_and_then_known(backends: Backends) -> None:
    """Handed in again it is unqueued, then the same row, then for another run a duplicate."""
    run, other, case = new_id(), new_id(), make_case(ident=new_id(), line=2)
    assert [(Known.NEW, run)] == known(backends.store.accept(run, [case], now=NOON))
    assert [(Known.UNQUEUED, run)] == known(backends.store.accept(run, [case], now=NOON))
    backends.store.mark_queued([case.id])
    assert [(Known.SAME_ROW, run)] == known(backends.store.accept(run, [case], now=NOON))
    assert [(Known.DUPLICATE, run)] == known(backends.store.accept(other, [case], now=NOON))


def test_a_file_handed_in_again_changes_nothing(backends: Backends) -> None:
    """Not one byte of the whole store, however often (requirement 15)."""
    run = new_id()
    cases = [make_case(ident=new_id(), line=line, platforms=("alpha", "beta"), reference="R") for line in range(2, 12)]
    backends.store.accept(run, cases, now=NOON)
    before = stored(backends)
    for _ in range(3):
        backends.store.accept(run, cases, now=NOON)
    assert before == stored(backends)
    counters = backends.runs.counters(run)
    assert (10, 20) == (counters.get("accepted"), counters.get("jobs"))


def test_a_case_twice_in_one_chunk_is_recorded_once(backends: Backends) -> None:
    """The second line is a duplicate, and the case keeps the first."""
    run, ident = new_id(), new_id()
    cases = [make_case(ident=ident, line=2), make_case(ident=ident, line=9, platforms=("beta", "gamma"))]
    assert [(Known.NEW, run), (Known.UNQUEUED, run)] == known(backends.store.accept(run, cases, now=NOON))
    view = backends.store.case(ident)
    assert (2, ("alpha",)) == (view.line, view.platforms)
    assert [ident] == list(backends.runs.cases(run))
    assert (1, 1) == (backends.runs.counters(run).get("accepted"), backends.runs.counters(run).get("jobs"))


def test_a_case_keeps_its_place_and_its_manifest(backends: Backends) -> None:
    """Handed in again among others, it is where it was; a manifest of which nothing is new is not kept."""
    run, cases = new_id(), [make_case(ident=new_id(), line=line) for line in range(2, 7)]
    first = backends.store.accept(run, cases[:3], now=NOON)
    assert [0, 1, 2] == [accepted.place for accepted in first]
    again = backends.store.accept(run, cases[1:], now=NOON)
    assert first[1:] == [replace(accepted, known=Known.NEW) for accepted in again[:2]]
    assert [2, 3] == [accepted.place for accepted in again[2:]]
    before = stored(backends)
    assert again[2:] == [replace(a, known=Known.NEW) for a in backends.store.accept(run, cases[3:], now=NOON)]
    assert before == stored(backends)


def test_cases_of_different_platforms_have_different_manifests(backends: Backends) -> None:
    """A column then has a record for each of its cases, and none for a case that is not asked there."""
    lists = [("alpha",), ("alpha", "beta"), ("alpha",)]
    cases = [make_case(ident=new_id(), line=line, platforms=wanted) for line, wanted in enumerate(lists)]
    one, two, three = backends.store.accept(new_id(), cases, now=NOON)
    assert one.manifest == three.manifest != two.manifest
    assert [0, 0, 1] == [one.place, two.place, three.place]


def test_who_is_not_asked_has_the_record_of_who_is(backends: Backends) -> None:
    """Platforms that share an account system are asked once (requirement 25)."""
    run, ident = new_id(), new_id()
    backends.store.accept(run, [replace(make_case(ident=ident, line=2), settled=(("beta", "alpha"),))], now=NOON)
    for event in settle([ident], ("alpha",), run=run):
        backends.store.apply(event)
    view = backends.store.case(ident)
    assert (("alpha",), {"beta": "alpha"}, Verdict.CLEAN) == (view.platforms, view.settled, view.verdict)
    assert State.NO_BINDING == view.record("beta").state == view.record("alpha").state


def test_few_cases_are_read_as_many_are(backends: Backends) -> None:
    """A few are cut out of their manifest on the server, many are read with all of it."""
    run, platforms = new_id(), ("alpha", "beta")
    cases = [make_case(ident=new_id(), line=line, platforms=platforms) for line in range(2, 42)]
    backends.store.accept(run, cases, now=NOON)
    for event in settle([case.id for case in cases[::3]], ("beta",), run=run):
        backends.store.apply(event)
    many = {view.id: view for view in backends.store.cases(case.id for case in cases)}
    assert list(many) == [case.id for case in cases]
    few = [next(backends.store.cases([case.id])) for case in cases]
    assert few == list(many.values())
    assert 14 == sum(view.record("beta").state is State.NO_BINDING for view in few)


def test_the_cases_of_a_run_come_in_the_order_of_the_file(backends: Backends) -> None:
    """Whatever the order in which chunks arrive, and beyond one page."""
    run = new_id()
    cases = [make_case(ident=new_id(), line=line) for line in range(2, 1203)]
    for start in (800, 0, 400):
        backends.store.accept(run, cases[start : start + 401], now=NOON)
    assert [case.id for case in cases] == list(backends.runs.cases(run))


def test_a_case_comes_back_as_it_was_handed_in(backends: Backends) -> None:
    """Found by number and by reference, through keyed tokens; neither stands in any key."""
    run, number = new_id(), "+8613912345678"
    token = backends.vault.token(number)
    case = replace(make_case(ident=new_id(), line=2, reference="row-17"), number=number, token=token)
    backends.store.accept(run, [case], now=NOON)
    assert [case.id] == backends.store.find_by_reference("row-17")
    assert [case.id] == backends.store.find_by_number(number)
    view = backends.store.case(case.id)
    assert number == backends.store.open_number(view)
    assert ("139****5678", case.cutoff_at, case.basis, case.cycle, case.reference, int(NOON.timestamp())) == (
        view.mask, view.cutoff_at, view.basis, view.cycle, view.reference, view.accepted_s,
    )  # fmt: skip
    assert [] == [key for key in stored(backends) if "13912345678" in key or "row-17" in key]


def test_the_number_is_nowhere_in_the_clear(backends: Backends) -> None:
    """Who can read the store reads the mask and nothing else (rule 8)."""
    number = "+8613912345678"
    case = replace(make_case(ident=new_id(), line=2), number=number, token=backends.vault.token(number))
    backends.store.accept(new_id(), [case], now=NOON)
    assert number[3:] not in repr(backends.redis.hgetall(backends.keys.case(case.id)))
    assert [] == [key for key in stored(backends) if number[3:] in key]


# -- what a job costs -------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Backends]:
    """Backends on a server that nobody else uses."""
    with EmbeddedValkey(tmp_path / "valkey") as server, closing(open_backends(settings_of(server, tmp_path))) as opened:
        yield opened


def test_a_settled_job_takes_at_most_32_bytes(alone: Backends) -> None:
    """All that is stored of 300 cases at 240 platforms, by the server's own account of its memory."""
    platforms = tuple(platform.key for platform in Catalogue.load())[:240]
    assert 240 == len(platforms)
    run, cases = new_id(), [new_id() for _ in range(300)]
    warm_up(alone)
    before = used(alone)
    chunk = [
        make_case(ident=case, line=line, platforms=platforms, reference=f"R-{line:08d}")
        for line, case in enumerate(cases, start=2)
    ]
    alone.store.accept(run, chunk, now=NOON)
    alone.store.mark_queued(cases)
    for event in settle(cases, platforms, run=run):
        alone.store.apply(event)
    bytes_a_job = (used(alone) - before) / (len(cases) * len(platforms))
    assert {State.NO_BINDING: 72_000} == alone.runs.counters(run).by_state(72_000)
    assert BYTES_A_JOB_MAX >= bytes_a_job


def warm_up(backends: Backends) -> None:
    """Let the server load its scripts and make its buffers, then empty it."""
    case = new_id()
    backends.store.accept(new_id(), [make_case(ident=case, line=2)], now=NOON)
    for event in settle([case], ("alpha",), run=new_id()):
        backends.store.apply(event)
    backends.redis.flushdb()


def used(backends: Backends) -> int:
    """Bytes that the server has allocated."""
    return int(backends.redis.info("memory")["used_memory"])


def settle(cases: list[str], platforms: tuple[str, ...], *, run: str) -> Iterator[ResultEvent]:
    """One event for each platform that settles every case."""
    alike = (Alike(state=State.NO_BINDING, cases=tuple(cases)),)
    for platform in platforms:
        data = AttemptData(
            batch=new_id(), run=run, platform=platform, attempt=1, started_at=NOON, ended_at=NOON, worker="w",
            calls=1, latencies=(1,) + (0,) * len(LATENCY_BOUNDS_MS), alike=alike,
        )  # fmt: skip
        yield ResultEvent(id=new_id(), time=NOON, subject=platform, data=data)
