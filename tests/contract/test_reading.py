"""A file is read once, however often its reader dies: no gap, nothing twice, and what was refused stays known."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

import producers.submit
from backends.bootstrap import Backends
from backends.runs import Cursor
from ops.reading import Reading
from ops.run_desk import RunState, state_of
from ops.run_folder import RunFolder, RunOptions
from platforms.catalogue import Catalogue
from producers.rows import Row
from producers.submit import Intake
from schemas.batch import Lane
from schemas.case import Case
from schemas.errors import Refused
from schemas.state import State
from tests.command import CUTOFF

PLATFORMS = ("alipay", "wechat")
CHUNK_ROWS = 4
STEPS = ("submit.accepted", "submit.published", "submit.queued", "submit.cursor")
Reader = Callable[[Path], Reading]


class Died(BaseException):
    """What stands for SIGKILL: nothing of ours catches it."""


def write_file(path: Path, *, rows: int = 23) -> Path:
    """Write rows of which every fifth is bad and every seventh names the number before it."""
    lines = ["number,cutoff_at,reference"]
    for index in range(rows):
        number = f"138{10_000_000 + index - (index % 7 == 6):08d}"
        lines.append(f"{'x' if index % 5 == 4 else number},{CUTOFF},R-{index}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def reader(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Make the reader of a file as the command does, in chunks of four rows."""
    monkeypatch.setattr(producers.submit, "CHUNK_ROWS", CHUNK_ROWS)
    catalogue = Catalogue.load().select(list(PLATFORMS))
    folders: list[RunFolder] = []

    def make(file: Path) -> Reading:
        for folder in folders:
            folder.__exit__(None, None, None)
        folder = RunFolder(backends.settings.data_dir, RunOptions(file=str(file)), scope=("submit",)).__enter__()
        folders.append(folder)
        return Reading(
            backends=backends, catalogue=catalogue, folder=folder, file=str(file), encoding="utf-8", operator="op"
        )

    yield make
    folders[-1].__exit__(None, None, None)


def go(reading: Reading) -> Intake:
    """Read on to the end."""
    return reading.submit(since=reading.begin(), on_progress=lambda _: None, stop=Event())


def counts(intake: Intake) -> tuple[int, int, int, int]:
    """Return what must be the same whoever read the file."""
    return intake.accepted, intake.duplicate, intake.rejected, intake.line


def die_at(monkeypatch: pytest.MonkeyPatch, step: str, times: int) -> None:
    """Let the reader die when it reaches a step for the n-th time."""
    left = times

    def reach(name: str) -> None:
        nonlocal left
        left -= name == step
        if name == step and not left:
            raise Died

    monkeypatch.setattr(producers.submit, "reach", reach)


