"""The release list and the answer about one number, on what a store really holds."""

import csv
import json
import os
import stat
import tracemalloc
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

from backends.actions import What
from backends.bootstrap import Backends
from ops.release import Level, Missing, Release
from ops.release_list import Count, ReleaseList
from platforms.catalogue import Catalogue
from schemas.batch import Basis
from schemas.case import Case
from schemas.errors import InputError, NotFound, Refused
from schemas.ids import new_id
from schemas.outcome import Refusal
from schemas.state import State, Verdict
from tests.fixtures_valkey import NOON, stored
from tests.letters import accept, mobile, record
from tests.snapshots import PLATFORMS, catalogue_of

LATER = "2027-11-01T00:00:00+08:00"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms."""
    return catalogue_of(tmp_path / "catalogue")


@pytest.fixture
def desk(backends: Backends, catalogue: Catalogue) -> ReleaseList:
    """The list at the strict level."""
    return ReleaseList(backends, catalogue, level=Level.CLEAN)


def settle(backends: Backends, cases: Sequence[str], state: State = State.NO_BINDING) -> None:
    """Let every platform have answered."""
    for platform in PLATFORMS:
        record(backends, platform, cases, state=state)


def cycle_of(backends: Backends, number: str, *, cutoff_at: str, cycle: str, reference: str = "") -> str:
    """Let a number be recycled; returns the case."""
    case = Case(
        id=new_id(), number=number, token=backends.vault.token(number), line=2, cutoff_at=cutoff_at,
        basis=Basis.PLANNED_RELEASE, cycle=cycle, reference=reference, platforms=PLATFORMS,
    )  # fmt: skip
    run = new_id()
    backends.runs.begin(run, file="numbers.csv", now=NOON)
    backends.store.accept(run, [case], now=NOON)
    return case.id


def missing(release: Release) -> set[Missing]:
    """What stands against a number."""
    return {obstacle.missing for obstacle in release.obstacles}


def test_a_run_is_listed_whole_with_what_stands_against_each_number(backends: Backends, desk: ReleaseList) -> None:
    """One clean, one refused, one that nobody has tried: in the order of the file, and looking changes nothing."""
    run = new_id()
    clean, refused, untried = accept(backends, PLATFORMS, count=3, run=run)
    settle(backends, [clean])
    record(backends, "alpha", [refused], state=State.REFUSED, reason=Refusal.FUNDS_OR_DEBT)
    record(backends, "beta", [refused], state=State.UNBOUND)
    before = stored(backends)
    found = list(desk.releases([run]))
    assert [(clean, True), (refused, False), (untried, False)] == [(each.case.id, each.may_be_sold) for each in found]
    assert [Verdict.CLEAN, Verdict.CLEAN_WITH_EXCEPTIONS, Verdict.INCOMPLETE] == [each.verdict for each in found]
    assert [set(), {Missing.REFUSED}, {Missing.OPEN}] == [missing(each) for each in found]
    assert before == stored(backends)


def test_a_newer_cycle_takes_the_older_one_s_word_away(backends: Backends, desk: ReleaseList) -> None:
    """Clean last year, recycled again, and open: the number is not clean, however one asks for it."""
    number = mobile(7)
    old = cycle_of(backends, number, cutoff_at="2026-11-01T00:00:00+08:00", cycle="2026", reference="NR-7")
    settle(backends, [old])
    assert desk.of_number(number).may_be_sold
    new = cycle_of(backends, number, cutoff_at=LATER, cycle="2027", reference="NR-7")
    for found in (desk.of_number(number), desk.of_case(old), desk.of_case(new), desk.of_reference("NR-7")):
        assert (new, False, {Missing.OPEN}) == (found.case.id, found.may_be_sold, missing(found))
    (listed,) = desk.releases([backends.store.case(old).run])
    assert (False, {Missing.SUPERSEDED}) == (listed.may_be_sold, missing(listed))
    settle(backends, [new])
    assert desk.of_case(old).may_be_sold, "what is unbound before the later cut-off is unbound before the earlier one"


def test_of_two_cases_with_one_cut_off_the_worse_counts(backends: Backends, desk: ReleaseList) -> None:
    """Nobody can tell which of them is newer."""
    number = mobile(8)
    cases = [cycle_of(backends, number, cutoff_at=LATER, cycle=cycle) for cycle in ("a", "b")]
    settle(backends, cases[:1])
    assert not desk.of_number(number).may_be_sold
    settle(backends, cases[1:])
    assert desk.of_number(number).may_be_sold


def test_a_number_that_no_key_opens_may_not_be_sold(backends: Backends, desk: ReleaseList) -> None:
    """Whether it has been recycled again cannot be told."""
    run = new_id()
    (case,) = accept(backends, PLATFORMS, run=run)
    settle(backends, [case])
    backends.redis.hset(backends.keys.case(case), "sealed", b"????" + b"x" * 40)
    (listed,) = desk.releases([run])
    assert (False, {Missing.UNREADABLE}) == (listed.may_be_sold, missing(listed))
    assert {Missing.UNREADABLE} == missing(desk.of_case(case))


def test_a_list_of_platforms_that_is_lost_sells_nothing(backends: Backends, desk: ReleaseList) -> None:
    """Clean by arithmetic: no job, so none that is open."""
    run = new_id()
    (case,) = accept(backends, PLATFORMS, run=run)
    settle(backends, [case])
    for key in list(backends.redis.scan_iter(match=f"{backends.settings.namespace}:wanted:*")):
        backends.redis.delete(key)
    backends.store._wanted.clear()
    (listed,) = desk.releases([run])
    assert (False, Verdict.INCOMPLETE) == (listed.may_be_sold, listed.verdict)


def test_a_reference_of_several_numbers_is_no_question(backends: Backends, desk: ReleaseList) -> None:
    """One answer for two numbers would be wrong for one of them."""
    for index in (1, 2):
        cycle_of(backends, mobile(index), cutoff_at=LATER, cycle="2027", reference="NR-1")
    with pytest.raises(InputError, match="2 numbers"):
        desk.of_reference("NR-1")


def test_what_is_not_known_is_not_found(desk: ReleaseList) -> None:
    """A number that was never renewed is not clean."""
    for ask in (
        lambda: desk.of_number(mobile(1)), lambda: desk.of_case("nope"), lambda: desk.of_reference("nope"),
        desk.newest_run, lambda: desk.runs_of_day(date(2026, 11, 1)), lambda: list(desk.releases(["nope"])),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            ask()


def test_a_day_is_that_of_shanghai_and_each_case_is_told_once(backends: Backends, desk: ReleaseList) -> None:
    """Two runs of one day that name the same numbers: each number stands where it was accepted."""
    first, second, third = new_id(), new_id(), new_id()
    cases = accept(backends, PLATFORMS, count=3, run=first)
    for run, at in ((second, NOON + timedelta(hours=3)), (third, NOON + timedelta(hours=4))):
        backends.runs.begin(run, file="again.csv", now=at)
    backends.redis.zadd(backends.keys.run_cases(second), dict.fromkeys(cases, 2.0))
    # 12:00 UTC is 20:00 there; four hours later it is the next day.
    assert [first, second] == desk.runs_of_day(date(2026, 11, 1))
    assert [third] == desk.runs_of_day(date(2026, 11, 2))
    assert cases == [each.case.id for each in desk.releases([first, second])]
    assert sorted(cases) == sorted(each.case.id for each in desk.releases([second]))


@pytest.mark.parametrize("lines", ["csv", "jsonl", "json"])
def test_a_file_holds_every_number_masked(backends: Backends, desk: ReleaseList, tmp_path: Path, lines: str) -> None:
    """The sales system reads the same in each form."""
    run = new_id()
    cases = accept(backends, PLATFORMS, count=3, run=run)
    settle(backends, cases[:2])
    path = tmp_path / f"list.{lines}"
    path.write_text("what was there before", encoding="utf-8")
    assert Count(yes=2, no=1) == desk.write(path, [run], lines=lines)
    text = path.read_text(encoding="utf-8")
    if lines == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert ["yes", "yes", "no"] == [row["may_be_sold"] for row in rows]
        assert "alpha open; beta open" == rows[2]["against"]
    else:
        rows = json.loads(text) if lines == "json" else [json.loads(line) for line in text.splitlines()]
        assert [True, True, False] == [row["may_be_sold"] for row in rows]
    assert cases == [row["case"] for row in rows]
    assert [] == [index for index in range(3) if mobile(index).removeprefix("+86") in text]
    assert [] == backends.actions.list()
    assert 0o644 & ~_umask() == stat.S_IMODE(path.stat().st_mode)


def test_full_numbers_are_for_the_owner_of_the_file_alone_and_on_record(
    backends: Backends, desk: ReleaseList, tmp_path: Path
) -> None:
    """Who took them, why and how many runs is known before the first one is opened."""
    run = new_id()
    accept(backends, PLATFORMS, count=3, run=run)
    path = tmp_path / "list.csv"
    desk.write(path, [run], lines="csv", with_numbers=True, reason="sales of week 45")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [mobile(index) for index in range(3)] == [row["e164"] for row in rows]
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    (noted,) = backends.actions.list()
    assert (What.NUMBERS_EXPORT, run, "sales of week 45") == (
        noted.action.what, noted.action.target, noted.action.reason,
    )  # fmt: skip
    assert {"file": "list.csv", "runs": 1} == noted.action.after


def test_numbers_go_to_no_terminal_device_or_link(backends: Backends, desk: ReleaseList, tmp_path: Path) -> None:
    """`/dev/stdout` is a link, and a pipe somebody else's file: refused before anything is opened."""
    run = new_id()
    accept(backends, PLATFORMS, run=run)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/stdout"), Path("/dev/null"), tmp_path / "link", tmp_path / "pipe", tmp_path):
        with pytest.raises(Refused, match="ordinary file"):
            desk.write(path, [run], lines="csv", with_numbers=True, reason="why")
    assert [] == backends.actions.list()


