"""Handing in a file, by the commands alone: tried dry, killed, taken up, watched over, reported, cancelled."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from backends.embedded import EmbeddedValkey
from backends.vault import new_key_file, write_key_file
from schemas.ids import new_id
from tests.bad_rows import RAW_CSV, Made, csv_line, rows, text_of
from tests.command import Done, Renewal, free_port, numbers, rows_of, wait_until, write_input, write_platform

ROWS = 2_500
HEAD = "number,cutoff_at,reference,basis,deactivated_on,cycle,platforms\n"
KILLED = -signal.SIGKILL


@pytest.fixture
def desk(renewal: Renewal, valkey: EmbeddedValkey, tmp_path: Path) -> Renewal:
    """The command with a store and a catalogue of two platforms, and no process of ours."""
    for key in ("acme", "globex"):
        write_platform(tmp_path / "catalogue", key, limits={"calls_per_s": 10, "in_flight": 4, "items_per_call": 100})
    write_key_file(tmp_path / "number-keys", new_key_file())
    renewal.settings |= {
        "RENEWAL_REDIS_URL": valkey.url,
        "RENEWAL_NAMESPACE": f"t{new_id()}",
        "RENEWAL_NUMBER_KEYS_FILE": str(tmp_path / "number-keys"),
        "RENEWAL_CATALOGUE": str(tmp_path / "catalogue"),
    }
    return renewal


def write(desk: Renewal) -> list[Made]:
    """Write a file of several chunks with every kind of bad row; return what it was made of."""
    made = list(rows(ROWS, seed=4, raw=RAW_CSV))
    (desk.cwd / "night.csv").write_bytes(text_of(made, csv_line, head=HEAD))
    return made


def listed(desk: Renewal) -> list[dict[str, Any]]:
    """Return the runs, newest first."""
    done = desk.look("runs", "list", "-o", "json")
    assert 0 == done.code, done.told
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def shown(desk: Renewal, run: str) -> dict[str, Any]:
    """Return all that is counted of a run."""
    done = desk.look("runs", "show", run, "--platforms", "-o", "json")
    assert 0 == done.code, done.told
    found: dict[str, Any] = json.loads(done.out)
    return found


def assert_all_named(made: list[Made], path: Path) -> None:
    """Each bad row stands in rejected.csv once, by its line."""
    bad = [str(line) for line, row in enumerate(made, start=2) if row.kind]
    assert bad == [row["line"] for row in rows_of(path)]


def test_a_submission_that_is_killed_twice_is_one_run_without_gap_or_double(desk: Renewal) -> None:
    """Every good row is accepted once, every bad one named once, and the file is not read from its start again."""
    made = write(desk)
    good = sum(not row.kind for row in made)
    submit = ("submit", "night.csv", "--rejected", "rejected.csv", "-o", "json")
    assert KILLED == desk.run(*submit, RENEWAL_FAILPOINT="submit.cursor").code
    assert KILLED == desk.run(*submit, RENEWAL_FAILPOINT="submit.published").code
    [row] = listed(desk)
    assert ("night.csv", "reading", 2_000) == (row["file"], row["state"], row["cases"])
    done = desk.run(*submit)
    assert 3 == done.code, done.told
    assert "taken up after line 1," in done.err
    told = json.loads(done.out)
    assert (row["run"], good, 0, ROWS - good, True) == tuple(
        told[name] for name in ("run", "accepted", "duplicate", "rejected", "whole")
    )
    assert_all_named(made, desk.cwd / "rejected.csv")
    found = shown(desk, row["run"])
    assert ("working", good, ROWS - good, ROWS + 1) == tuple(
        found[name] for name in ("state", "cases", "rejected", "line")
    )
    assert found["jobs"] == sum(each["jobs"] for each in found["platforms"]) == found["by_state"]["QUEUED"]


def test_a_dry_run_checks_everything_and_needs_no_store(desk: Renewal) -> None:
    """The night's file can be tried in the afternoon, on a laptop."""
    made = write(desk)
    good = [row for row in made if not row.kind]
    desk.settings["RENEWAL_REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    done = desk.run("submit", "night.csv", "--dry-run", "--rejected", "rejected.csv", "-o", "json")
    assert 3 == done.code, done.told
    report = json.loads(done.out)
    assert {"accepted": len(good), "rejected": ROWS - len(good), "duplicate": 0} == report["cases"]
    everywhere = sum("globex" not in row.values["platforms"] and row.values["platforms"] != "" for row in good)
    assert {"acme": len(good), "globex": len(good) - everywhere} == report["jobs"]["by_platform"]
    assert {"number", "cutoff_at", "reference", "basis", "deactivated_on", "cycle", "platforms", "row"} == set(
        report["rejected"]
    )
    assert_all_named(made, desk.cwd / "rejected.csv")
    table = desk.look("run", "night.csv", "--dry-run")
    assert 3 == table.code, table.told
    assert f"{len(good):,} cases, 0 more rows of the same, {ROWS - len(good)} refused" in table.out
    assert not desk.data.exists()


def test_a_file_that_cannot_be_read_to_its_end_is_said_by_a_dry_run(desk: Renewal) -> None:
    """With what came before."""
    (desk.cwd / "cut.csv").write_bytes(f"{HEAD}13800001234,2026-12-01,,,,,\n".encode() + b"\xff\xfe\n")
    done = desk.look("submit", "cut.csv", "--dry-run", "-o", "json")
    assert (2, 1) == (done.code, json.loads(done.out)["cases"]["accepted"]), done.told
    assert "line 3: not utf-8 text" in done.err


def test_a_full_queue_is_said_and_ctrl_c_leaves_what_can_be_taken_up(desk: Renewal) -> None:
    """Who waits wants to know for what, and may leave."""
    write_input(desk.cwd / "night.csv", numbers(1_200))
    with desk.started("submit", "night.csv", RENEWAL_QUEUE_HIGH_WATER="10") as started:
        text = wait_until(lambda: started.err if "waits: " in started.err else None, what="why it waits")
        assert "reading goes on below 10; no worker runs: `renewal up`" in text
        started.send(signal.SIGINT)
        done = started.wait()
    assert 130 == done.code, done.told
    assert "the same command goes on from here" in done.err
    [row] = listed(desk)
    assert "reading" == row["state"]


def test_a_run_is_reported_cancelled_and_no_longer_waited_for(desk: Renewal) -> None:
    """Nothing of it is open afterwards, and it is on record who ended it and why."""
    write(desk)
    assert 3 == desk.run("submit", "night.csv").code
    [row] = listed(desk)
    run, jobs = row["run"], row["jobs"]
    report: Done = desk.look("runs", "report", run, "--report", "report")
    assert 0 == report.code, report.told
    assert {"report.html", "report.json", "results.csv", "rejected.csv"} == {
        Path(line).name for line in report.out.splitlines()
    }
    assert jobs == len(rows_of(desk.cwd / "report" / "results.csv"))
    done = desk.run("runs", "cancel", run, "--reason", "wrong file", "--expect-count", str(jobs))
    assert (0, True) == (done.code, f"{jobs} jobs were taken out" in done.err), done.told
    watched = desk.look("runs", "watch", run)
    assert (3, True) == (watched.code, f"run {run}: cancelled" in watched.err), watched.told
    assert {"CANCELLED": jobs} == shown(desk, run)["by_state"]