def never_die(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it live."""
    monkeypatch.setattr(producers.submit, "reach", lambda _: None)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_reader_that_dies_at_any_step_is_followed_without_gap_or_double(
    backends: Backends, reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, step: str, times: int
) -> None:
    """Counts, cases and refused rows are those of a reader that never died."""
    file = write_file(tmp_path / "a.csv")
    die_at(monkeypatch, step, times)
    first = reader(file)
    with pytest.raises(Died):
        go(first)
    never_die(monkeypatch)
    second = reader(file)
    assert first.folder.run == second.folder.run
    since = second.begin()
    # At most the chunk in which it died is read again.
    chunks_done = times - (step != "submit.cursor")
    assert (chunks_done == 0) == (since.line == 0)
    intake = second.submit(since=since, on_progress=lambda _: None, stop=Event())

    other = write_file(tmp_path / "whole.csv")
    cases = list(backends.store.cases(backends.runs.cases(first.folder.run)))
    assert len(cases) == intake.accepted == backends.runs.counters(first.folder.run).get("accepted")
    assert all(case.queued for case in cases)
    refused = first.rejected.read_text(encoding="utf-8").splitlines()
    bad = [line for line, row in enumerate(other.read_text(encoding="utf-8").splitlines(), start=1) if row[0] == "x"]
    assert [str(line) for line in bad] == [row.split(",")[0] for row in refused[1:]]
    assert (len(cases), 23 - len(cases) - len(bad), len(bad), 24) == counts(intake)


def test_what_was_read_is_not_parsed_again(reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Taking up a file of millions costs a moment, not the whole again."""
    file = write_file(tmp_path / "a.csv")
    die_at(monkeypatch, "submit.cursor", 3)
    with pytest.raises(Died):
        go(reader(file))
    never_die(monkeypatch)
    reading = reader(file)
    since = reading.begin()
    made: list[int] = []
    case_of = producers.submit.Submitter._case

    def noted(submitter: producers.submit.Submitter, row: Row) -> Case:
        made.append(row.line)
        return case_of(submitter, row)

    monkeypatch.setattr(producers.submit.Submitter, "_case", noted)
    reading.submit(since=since, on_progress=lambda _: None, stop=Event())
    assert made
    assert min(made) > since.line > 12


def test_without_the_file_of_refused_rows_the_input_is_read_from_its_start(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On another machine the store knows the cursor, but who was refused is known only by reading."""
    file = write_file(tmp_path / "a.csv")
    die_at(monkeypatch, "submit.cursor", 3)
    first = reader(file)
    with pytest.raises(Died):
        go(first)
    never_die(monkeypatch)
    first.rejected.unlink()
    assert Cursor() == first.begin()
    intake = go(first)
    assert 4 == intake.rejected
    assert 5 == len(first.rejected.read_text(encoding="utf-8").splitlines())


def test_a_finished_file_again_is_another_run_of_duplicates(backends: Backends, reader: Reader, tmp_path: Path) -> None:
    """The same file twice adds nothing (requirement 15)."""
    file = write_file(tmp_path / "a.csv")
    first = reader(file)
    read_first = go(first)
    first.folder.finish()
    second = reader(file)
    assert first.folder.run != second.folder.run
    intake = go(second)
    assert (0, 0) == (intake.accepted, intake.batches)
    assert read_first.accepted + read_first.duplicate == intake.duplicate
    assert RunState.DONE is state_of(backends.runs.facts([second.folder.run])[0], now=backends.clock.now())


def test_another_operator_or_store_is_another_run(backends: Backends, tmp_path: Path) -> None:
    """Its case ids are others: a cursor of the first must not be taken for its own."""
    options = RunOptions(file=str(write_file(tmp_path / "a.csv")))
    names = []
    for scope in (("submit", "one", "op"), ("submit", "one", "other"), ("submit", "two", "op"), ("run", "one", "op")):
        with RunFolder(tmp_path, options, scope=scope) as folder:
            names.append(folder.run)
    assert 4 == len(set(names))


def test_a_file_that_cannot_be_read_on_gives_what_came_before(
    backends: Backends, reader: Reader, tmp_path: Path
) -> None:
    """Also the rows of the chunk that was not full yet."""
    file = tmp_path / "a.csv"
    file.write_bytes(write_file(tmp_path / "good.csv", rows=6).read_bytes() + b"\xff\xfe\n")
    reading = reader(file)
    with pytest.raises(Exception, match="line 8: not utf-8 text"):
        go(reading)
    assert 5 == backends.runs.counters(reading.folder.run).get("accepted")


def test_reading_stops_when_the_run_is_cancelled_and_what_it_sent_last_is_cancelled_too(
    backends: Backends, reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who cancels cannot see what is recorded a moment later: the reader looks after it."""
    reading = reader(write_file(tmp_path / "a.csv"))
    run = reading.folder.run
    times = 0

    def cancel_in_the_middle(name: str) -> None:
        nonlocal times
        times += name == "submit.accepted"
        if name == "submit.accepted" and times == 2:
            backends.runs.cancel(run, reason="wrong file")

    monkeypatch.setattr(producers.submit, "reach", cancel_in_the_middle)
    with pytest.raises(Refused, match="wrong file"):
        go(reading)
    views = list(backends.store.cases(backends.runs.cases(run)))
    assert CHUNK_ROWS < len(views) <= 2 * CHUNK_ROWS
    assert all({State.CANCELLED} == {view.record(key).state for key in PLATFORMS} for view in views)
    facts = backends.runs.facts([run])[0]
    assert RunState.CANCELLED is state_of(facts, now=backends.clock.now())
    again = reader(tmp_path / "a.csv")
    assert run != again.folder.run


def test_who_waits_for_the_queue_says_so_and_goes_on(
    backends: Backends, reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At the high-water mark nothing is sent, the reason can be seen, and draining is enough to go on."""
    monkeypatch.setattr(producers.submit, "_DRAIN_POLL_S", 0.0)
    reading = reader(write_file(tmp_path / "a.csv"))
    depths = iter([10_000, 9_000, *[0] * 50])
    lane = backends.broker.queues[Lane.BULK].name
    monkeypatch.setattr(backends.broker, "depths", lambda: {lane: next(depths)})
    said: list[str] = []
    seen: list[str] = []

    def note(intake: Intake) -> None:
        said.append(intake.waits)
        seen.append(backends.runs.facts([reading.folder.run])[0].waits)

    intake = reading.submit(since=reading.begin(), on_progress=note, stop=Event())
    assert [
        "the bulk queue holds 10,000 batches; reading goes on below 2,000",
        "the bulk queue holds 9,000 batches; reading goes on below 2,000",
    ] == [text for text in said if text]
    assert any("10,000" in text for text in seen)
    assert 24 == intake.line
    assert "" == backends.runs.facts([reading.folder.run])[0].waits


def test_a_random_series_of_deaths_ends_as_no_death_would(
    backends: Backends, reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However often it dies."""
    file, chance = write_file(tmp_path / "a.csv", rows=60), random.Random(5)
    deaths, run = 0, ""

    def reach(_: str) -> None:
        if chance.random() < 0.2:
            raise Died

    monkeypatch.setattr(producers.submit, "reach", reach)
    while True:
        reading = reader(file)
        assert run in {"", reading.folder.run}
        run = reading.folder.run
        try:
            intake = go(reading)
        except Died:
            deaths += 1
            continue
        break
    assert deaths > 3
    # Of the eight rows that name the number before them, one is bad and two follow a bad one.
    assert (43, 5, 12, 61) == counts(intake)
    assert 13 == len(reading.rejected.read_text(encoding="utf-8").splitlines())
