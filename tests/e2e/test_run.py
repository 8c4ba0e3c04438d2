"""`renewal run` from end to end: real processes, an embedded Valkey, HTTP; checked against what platforms recorded."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from platforms.catalogue import SAMPLE
from schemas.state import STATES, State
from tests.command import (
    CUTOFF,
    Done,
    Renewal,
    numbers,
    port_is_open,
    rows_of,
    wait_until,
    write_input,
    write_platform,
)

ROOT = Path(__file__).parents[2]
KEYS = sorted(path.stem for path in SAMPLE.glob("*.yaml"))[:30]
MOBILES = numbers(25)
MASKED = re.compile(r"1\d{2}\*{4}\d{4}")
SECRET = "whsec_bm9ib2R5LXNob3VsZC11c2UtdGhpcy1vbmU="
FILES = {"report.html", "report.json", "results.csv", "rejected.csv"}
# Spellings of one number in turn: each must be understood, and none may be left lying about.
SPELLINGS = ("{}", "+86{}", "0086{}", "+86 {0[0]}{0[1]}{0[2]} {0[3]}{0[4]}{0[5]}{0[6]} {0[7]}{0[8]}{0[9]}{0[10]}")
# line of the file → (field, the value as it was written)
BAD_ROWS = {
    27: ("number", "010-62781234", "N", CUTOFF, ""),
    28: ("number", "+85291234567", "N", CUTOFF, ""),
    29: ("number", "1391234567", "N", CUTOFF, ""),
    30: ("number", "70013912345678", "N", CUTOFF, ""),
    31: ("cutoff_at", "13998765432", "N", "2026-02-30T00:00:00+08:00", ""),
    32: ("cutoff_at", "13998765433", "N", "", ""),
    33: ("platforms", "13998765434", "N", CUTOFF, "no-such-platform"),
}


@dataclass(frozen=True)
class Story:
    """One run that many rules are read off."""

    renewal: Renewal
    done: Done
    by_number: Done
    by_reference: Done
    report: Path
    valkey_port: int


def write_mixed_rows(path: Path) -> Path:
    """Write 25 good rows in several spellings, then one of each kind of bad row."""
    lines = ["reference,number,cutoff_at,platforms"]
    for index, mobile in enumerate(MOBILES):
        lines.append(f"R-{index:04d},{SPELLINGS[index % len(SPELLINGS)].format(mobile)},{CUTOFF},")
    lines += [f"{ref},{number},{cutoff},{asked}" for _, number, ref, cutoff, asked in BAD_ROWS.values()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A sandbox run of a small file with bad rows, and two look-ups after it."""
    folder = tmp_path_factory.mktemp("story")
    renewal, report = Renewal(folder / "clean"), folder / "report"
    file = write_mixed_rows(folder / "input.csv")
    with renewal.started(
        "run", file, "--sandbox", "--platforms", ",".join(KEYS), "--report", report, "-o", "json"
    ) as run:
        port = wait_until(renewal.valkey_port, what="the embedded Valkey")
        done = run.wait()
    yield Story(
        renewal=renewal,
        done=done,
        by_number=renewal.run("status", "--sandbox", "--number", "-", stdin=f"{MOBILES[0]}\n"),
        by_reference=renewal.run("status", "--sandbox", "--reference", "R-0001", "-o", "json"),
        report=report,
        valkey_port=port,
    )
    renewal.kill_leftovers()


def test_a_sandbox_run_settles_every_job_and_agrees_with_the_platforms(story: Story) -> None:
    """The one promise of the command: all jobs have an end, and it is the one that the platforms recorded."""
    assert 0 == story.done.code, story.done.err
    summary = story.done.summary
    assert {"accepted": 25, "rejected": len(BAD_ROWS), "duplicate": 0} == summary["cases"]
    assert 25 * len(KEYS) == summary["jobs"]["total"]
    assert summary["jobs"]["total"] == sum(summary["jobs"]["by_state"].values())
    assert set() == {"QUEUED", "WAITING"} & set(summary["jobs"]["by_state"])
    assert 25 == sum(summary["verdicts"].values())
    assert (True, 0, 0) == (
        summary["ledger"]["agrees"],
        summary["ledger"]["second_effects"],
        summary["ledger"]["unknown_effects"],
    )


def test_a_run_says_where_it_can_be_watched_and_how_to_come_in(story: Story) -> None:
    """An address without a key, or a key that others can read, would be no way in."""
    found = re.search(r"console on http://127\.0\.0\.1:\d+/; log in with the key in (\S+)", story.done.err)
    assert found is not None, story.done.err
    key = Path(found[1])
    assert (True, 0o600) == (key.read_text(encoding="utf-8").startswith("nrk_"), key.stat().st_mode & 0o777)


