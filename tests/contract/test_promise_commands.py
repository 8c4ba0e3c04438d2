"""`renewal status --turns` and `renewal overdue …`: what a person reads about promises."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr
from typer.testing import CliRunner

from backends.bootstrap import Backends
from backends.clock import ManualClock
from ops.cli.main import app
from schemas.batch import Basis
from schemas.case import Case
from schemas.errors import NotFound, RenewalError
from schemas.ids import job_id, new_id
from schemas.outcome import Fault, Refusal
from schemas.state import State
from tests.command import write_platform
from tests.fixtures_valkey import NOON
from tests.letters import CUTOFF, accept, mobile, record

Command = Callable[..., str]
LATER = NOON + timedelta(days=4)


@pytest.fixture
def renewal(backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Run one command four days after noon, at two platforms of which one promised two working days."""
    write_platform(tmp_path / "catalogue", "alpha", sla={"working_days": 2})
    write_platform(tmp_path / "catalogue", "beta")
    for name, value in backends.settings.model_copy(update={"catalogue": tmp_path / "catalogue"}):
        if value is not None:
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            monkeypatch.setenv(f"RENEWAL_{name.upper()}", text)
    monkeypatch.setattr("backends.bootstrap.SystemClock", lambda: ManualClock(LATER))

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        if isinstance(done.exception, RenewalError):
            raise done.exception
        assert 0 == done.exit_code, done.stderr
        return done.stdout + done.stderr if "json" not in arguments else done.stdout

    yield run
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


@pytest.fixture
def case(backends: Backends) -> str:
    """A case that alpha let die and beta refused."""
    (found,) = accept(backends, ["alpha", "beta"])
    record(backends, "alpha", [found], reason=Fault.TIMEOUT)
    record(backends, "beta", [found], state=State.REFUSED, reason=Refusal.LEGAL_HOLD)
    return found


def test_status_tells_promise_remedy_and_turns(renewal: Command, case: str) -> None:
    """Where the request is, whose turn it is, and what the owner can do, in one look."""
    (told,) = json.loads(renewal("status", "--case", case, "--turns", "-o", "json"))
    alpha, beta = told["jobs"]
    assert ("overdue", "operator", "2026-11-03T16:00:00Z") == (alpha["promise"], alpha["late_party"], alpha["due_at"])
    assert alpha["provisional"] is False
    assert ["operator"] == [turn["holder"] for turn in alpha["turns"]]
    assert 4 * 86_400 == alpha["held_s"]["operator"]
    assert ("met", "platform", None) == (beta["promise"], beta["remedy"]["next_actor"], beta["late_party"])
    shown = renewal("status", "--case", case, "--turns", "--platform", "alpha")
    assert "alpha: operator 345,600 s; late: operator" in shown
    assert "beta" not in shown
    assert "冻结" in renewal("status", "--case", case, "--platform", "beta")
    (told,) = json.loads(renewal("status", "--case", case, "-o", "json"))
    assert "turns" not in told["jobs"][0]
    with pytest.raises(NotFound):
        renewal("status", "--case", case, "--platform", "gamma")


def test_status_marks_a_date_that_may_move(renewal: Command, backends: Backends, tmp_path: Path) -> None:
    """Nobody may be held to a date of a calendar that is not published (requirement 13)."""
    write_platform(tmp_path / "catalogue", "alpha", sla={"working_days": 60})
    backends.runs.begin(run := new_id(), file="numbers.csv", now=NOON)
    number = mobile(7)
    case = Case(
        id=new_id(), number=number, token=backends.vault.token(number), line=2, cutoff_at=CUTOFF,
        basis=Basis.PLANNED_RELEASE, cycle="2090", reference="", platforms=("alpha",),
    )  # fmt: skip
    backends.store.accept(run, [case], now=NOON.replace(year=2090))
    (told,) = json.loads(renewal("status", "--case", case.id, "-o", "json"))
    assert told["jobs"][0]["provisional"]
    shown = renewal("status", "--case", case.id)
    assert "in_time?" in shown
    assert "?: provisional" in shown


def test_overdue_jobs_are_listed_and_counted(renewal: Command, case: str) -> None:
    """Stable fields for programs; what is not covered is said to the person."""
    (group,) = json.loads(renewal("overdue", "groups", "-o", "json"))
    assert ("alpha", 1, 0) == (group["platform"], group["overdue"], group["at_risk"])
    (job,) = json.loads(renewal("overdue", "list", "--platform", "alpha", "-o", "json"))
    assert (job_id(case, "alpha"), "DEAD", "138****0000") == (job["job"], job["state"], job["number"])
    assert [] == json.loads(renewal("overdue", "list", "--platform", "beta", "--at-risk", "-o", "json"))
    assert "0 answers for review" in renewal("overdue", "list")
    assert "1 jobs overdue, 0 at risk" in renewal("overdue", "groups")


def test_the_calendar_shows_its_sources_and_counts(renewal: Command) -> None:
    """Whoever doubts a deadline can look the document up (requirement 13)."""
    years = {row["year"]: row for row in json.loads(renewal("overdue", "calendar", "-o", "json"))}
    assert ("国办发明电〔2025〕7号", "2025-11-04", 33, 6) == (
        years[2026]["number"], years[2026]["issued_on"], years[2026]["days_off"], years[2026]["working_weekends"],
    )  # fmt: skip
    (due,) = json.loads(renewal("overdue", "due", "2026-09-30", "-o", "json"))
    assert ("2026-10-14T00:00:00+08:00", False) == (due["due_at"], due["provisional"])
    (due,) = json.loads(renewal("overdue", "due", "2090-12-30", "--working-days", "1", "-o", "json"))
    assert due["provisional"]
