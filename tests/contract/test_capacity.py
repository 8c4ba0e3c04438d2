"""What a forecast is told about the present, and a run beside what was to be expected of it."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from backends.bootstrap import Backends
from ops.capacity import foresee_numbers, look_back_at, standings
from platforms.catalogue import Catalogue
from producers.forecast import House, Limit, Standing
from schemas.batch import Basis, Batch, Job, seal_context
from schemas.errors import NotFound
from schemas.ids import new_id
from schemas.outcome import Fault
from schemas.state import State
from tests.fixtures_valkey import NOON
from tests.letters import CUTOFF, accept, mobile, record, wait
from tests.snapshots import catalogue_of

WIDE = House(bulk_jobs_per_s=1e9, single_jobs_per_s=1e9)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms of 100 jobs a second as long as nothing is known of them; 4 may be in flight."""
    return catalogue_of(tmp_path, limits={"calls_per_s": 10, "in_flight": 1, "items_per_call": 100})


def queue(backends: Backends, platform: str, cases: list[str]) -> None:
    """Let jobs be with the broker."""
    batch = Batch(
        id=new_id(), run=new_id(), platform=platform, deadline=NOON + timedelta(days=1),
        jobs=tuple(Job(case=case, cutoff_at=CUTOFF, basis=Basis.PLANNED_RELEASE) for case in cases),
        sealed=backends.vault.seal_numbers([mobile(0)] * len(cases), context=seal_context(tuple(cases))),
    )  # fmt: skip
    backends.custody.enter([(batch, batch.model_dump_json().encode())], now=NOON)


def test_what_waits_and_what_is_in_custody_is_ahead_of_the_night(backends: Backends, catalogue: Catalogue) -> None:
    """Yesterday's jobs take their share of tonight first."""
    cases = accept(backends, ["alpha", "beta"], count=5)
    wait(backends, "alpha", cases[:3])
    wait(backends, "alpha", cases[3:])
    queue(backends, "beta", cases[:4])
    expected = {"alpha": Standing(queued=5, used_today=7), "beta": Standing(queued=4)}
    assert expected == standings(backends, catalogue, used_today={"alpha": 7})


def test_how_long_calls_last_is_measured_once_there_are_some(backends: Backends, catalogue: Catalogue) -> None:
    """Nineteen calls are chance; each counts as long as its bucket allows, so that no end is foreseen too early."""
    (case,) = accept(backends, ["alpha", "beta"])
    for call in range(20):
        assert standings(backends, catalogue)["alpha"].call_s is None, call
        record(backends, "alpha", [case], state=State.WAITING, reason=Fault.TIMEOUT, attempt=call + 1)
    now = standings(backends, catalogue)
    # Every call of these was in the first bucket: 5 ms.
    assert (0.005, None) == (now["alpha"].call_s, now["beta"].call_s)
    found = foresee_numbers(
        catalogue, 100_000, release=date(2026, 11, 9), start=NOON, length=timedelta(hours=1), house=WIDE, now=now
    )
    ends = {each.platform: each.done_at for each in found.platforms}
    # One call in flight: ten in a second of 5 ms each, but one a second where nothing is known.
    assert {"alpha": NOON + timedelta(seconds=100), "beta": NOON + timedelta(seconds=1000)} == ends


def test_a_run_is_held_against_its_forecast(backends: Backends, catalogue: Catalogue) -> None:
    """200 numbers at one call a second: done after two seconds by forecast, after five by record; one job is open."""
    run = new_id()
    cases = accept(backends, ["alpha", "beta"], count=200, run=run)
    record(backends, "alpha", cases, state=State.NO_BINDING, at=NOON + timedelta(seconds=5))
    record(backends, "beta", cases[:-1], state=State.NO_BINDING, at=NOON + timedelta(seconds=2))
    found = look_back_at(backends, catalogue, run, length=timedelta(seconds=4), house=WIDE)
    beta, alpha = found.worst_first()[::-1]
    assert ("alpha", 3, 200) == (alpha.forecast.platform, alpha.late_s, alpha.wrong_jobs)
    assert ("beta", None, 1) == (beta.forecast.platform, beta.late_s, beta.wrong_jobs)
    short = look_back_at(backends, catalogue, run, length=timedelta(seconds=1), house=WIDE)
    assert [{Limit.RATE: 100}] * 2 == [each.forecast.spilled_by for each in short.platforms]


def test_a_run_that_is_not_known_is_not_found(backends: Backends, catalogue: Catalogue) -> None:
    """A slip in the id must not look like a night without jobs."""
    with pytest.raises(NotFound, match="no run"):
        look_back_at(backends, catalogue, "nope", length=timedelta(hours=1), house=WIDE)
