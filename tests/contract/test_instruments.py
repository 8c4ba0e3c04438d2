"""Bulk work rests on a recorded document and an approver, or it does not begin (requirement 8)."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from backends.actions import What
from backends.bootstrap import Backends
from backends.sweeps import Ending
from ops.cli.main import app
from ops.instrument_desk import InstrumentDesk
from ops.reading import Reading
from ops.run_folder import RunFolder, RunOptions
from platforms.catalogue import Catalogue
from producers.sweep import AGAIN, run_of
from schemas.errors import InputError, NotFound, Refused
from tests.command import CUTOFF
from tests.fixtures_valkey import NOON
from tests.sweeping import DAY, NAME, START, SweepFolder, line_of, mobiles, move_to, to_rest

KEY = "notice-7"


def fields(**changed: Any) -> dict[str, Any]:
    """What is said of an instrument that is valid for a day around noon."""
    said = {
        "key": KEY, "title": "Notice on recycled numbers", "document_number": "No. 7", "approver": "head of numbering",
        "valid_from": NOON - timedelta(days=1), "valid_until": NOON + timedelta(days=1),
    }  # fmt: skip
    return said | changed


def record(backends: Backends, **changed: Any) -> dict[str, Any]:
    """Record one."""
    return InstrumentDesk(backends, who="clerk").record(fields(**changed), reason="signed today")


def test_an_instrument_says_what_it_is_and_who_answers_for_it(backends: Backends) -> None:
    """Years later somebody asks on what a run rested."""
    record(backends)
    (row,) = InstrumentDesk(backends).rows()
    assert (KEY, "No. 7", "head of numbering", "clerk", True) == (
        row["key"], row["document_number"], row["approver"], row["recorded_by"], row["valid"],
    )  # fmt: skip
    (entry,) = backends.actions.list(what=What.INSTRUMENT_RECORD)
    assert (KEY, "clerk", "signed today") == (entry.action.target, entry.action.who, entry.action.reason)


def test_an_instrument_is_never_changed(backends: Backends) -> None:
    """What a run rested on must say today what it said then; the same once more is no change."""
    record(backends)
    record(backends)
    with pytest.raises(Refused, match="says something else"):
        record(backends, title="Another one")
    assert "Notice on recycled numbers" == InstrumentDesk(backends).show(KEY)["title"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"key": "Notice 7"}, "key: "),
        ({"approver": "  "}, "approver: "),
        ({"valid_until": NOON - timedelta(days=2)}, "valid_until: expected an instant after valid_from"),
        ({"valid_from": "2026-11-01T00:00:00"}, "valid_from: Input should have timezone info"),
    ],
)
def test_a_wrong_field_is_named(backends: Backends, changed: dict[str, Any], said: str) -> None:
    """Nothing is recorded then."""
    with pytest.raises(InputError, match=said):
        record(backends, **changed)
    assert [] == list(InstrumentDesk(backends).rows())


@pytest.mark.parametrize(
    ("days", "said"), [(-2, "is valid from 2026-10-31 on"), (2, "was valid until 2026-11-02"), (0, "")]
)
def test_nothing_rests_on_one_that_is_not_valid(backends: Backends, days: int, said: str) -> None:
    """Before and after its time alike."""
    record(backends)
    assert said == backends.instruments.get(KEY).obstacle(NOON + timedelta(days=days))


def test_one_that_was_ended_carries_nothing_more(backends: Backends) -> None:
    """And says who ended it; ending it twice would hide the first."""
    record(backends)
    desk = InstrumentDesk(backends, who="clerk")
    assert "clerk" == desk.end(KEY, reason="revoked")["ended_by"]
    with pytest.raises(Refused, match="was ended on 2026-11-01"):
        backends.instruments.valid(KEY, now=NOON)
    with pytest.raises(Refused, match="was ended"):
        desk.end(KEY, reason="revoked again")
    assert 1 == len(backends.actions.list(what=What.INSTRUMENT_END))


def reading(backends: Backends, folder: RunFolder, file: Path, *, instrument: str) -> Reading:
    """What `renewal submit --instrument` reads with."""
    return Reading(
        backends=backends, catalogue=Catalogue.load().select(["alipay"]), folder=folder, file=str(file),
        encoding="utf-8", operator="op", instrument=instrument,
    )  # fmt: skip


def test_a_file_on_an_instrument_that_is_not_there_is_not_read(backends: Backends, tmp_path: Path) -> None:
    """0 sends, and not even a run; once it is recorded, the run says on what it rests."""
    file = tmp_path / "numbers.csv"
    file.write_text(f"number,cutoff_at\n13800000001,{CUTOFF}\n")
    with RunFolder(tmp_path, RunOptions(file=str(file), instrument=KEY), scope=("submit",)) as folder:
        read = reading(backends, folder, file, instrument=KEY)
        with pytest.raises(NotFound, match="no instrument of this key"):
            read.begin()
        assert [] == list(backends.runs.newest_first())
        record(backends)
        read.begin()
        assert KEY == backends.runs.facts([folder.run])[0].instrument


def test_a_night_without_its_instrument_does_not_begin(backends: Backends, tmp_path: Path) -> None:
    """It says why, sends nothing, and goes on as soon as somebody has recorded it."""
    backends.broker.declare()
    folder = SweepFolder(tmp_path)
    folder.define(instrument=KEY)
    folder.write([line_of(number) for number in mobiles(3)])
    move_to(backends, START)
    stepper = folder.stepper(backends)
    to_rest(stepper)
    assert "no instrument of this key" in backends.sweeps.standing(NAME).problem
    assert 0 == backends.sweeps.nights(NAME)[0].sent
    record(backends)
    move_to(backends, START + AGAIN)
    to_rest(stepper)
    (night,) = backends.sweeps.nights(NAME)
    assert (Ending.COMPLETED, 3) == (night.ending, night.sent)
    assert KEY == backends.runs.facts([run_of(NAME, DAY)])[0].instrument


@pytest.fixture
def environment(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the commands find the stores of the test; what they set up for their log is taken back."""
    keys = backends.settings.number_keys
    assert keys is not None
    monkeypatch.setenv("RENEWAL_REDIS_URL", backends.settings.redis_url or "")
    monkeypatch.setenv("RENEWAL_NAMESPACE", backends.settings.namespace)
    monkeypatch.setenv("RENEWAL_NUMBER_KEYS", keys.get_secret_value())
    yield
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


def test_the_commands_record_show_and_end(backends: Backends, environment: None) -> None:
    """Dates without a time are those of Shanghai."""
    made = ["instruments", "record", KEY, "--title", "T", "--document-number", "7", "--approver", "A", "--valid-from",
            "2026-01-01", "--valid-until", "2099-01-01", "--reason", "signed"]  # fmt: skip
    assert 0 == CliRunner().invoke(app, made).exit_code
    kept = backends.instruments.get(KEY).instrument
    assert "2026-01-01T00:00:00+08:00" == kept.valid_from.isoformat()
    shown = CliRunner().invoke(app, ["instruments", "show", KEY, "-o", "json"])
    assert '"valid": true' in shown.stdout
    assert 0 == CliRunner().invoke(app, ["instruments", "end", KEY, "--reason", "revoked"]).exit_code
    assert '"valid": false' in CliRunner().invoke(app, ["instruments", "list", "-o", "json"]).stdout