def test_a_run_leaves_the_four_files_that_its_summary_names(story: Story) -> None:
    """A summary that names a file which is not there sends its reader nowhere."""
    files = {name: Path(path) for name, path in story.done.summary["files"].items()}
    assert FILES == set(files)
    assert {story.report / name for name in FILES} == set(files.values())
    assert [] == [name for name, path in files.items() if not path.stat().st_size]


def test_results_csv_has_one_row_for_each_job(story: Story) -> None:
    """A job that is missing from the results is lost to whoever reads them."""
    rows = rows_of(story.report / "results.csv")
    assert story.done.summary["jobs"]["total"] == len(rows)
    assert len(rows) == len({(row["case"], row["platform"]) for row in rows})
    assert set(KEYS) == {row["platform"] for row in rows}
    assert {f"R-{index:04d}" for index in range(25)} == {row["reference"] for row in rows}
    assert [] == [row["number"] for row in rows if not MASKED.fullmatch(row["number"])]


def test_results_csv_adds_up_to_the_summary(story: Story) -> None:
    """Two tellings of one run must not differ."""
    counted: dict[str, int] = {}
    for row in rows_of(story.report / "results.csv"):
        counted[row["state"]] = counted.get(row["state"], 0) + 1
    assert story.done.summary["jobs"]["by_state"] == counted


def test_rejected_csv_names_line_field_and_problem_of_each_bad_row(story: Story) -> None:
    """Whoever must correct a file of a million rows needs the line and the field."""
    rows = rows_of(story.report / "rejected.csv")
    assert {line: field for line, (field, *_) in BAD_ROWS.items()} == {int(row["line"]): row["field"] for row in rows}
    assert [] == [row for row in rows if not row["problem"].strip()]


def test_a_lookup_shows_a_masked_number_and_every_platform(story: Story) -> None:
    """Customer staff must find the case by its number without ever reading it whole."""
    assert 0 == story.by_number.code, story.by_number.err
    assert f"{MOBILES[0][:3]}****{MOBILES[0][-4:]}" in story.by_number.out
    (case,) = json.loads(story.by_reference.out)
    assert f"{MOBILES[1][:3]}****{MOBILES[1][-4:]}" == case["number"]
    assert KEYS == sorted(job["platform"] for job in case["jobs"])


def test_nothing_that_a_run_leaves_behind_holds_a_full_number(story: Story) -> None:
    """Numbers are never in the clear: not in the store, its log, ours, the ledger, the report or what was printed."""
    wanted: set[str] = set(MOBILES)
    for index, mobile in enumerate(MOBILES):
        wanted.add(SPELLINGS[index % len(SPELLINGS)].format(mobile))
    for _, value, *_ in BAD_ROWS.values():
        wanted |= {value, re.sub(r"\D", "", value)}
    needles = [needle.encode() for needle in sorted(wanted)]
    said = {"status --number": story.by_number, "status --reference": story.by_reference, "run": story.done}
    texts = {f"{name} {kind}": getattr(done, kind).encode() for name, done in said.items() for kind in ("out", "err")}
    left = story.renewal.files() + sorted(path for path in story.report.rglob("*") if path.is_file())
    names = {path.name for path in left}
    texts |= {str(path): path.read_bytes() for path in left}
    assert set() == {"number-keys", "ledger", "worker-1.log", "recorder.log", *FILES} - names
    assert [] != [name for name in names if name.endswith(".aof")]
    assert [] == [(name, needle) for name, text in texts.items() for needle in needles if needle in text]


def test_after_a_run_nothing_of_it_lives(story: Story) -> None:
    """A newcomer who tries the command must not have to clean up after it."""
    assert [] == story.renewal.living()
    assert not port_is_open(story.valkey_port)
    log = next(story.renewal.data.glob("runs/*/logs/simulate.log")).read_text(encoding="utf-8")
    told = re.search(r"on http://127\.0\.0\.1:(\d+) ", log)
    assert told is not None
    assert not port_is_open(int(told[1]))


def test_a_run_leaves_nothing_outside_its_data_folder(story: Story) -> None:
    """Neither HOME nor the temporary nor the working folder may fill up, run after run."""
    for folder in (story.renewal.home, story.renewal.temporary, story.renewal.cwd):
        assert [] == list(folder.rglob("*"))


def test_a_storm_loses_no_job_and_has_no_second_effect(renewal: Renewal, tmp_path: Path) -> None:
    """Resets, lost answers and slow drips are the weather of a bad night: each job still ends, and only once."""
    file = write_input(tmp_path / "input.csv", numbers(25))
    keys = ",".join(KEYS)
    done = renewal.run("run", file, "--sandbox", "--faults", "storm", "--platforms", keys, "-o", "json")
    assert 0 == done.code, done.err
    summary = done.summary
    ends = {state.value for state in State if STATES[state].final} | {State.DEAD, State.PENDING_REVIEW}
    assert 25 * len(KEYS) == summary["jobs"]["total"] == sum(summary["jobs"]["by_state"].values())
    assert set() == set(summary["jobs"]["by_state"]) - ends
    assert (True, 0) == (summary["ledger"]["agrees"], summary["ledger"]["second_effects"])
    assert summary["calls"] > 25 * len(KEYS) / 500, "a storm without a repeated call was none"
    assert [] == renewal.living()


