"""A night with dead letters, by commands only: find the cause, mend it, send them again, see that they settled."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends.waiting import Why
from tests.command import Done, numbers, wait_until, write_input
from tests.fixtures_valkey import NOON
from tests.letters import accept, die, wait
from tests.rig import Rig, limits_of

ILL, WELL = "ill", "well"
NUMBERS = 30
CANARY = 4
LIMITS: dict[str, object] = {"calls_per_s": 60, "in_flight": 4}
ONE_A_CALL: dict[str, dict[str, object]] = {key: {"protocol": "json", "limits": LIMITS} for key in (ILL, WELL)}


def rows_of(done: Done, *, code: int = 0) -> list[dict[str, Any]]:
    """Return what a command printed as JSON."""
    assert code == done.code, done.told
    found = json.loads(done.out)
    return found if isinstance(found, list) else [found]


def replay_of(done: Done) -> str:
    """Return the replay that a command asked for."""
    return done.err.partition("replay ")[2].partition(":")[0]


def test_a_platform_that_rejected_everything_is_mended_and_its_dead_letters_settle(tmp_path: Path) -> None:
    """The night operator's task: thirty jobs of one platform died, and none may be lost or sent twice."""
    with Rig(tmp_path, catalogue=limits_of(ONE_A_CALL)) as rig:
        told = rig.renewal.look
        rig.submit(write_input(tmp_path / "input.csv", numbers(NUMBERS)))
        rig.world.order(ILL, "reject_batch", status=400, cases=[case.id for case in rig.jobs.cases()])
        rig.up(workers=1)
        rig.jobs.settle()

        (group,) = rows_of(told("dead", "groups", "-o", "json"))
        assert (ILL, "rejected_request", NUMBERS) == (group["platform"], group["reason"], group["count"])
        (shown,) = rows_of(told("dead", "show", group["job"], "-o", "json"))
        assert [("DEAD", 400)] == [(step["state"], step["http_status"]) for step in shown["steps"]]

        choice = ("--platform", ILL, "--cause", "rejected_request")
        again = ("dead", "replay", *choice, "--canary", str(CANARY), "--reason", "mended")
        assert 6 == told(*again, "--expect-count", str(NUMBERS - 1)).code
        assert 2 == told(*again).code, "nobody can be asked"
        assert f"{NUMBERS} dead letters would be changed" in told(*again, "--dry-run").err

        # Not mended after all: the canary shows it, and the rest is not sent.
        stopped = told(*again, "--expect-count", str(NUMBERS), "-o", "json")
        (report,) = rows_of(stopped, code=1)
        assert ("stopped", CANARY, {"rejected_request": CANARY}) == (
            report["state"], report["sent"], report["failed_by_reason"],
        )  # fmt: skip

        rig.world.order(ILL, None)
        ident = replay_of(stopped)
        assert 0 == told("dead", "replay-resume", ident, "--reason", "now it is").code
        wait_until(
            lambda: rows_of(told("dead", "replay-show", ident, "-o", "json"))[0]["state"] == "done", what="the end"
        )
        left = told(*again, "--expect-count", str(CANARY), "-o", "json")
        assert {"done"} == {row["state"] for row in rows_of(left)}
        assert [] == rows_of(told("dead", "list", "-o", "json"))
        assert 0 == told("audit").code
        rig.jobs.assert_told_truly(compared=2 * NUMBERS)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A system in which nothing runs but its store."""
    with Rig(tmp_path, catalogue=limits_of(ONE_A_CALL)) as started:
        yield started


def test_what_a_number_waits_for_is_seen_hurried_and_cancelled(rig: Rig) -> None:
    """A customer asks why it takes so long: one command says it, and another one changes it."""
    first, second = accept(rig.backends, [ILL, WELL], count=2)
    later = datetime.now(UTC) + timedelta(hours=1)
    mine = wait(rig.backends, ILL, [first], due=later, why=Why.PAUSED)
    other = wait(rig.backends, WELL, [second], due=later)
    told = rig.renewal.look

    (row,) = rows_of(told("retries", "list", "--number", "-", "-o", "json", stdin="+86 138 0000 0000\n"))
    assert (mine.id, ILL, "paused", 1, False) == (row["batch"], row["platform"], row["why"], row["jobs"], row["leased"])
    assert 3500 < row["in_s"] <= 3600
    listed = told("retries", "list", "--due-before", "2h", "--limit", "1", "-o", "json")
    assert "1 of 2 batches" in listed.err
    (shown,) = rows_of(told("retries", "show", mine.id, "-o", "json"))
    assert ["138****0000"] == [case["number"] for case in shown["cases"]]

    assert 2 == told("retries", "run-now", "--reason", "why not", "--yes").code, "it must be said which"
    assert 6 == told("retries", "run-now", "--all", "--reason", "why not", "--expect-count", "1").code
    assert 2 == told("retries", "run-now", "--all", "--yes").code, "a reason is needed"
    assert 5 == told("retries", "cancel", "a" * 26, "--reason", "why not", "--yes").code
    assert 3000 < min(row["in_s"] for row in rows_of(told("retries", "list", "-o", "json"))), "nothing was changed"

    assert 0 == told("retries", "run-now", mine.id, "--reason", "it is back", "--expect-count", "1").code
    (hurried, _) = rows_of(told("retries", "list", "-o", "json"))
    assert mine.id == hurried["batch"]
    assert hurried["in_s"] <= 0
    assert 0 == told("retries", "cancel", "--platform", WELL, "--reason", "no use", "--yes").code
    assert [mine.id] == [row["batch"] for row in rows_of(told("retries", "list", "-o", "json"))]
    (state,) = rows_of(told("status", "--case", second, "-o", "json"))
    assert "CANCELLED" in {job["state"] for job in state["jobs"]}
    assert 5 == told("retries", "show", other.id).code


def test_dead_letters_are_exported_revealed_on_record_and_given_up(rig: Rig) -> None:
    """What cannot be mended is handed over by file, asked about by number, and ended with a reason."""
    first, _ = die(rig.backends, [ILL], count=2)
    told = rig.renewal.look
    header, *lines = told("dead", "export").out.splitlines()
    assert ("number,case,platform,reason,died_at", 2) == (",".join(header.split(",")[:5]), len(lines))
    assert "13800000000" not in told("dead", "list").out + told("dead", "show", f"{first}.{ILL}").out

    assert 2 == told("dead", "show", f"{first}.{ILL}", "--reveal").code, "a reason is needed"
    revealed = told("dead", "show", f"{first}.{ILL}", "--reveal", "--reason", "they asked")
    assert ("+8613800000000\n", 0) == (revealed.out, revealed.code)

    give_up = ("dead", "discard", "--case", first)
    assert 2 == told(*give_up, "--reason", "rejected_request", "--expect-count", "1").code, "that is a cause"
    assert 2 == told("dead", "discard", "--reason", "no use", "--expect-count", "2").code, "it must be said which"
    assert 6 == told(*give_up, "--reason", "no use", "--expect-count", "2").code
    assert 2 == len(rows_of(told("dead", "list", "-o", "json")))
    assert 0 == told(*give_up, "--reason", "no use", "--expect-count", "1").code
    (left,) = rows_of(told("dead", "list", "--since", "2026-11-01T00:00:00Z", "-o", "json"))
    assert (NOON.strftime("%Y-%m-%dT%H:%M:%SZ"), 1) == (left["died_at"], left["attempts"])
