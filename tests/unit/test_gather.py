"""Gathering: small retries travel together again, and no job is lost or doubled on the way."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from backends.keys import Keys
from backends.manifests import Manifests
from backends.vault import Vault, new_key_file
from backends.waiting import Waiter, Why
from platforms.catalogue import Catalogue
from schemas.batch import Basis, Batch, Job, Lane, seal_context
from schemas.ids import derive
from tests.command import write_platform
from tests.fixtures_valkey import NOON
from workers.gather import gather

ITEMS = 8


@pytest.fixture(scope="module")
def vault() -> Vault:
    """Keys of these tests."""
    return Vault.parse(new_key_file(), source="test")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Two platforms of many items a call, one of single calls."""
    folder = tmp_path_factory.mktemp("catalogue")
    for key in ("many", "more"):
        write_platform(folder, key, limits={"items_per_call": ITEMS})
    write_platform(folder, "one", protocol="json")
    return Catalogue.load(folder)


def manifests_of(vault: Vault) -> Manifests:
    """These batches carry their jobs, so nothing is read."""
    return Manifests(Redis(), Keys(), vault)


def waiter(vault: Vault, name: str, *, platform: str = "many", jobs: int = 1, why: Why = Why.RETRY, attempt: int = 2,
           run: str = "a", lane: Lane = Lane.BULK, generation: int = 0) -> Waiter:  # fmt: skip
    """A batch of some jobs; a job's number is told by its case."""
    cases = tuple(derive(name, str(index)) for index in range(jobs))
    batch = Batch(
        id=derive("batch", name, platform, run, str(attempt), why, lane, str(generation)),
        run=derive(run),
        platform=platform,
        lane=lane,
        attempt=attempt,
        generation=generation,
        deadline=NOON + timedelta(days=1, seconds=len(name)),
        jobs=tuple(
            Job(case=case, cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE) for case in cases
        ),
        sealed=vault.seal_numbers([number_of(case) for case in cases], context=seal_context(cases)),
    )
    return Waiter(batch=batch, why=why)


def number_of(case: str) -> str:
    """A number that belongs to this case alone."""
    return f"+86138{int(case, 36) % 10**8:08d}"


def opened(vault: Vault, batch: Batch) -> dict[str, str]:
    """Return the numbers by case."""
    cases = tuple(job.case for job in batch.jobs)
    return dict(zip(cases, vault.open_numbers(batch.sealed, context=seal_context(cases)), strict=True))


def test_small_retries_fill_one_batch(vault: Vault, catalogue: Catalogue) -> None:
    """500 calls of one item each would eat a whole hour of a platform's rate."""
    small = [waiter(vault, f"w{index}", jobs=2) for index in range(4)]
    (batch,) = gather(small, catalogue, manifests_of(vault))
    assert ITEMS == len(batch.jobs)
    assert {case: number_of(case) for case in opened(vault, batch)} == opened(vault, batch)
    assert min(w.batch.deadline for w in small) == batch.deadline


def test_a_batch_is_never_larger_than_its_platform_takes(vault: Vault, catalogue: Catalogue) -> None:
    """The platform would refuse it whole."""
    batches = list(gather([waiter(vault, f"w{index}", jobs=3) for index in range(5)], catalogue, manifests_of(vault)))
    assert [6, 6, 3] == [len(batch.jobs) for batch in batches]


def test_halves_of_a_split_batch_stay_apart(vault: Vault, catalogue: Catalogue) -> None:
    """Put together again they would be rejected again, for ever."""
    halves = [waiter(vault, f"w{index}", jobs=2, why=Why.SPLIT) for index in range(2)]
    assert [half.batch for half in halves] == list(gather(halves, catalogue, manifests_of(vault)))


@pytest.mark.parametrize(
    "other",
    [
        {"platform": "more"},
        {"platform": "one"},
        {"attempt": 3},
        {"run": "b"},
        {"lane": Lane.INTERACTIVE},
        {"generation": 1},
    ],
)
def test_only_what_is_alike_travels_together(vault: Vault, catalogue: Catalogue, other: dict[str, object]) -> None:
    """A person's job must not wait for bulk work, nor a third attempt pass for a second."""
    pair = [waiter(vault, "x"), waiter(vault, "y", **other)]  # type: ignore[arg-type]
    assert {w.batch.id for w in pair} == {batch.id for batch in gather(pair, catalogue, manifests_of(vault))}


def test_the_same_batches_make_the_same_batch(vault: Vault, catalogue: Catalogue) -> None:
    """A scheduler that died after publishing must not make new work of old."""
    pair = [waiter(vault, "x"), waiter(vault, "y")]
    assert [b.id for b in gather(pair, catalogue, manifests_of(vault))] == [
        b.id for b in gather(pair, catalogue, manifests_of(vault))
    ]


@given(
    sizes=st.lists(st.integers(1, ITEMS), max_size=12), whys=st.lists(st.sampled_from(Why), min_size=12, max_size=12)
)
def test_no_job_is_lost_and_none_is_doubled(
    vault: Vault, catalogue: Catalogue, sizes: list[int], whys: list[Why]
) -> None:
    """Whatever waits, as much goes out as came in (rule 1)."""
    waiters = [waiter(vault, f"w{i}", jobs=n, why=why) for i, (n, why) in enumerate(zip(sizes, whys, strict=False))]
    came = sorted(job.case for w in waiters for job in w.batch.jobs)
    out = list(gather(waiters, catalogue, manifests_of(vault)))
    assert came == sorted(job.case for batch in out for job in batch.jobs)
    for batch in out:
        assert {case: number_of(case) for case in opened(vault, batch)} == opened(vault, batch)