# -- real platforms ------------------------------------------------------------------------------------------------

OUTCOMES: dict[str, object] = {
    "OK": "UNBOUND",
    "NONE": "NO_BINDING",
    "LATER": "BOUND_AFTER_CUTOFF",
    "HELD": {"REFUSED": "funds_or_debt"},
    "UNSUPPORTED": "NOT_SUPPORTED",
}
MEANING = {code: (outcome if isinstance(outcome, str) else "REFUSED") for code, outcome in OUTCOMES.items()}


@dataclass(frozen=True)
class World:
    """Two platforms that are no simulation: servers of their own, each with its own record."""

    catalogue: Path
    records: dict[str, Path]

    def recorded(self) -> dict[str, str]:
        """Return what the platforms themselves say that they answered, by job."""
        return {row["id"]: row["code"] for record in self.records.values() for row in rows_of(record)}


@contextlib.contextmanager
def platform_server(record: Path, *, secret: str) -> Iterator[int]:
    """Run examples/platform_server.py on a free port."""
    with subprocess.Popen(
        [sys.executable, "-u", ROOT / "examples" / "platform_server.py", "--port", "0", "--record", record],
        env={"PATH": os.environ["PATH"], "ACME_SECRET": secret},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            told = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            assert told is not None, line
            yield int(told[1])
        finally:
            server.terminate()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A catalogue of two platforms, one for each protocol, at servers that only know docs/integrate.md."""
    catalogue, records = tmp_path / "catalogue", {key: tmp_path / f"{key}.csv" for key in ("acme", "solo")}
    limits = {"calls_per_s": 100, "in_flight": 4, "timeout_s": 5}
    auth = {"scheme": "standard-webhooks", "secret": "env:ACME_SECRET"}
    with platform_server(records["acme"], secret=SECRET) as bulk, platform_server(records["solo"], secret="") as single:
        url = "http://127.0.0.1:{}/v1/renewals"
        write_platform(
            catalogue, "acme", endpoint=url.format(bulk), auth=auth, outcomes=OUTCOMES,
            limits={**limits, "items_per_call": 20},
        )  # fmt: skip
        write_platform(
            catalogue, "solo", endpoint=url.format(single), protocol="json", outcomes=OUTCOMES, limits=limits
        )
        yield World(catalogue=catalogue, records=records)


def test_results_agree_with_a_platforms_own_record_row_by_row(renewal: Renewal, world: World, tmp_path: Path) -> None:
    """What counts in the end is what a platform of somebody else says it did; a second file may change nothing."""
    renewal.settings = {"ACME_SECRET": SECRET, "RENEWAL_PRIVATE_ENDPOINTS": "allow"}
    file = write_input(tmp_path / "input.csv", numbers(60))
    command = ("run", file, "--catalogue", world.catalogue, "-o", "json")
    done = renewal.run(*command, "--report", tmp_path / "first")
    assert 0 == done.code, done.err
    rows = rows_of(tmp_path / "first" / "results.csv")
    recorded = world.recorded()
    assert 120 == len(rows) == len(recorded)
    assert {job: MEANING[code] for job, code in recorded.items()} == {
        f"{row['case']}.{row['platform']}": row["outcome"] for row in rows
    }
    assert {"funds_or_debt"} >= {row["reason"] for row in rows if row["outcome"] == "REFUSED"}
    assert {"UNBOUND", "NO_BINDING"} <= {row["outcome"] for row in rows}, "the comparison must have something to miss"

    before = {key: record.read_bytes() for key, record in world.records.items()}
    again = renewal.run(*command, "--report", tmp_path / "second")
    assert 0 == again.code, again.err
    assert {"accepted": 0, "rejected": 0, "duplicate": 60} == again.summary["cases"]
    assert (0, 0) == (again.summary["calls"], again.summary["attempts"])
    assert before == {key: record.read_bytes() for key, record in world.records.items()}
    assert [] == renewal.living()


def test_a_private_address_is_not_called_unless_allowed(renewal: Renewal, world: World, tmp_path: Path) -> None:
    """A catalogue must not turn the dispatcher into a way into the operator's own network."""
    renewal.settings = {"ACME_SECRET": SECRET}
    file = write_input(tmp_path / "input.csv", numbers(20))
    done = renewal.run("run", file, "--catalogue", world.catalogue, "--max-seconds", "8", "-o", "json")
    assert 7 == done.code, done.err
    assert {} == world.recorded()
    assert 40 == done.summary["jobs"]["total"]
    assert set() == set(done.summary["jobs"]["by_outcome"])
    assert {"QUEUED", "WAITING"} >= set(done.summary["jobs"]["by_state"])
    assert [] == renewal.living()
