"""Where batches are and which processes live, as rows and as one picture."""

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from backends.admission import GateState
from backends.custody import Phase
from backends.figures import Piles
from ops.snapshot import Held, Snapshot
from ops.top import picture
from ops.watch import QUEUE_FIELDS, WORKER_FIELDS, queue_rows, worker_rows
from tests.snapshots import catalogue_of, gate, living, quiet, waiting


def shown(folder: Path, now: Snapshot, *, columns: int = 80) -> str:
    """Return the picture as plain text."""
    console = Console(file=io.StringIO(), width=columns, force_terminal=False, color_system=None)
    console.print(picture(catalogue_of(folder), now, quiet(taken_s=90.0), columns=columns))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_queues_show_where_everything_is() -> None:
    """A batch that is in no row is a batch that nobody looks for."""
    now = quiet(
        held=Held(by_phase={Phase.BEGUN: 4}, oldest_s={Phase.BEGUN: 2.5}, sent_again=1),
        waiting=waiting(due=2, later=5, oldest_due_s=61.2),
        piles=Piles(poison=1, unreadable=2, orphans=3, disputes=4),
    )
    rows = {(row["what"], row["name"]): (row["count"], row["oldest_s"]) for row in queue_rows(now, {"limit": 6})}
    assert (3, None) == rows["queue", "bulk"]
    assert (4, 2.5) == rows["custody", "begun"]
    assert (0, None) == rows["custody", "answered"]
    assert (1, None) == rows["custody", "sent again"]
    assert (2, 61.2) == rows["waiting", "due now"]
    assert (5, None) == rows["waiting", "due later"]
    assert (6, None) == rows["waiting why", "limit"]
    assert [1, 2, 3, 4] == [rows["for a person", name][0] for name in ("poison", "unreadable", "orphans", "disputes")]


def test_rows_hold_every_field_that_is_promised() -> None:
    """Programs count on the names."""
    assert set(QUEUE_FIELDS) == set(next(queue_rows(quiet(), {})))
    assert set(WORKER_FIELDS) == set(next(worker_rows([living("worker")])))


def test_a_silent_process_is_shown_after_the_living_ones() -> None:
    """One that hangs still has its entry: it must not look alive, and must not be forgotten."""
    beats = [living("recorder", silent_s=15.5), living("worker", running=3, platforms=["alpha"], batches=9)]
    alive, silent = worker_rows([*beats])
    assert ("worker", "alive", 3, "alpha", 9, "batches") == tuple(
        alive[name] for name in ("role", "state", "running", "platforms", "done", "unit")
    )
    assert ("recorder", "silent", 15.5) == tuple(silent[name] for name in ("role", "state", "last_sign_s"))


def test_a_process_that_was_killed_is_shown_as_gone() -> None:
    """It could not say good-bye, and its last sign is fresh."""
    (row,) = worker_rows([living("worker", gone=True)])
    assert "gone" == row["state"]


def test_a_process_of_another_version_says_less_and_breaks_nothing() -> None:
    """While a version is rolled out, both beat."""
    (row,) = worker_rows([replace(living("console"), facts={})])
    assert (None, None, None) == (row["since"], row["running"], row["done"])


def test_the_picture_shows_alerts_first_and_trouble_before_the_rest(tmp_path: Path) -> None:
    """A person at night reads from the top."""
    gates = {"alpha": gate(), "beta": gate("beta", state=GateState.SUSPENDED, reason="tls")}
    text = shown(tmp_path, quiet(gates=gates))
    marks = [
        "platform_suspended beta: suspended: tls",
        "beta     ",
        "alpha   ",
        "\nqueues ",
        "\nwaiting ",
        "host-worker",
    ]
    assert sorted(text.index(mark) for mark in marks) == [text.index(mark) for mark in marks]


def test_the_picture_is_plain_text_and_fits_off_a_terminal(tmp_path: Path) -> None:
    """It is read by mail and in logs too."""
    text = shown(tmp_path, quiet(piles=Piles(poison=10**9), broker_problem="x" * 300))
    assert "\x1b" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_picture_says_when_all_is_well(tmp_path: Path) -> None:
    """An empty screen would leave in doubt whether anything was looked at."""
    assert "no alerts" in shown(tmp_path, quiet(), columns=120)
