"""`renewal sweep …`: what a person types, and what they read; no number is ever printed or kept in the clear."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr
from typer.testing import CliRunner

from backends.actions import What
from backends.bootstrap import Backends, open_backends
from backends.embedded import EmbeddedValkey
from backends.settings import Settings
from backends.sweeps import Ending
from backends.withdrawals import Stage, Withdrawal
from ops.cli.main import app
from schemas.errors import InputError, RenewalError
from schemas.ids import new_id
from schemas.state import State
from tests.command import numbers
from tests.fixtures_valkey import settings_of
from tests.letters import record
from tests.sweeping import NAME, SweepFolder, line_of

NUMBERS = numbers(6)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(valkey: EmbeddedValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a command, in the environment, with a folder of one sweep."""
    made = settings_of(valkey, tmp_path / "data")
    folder = SweepFolder(tmp_path)
    # Whatever the time, the night of today is the one that is meant.
    folder.define(at="00:00", zone="UTC", catch_up={"rule": "newest", "until": "00:00"}, days_before_release=7)
    for name, value in made.model_copy(update={"sweeps": tmp_path / "sweeps", "catalogue": tmp_path / "catalogue"}):
        if value is not None:
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            monkeypatch.setenv(f"RENEWAL_{name.upper()}", text)
    monkeypatch.setattr("ops.lifeline.stop_on_signals", threading.Event)
    release = folder.definition.today(datetime.now(UTC)) + timedelta(days=3)
    rows = [line_of(number, release=release) for number in NUMBERS]
    folder.write([*rows, line_of("13900000001", release=release, freeze=89), "12,FROZEN,,,"])
    return made


@pytest.fixture
def renewal(settings: Settings) -> Iterator[Command]:
    """Run one command; what it set up for its log, which ends with it, is taken back."""

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        done = CliRunner().invoke(app, arguments, input=stdin)
        if isinstance(done.exception, RenewalError):
            raise done.exception
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    yield run
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


@pytest.fixture
def stores(settings: Settings) -> Iterator[Backends]:
    """What the commands work on."""
    opened = open_backends(settings)
    yield opened
    opened.close()


def test_a_night_is_planned_run_and_read(renewal: Command, stores: Backends, tmp_path: Path) -> None:
    """The whole way of a person through an afternoon: look, run, read what came of it."""
    code, out, _ = renewal("sweep", "plan", NAME, "-o", "json", "--refused", str(tmp_path / "refused.csv"))
    found = json.loads(out)
    assert (0, 6, 1, 12) == (code, found["planned"], found["rejected"], found["jobs"])
    assert ({"freeze_too_short": 1}, {"alpha": 6, "beta": 6}) == (found["refused"], found["jobs_by_platform"])
    assert ["line,field,problem,value", "9,number,not a valid mainland China mobile number,12"] == (
        (tmp_path / "refused.csv").read_text().splitlines()[:2]
    )
    code, out, err = renewal("sweep", "run", NAME, "--reason", "a rehearsal")
    assert (0, "") == (code, out)
    assert "completed: 6 cases accepted, 0 known already" in err
    _, out, _ = renewal("sweep", "report", NAME, "-o", "json")
    report = json.loads(out)
    assert (12, 12, 0, {"QUEUED": 12}) == (
        report["planned_jobs"], report["jobs"], report["left"], report["jobs_by_state"],
    )  # fmt: skip
    _, out, _ = renewal("sweep", "list", "-o", "jsonl")
    assert ("completed", 6, 6) == tuple(json.loads(out)[name] for name in ("last_ending", "planned", "accepted"))
    _, out, _ = renewal("sweep", "show", NAME)
    assert "completed" in out
    (action,) = stores.actions.list(what=What.SWEEP_RUN)
    assert "a rehearsal" == action.action.reason