def test_a_list_that_breaks_off_leaves_the_old_file_and_nothing_else(
    backends: Backends, desk: ReleaseList, tmp_path: Path
) -> None:
    """Half a list looks like a whole one."""
    run, folder = new_id(), tmp_path / "out"
    folder.mkdir()
    accept(backends, PLATFORMS, run=run)
    path = folder / "list.csv"
    path.write_text("yesterday's", encoding="utf-8")
    with pytest.raises(NotFound):
        desk.write(path, [run, "nope"], lines="csv")
    assert ("yesterday's", ["list.csv"]) == (
        path.read_text(encoding="utf-8"),
        [each.name for each in folder.iterdir()],
    )


def test_memory_does_not_grow_with_the_run(backends: Backends, desk: ReleaseList, tmp_path: Path) -> None:
    """A page at a time: six pages take no more than two, but for a little."""

    def peak(run: str) -> int:
        tracemalloc.start()
        try:
            desk.write(tmp_path / "list.jsonl", [run], lines="jsonl")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short, long = new_id(), new_id()
    accept(backends, PLATFORMS, count=1000, run=short)
    accept(backends, PLATFORMS, count=3000, first=1000, run=long)
    peak(short)
    assert peak(long) < 1.3 * peak(short)


def _umask() -> int:
    """What this process takes away from the mode of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