def test_what_was_foreseen_is_kept_and_compared(renewal: Command, stores: Backends) -> None:
    """A forecast that nobody compares is a guess; before the night it is shown, after it it is held against it."""
    _, out, _ = renewal("sweep", "plan", NAME, "-o", "json")
    foreseen = {row["platform"]: (row["jobs"], row["spill"]) for row in json.loads(out)["forecast"]}
    assert {"alpha": (6, 0), "beta": (6, 0)} == foreseen
    _, out, _ = renewal("sweep", "plan", NAME, "--forecast", "-o", "csv")
    assert "platform,jobs,done_at,spill,why" == out.splitlines()[0]
    renewal("sweep", "run", NAME, "--reason", "a rehearsal")
    cases = stores.runs.cases(stores.sweeps.nights(NAME)[0].run)
    record(stores, "alpha", list(cases), state=State.UNBOUND)
    _, out, _ = renewal("sweep", "report", NAME, "-o", "json")
    seen = {row["platform"]: (row["jobs"], row["done_at"] is not None) for row in json.loads(out)["forecast"]}
    assert {"alpha": (6, True), "beta": (6, False)} == seen
    _, out, _ = renewal("sweep", "report", NAME, "--forecast", "-o", "csv")
    assert 3 == len(out.splitlines())


def test_a_night_without_a_forecast_is_reported_all_the_same(renewal: Command, stores: Backends) -> None:
    """One from before forecasts were kept, or from long ago."""
    renewal("sweep", "run", NAME, "--reason", "now")
    (night,) = stores.sweeps.nights(NAME)
    stores.redis.delete(stores.keys.sweep_forecast(NAME, night.day))
    assert json.loads(renewal("sweep", "report", NAME, "-o", "json")[1])["forecast"] is None
    with pytest.raises(RenewalError, match="no forecast is kept"):
        renewal("sweep", "report", NAME, "--forecast")


def test_the_release_list_of_a_night_is_asked_for_by_its_sweep(renewal: Command) -> None:
    """Who runs a shop's shelf knows the sweep and its day, not the id of a run."""
    with pytest.raises(RenewalError, match=f"sweep {NAME}: no night yet"):
        renewal("release", "list", "--sweep", NAME)
    renewal("sweep", "run", NAME, "--reason", "now")
    _, out, _ = renewal("release", "list", "--sweep", NAME, "-o", "jsonl")
    assert len(NUMBERS) == len(out.splitlines())
    with pytest.raises(RenewalError, match="no night 2020-01-01"):
        renewal("release", "list", "--sweep", NAME, "--day", "2020-01-01")
    with pytest.raises(InputError, match="give --run, or --sweep"):
        renewal("release", "list", "--sweep", NAME, "--run", "x")


def test_a_person_who_has_told_a_platform_ends_the_alert(renewal: Command, stores: Backends) -> None:
    """What needs a person is seen until a person did it, and it is on record who."""
    case = new_id()
    job = f"{case}.alpha"
    stores.withdrawals.note(
        Withdrawal(job=job, stage=Stage.REJECTED, requested_ms=1, changed_ms=1, attempts=3), again_at=None
    )
    assert "withdrawals_by_hand" in renewal("alerts", "-o", "jsonl")[1]
    with pytest.raises(RenewalError, match="no withdrawal that waits"):
        renewal("sweep", "told", job, f"{case}.beta", "--reason", "by phone")
    renewal("sweep", "told", job, "--reason", "by phone")
    assert [Stage.ACKNOWLEDGED] == [each.stage for each in stores.withdrawals.every()]
    assert "withdrawals_by_hand" not in renewal("alerts", "-o", "jsonl")[1]
    assert 1 == len(list(stores.actions.list(what=What.SWEEP_TOLD)))


def test_a_night_whose_changes_are_missing_raises_its_alert(renewal: Command, stores: Backends, tmp_path: Path) -> None:
    """Nothing is sent until the file is there: somebody has to know."""
    SweepFolder(tmp_path).define(
        at="00:00", zone="UTC", catch_up={"rule": "newest", "until": "00:00"}, changes={"path": "../changes.csv"}
    )
    assert 1 == renewal("sweep", "run", NAME, "--reason", "now")[0]
    found = [json.loads(line) for line in renewal("alerts", "-o", "jsonl")[1].splitlines()]
    assert [NAME] == [each["subject"] for each in found if each["code"] == "sweep_stuck"]
    assert stores.sweeps.standing(NAME).problem


def test_the_same_night_is_run_once(renewal: Command) -> None:
    """Typed twice, or typed after the scheduler did it: the second one is refused with its reason."""
    renewal("sweep", "run", NAME, "--reason", "now")
    with pytest.raises(RenewalError, match="that night, or a later one, is over"):
        renewal("sweep", "run", NAME, "--reason", "again")


@pytest.mark.parametrize("days", [-3, 1, 30])
def test_only_the_night_that_is_due_can_be_run(renewal: Command, stores: Backends, days: int) -> None:
    """A night of next month would settle all those before it."""
    day = (stores.clock.now() + timedelta(days=days)).date()
    with pytest.raises(InputError, match=f"--day {day}: only the night that is due"):
        renewal("sweep", "run", NAME, "--day", day.isoformat(), "--reason", "now")


def test_a_paused_sweep_cannot_be_run_and_says_why(renewal: Command, stores: Backends) -> None:
    """Somebody paused it for a reason, and another one should read it."""
    renewal("sweep", "pause", NAME, "--reason", "a wrong inventory")
    with pytest.raises(RenewalError, match="the sweep is paused"):
        renewal("sweep", "run", NAME, "--reason", "now")
    assert "a wrong inventory" in renewal("sweep", "list")[1]
    renewal("sweep", "resume", NAME, "--reason", "mended")
    assert 0 == renewal("sweep", "run", NAME, "--reason", "now")[0]
    assert Ending.COMPLETED is stores.sweeps.nights(NAME)[0].ending
    whats = {each.action.what for each in stores.actions.list()}
    assert {What.SWEEP_PAUSE, What.SWEEP_RESUME, What.SWEEP_RUN} <= whats


def test_numbers_are_reclaimed_from_standard_input_and_never_printed(renewal: Command, stores: Backends) -> None:
    """An argument could be read by everybody on the machine; and a wrong line does not hold up the others."""
    renewal("sweep", "run", NAME, "--reason", "now")
    (case,) = stores.store.find_by_number(f"+86{NUMBERS[0]}")
    record(stores, "alpha", [case], state=State.UNBOUND)
    typed = f"{NUMBERS[0]}\n{NUMBERS[1]}\n13911\n"
    code, _, err = renewal("sweep", "reclaim", "-", "--dry-run", stdin=typed)
    assert (3, True) == (code, "2 numbers would be reclaimed; nothing was" in err)
    assert {} == {each.job: each for each in stores.withdrawals.every()}
    code, out, err = renewal("sweep", "reclaim", "-", "--reason", f"called from {NUMBERS[0]}", stdin=typed)
    assert 3 == code
    assert "line 3: number: " in err
    assert "2 numbers reclaimed: 2 cases, 3 jobs cancelled, 1 to be withdrawn" in err
    _, listed, _ = renewal("sweep", "withdrawals", "-o", "json")
    assert [f"{case}.alpha"] == [row["job"] for row in json.loads(listed)]
    _, actions, _ = renewal("actions", "list", "-o", "json")
    assert not any(number in text for number in NUMBERS for text in (out, err, listed, actions))


@pytest.mark.parametrize("command", ["run", "pause", "resume"])
def test_who_changes_something_says_why(renewal: Command, command: str) -> None:
    """The actions log without reasons is of no use in the morning."""
    with pytest.raises(InputError, match="--reason"):
        renewal("sweep", command, NAME)
