"""A person sees how far a run is: a picture on a terminal, a line now and then anywhere else."""

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from typing_extensions import override

from ops.live import LiveLine, LiveView, plain_line, screen
from ops.progress import (
    STATE_WORDS,
    PlatformProgress,
    Progress,
    Sample,
    duration_text,
    latency_ms,
    latency_text,
    percent_text,
    slowest_platforms,
)
from schemas.result import LATENCY_BOUNDS_MS
from schemas.state import State

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:[349][0-7]|38;5;\d+)[;m]")


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    @override
    def isatty(self) -> bool:
        """Say so."""
        return True


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time that the test has set."""
        return self.now_s


def a_platform(key: str = "icbc", *, bucket: int = 3, calls: int = 10, dead: int = 0) -> PlatformProgress:
    """Return a platform all of whose calls fell into one bucket."""
    latencies = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    latencies[bucket] = calls
    return PlatformProgress(
        key=key,
        name_zh="工商银行",
        name_en=key.upper(),
        category="bank",
        by_state={State.NO_BINDING: 90, State.WAITING: 8, State.QUEUED: 2, State.DEAD: dead},
        calls=calls,
        attempts=calls,
        faults={"timeout": 3},
        statuses={"200": calls},
        latencies=tuple(latencies),
    )


def a_progress(*, settled: int = 500, total: int = 1000, at_s: float = 20.0, intake_done: bool = True) -> Progress:
    """Return a run at one moment."""
    by_state = {State.NO_BINDING: settled, State.WAITING: total - settled} if total else {}
    return Progress(
        at_s=at_s,
        cases_accepted=10,
        cases_rejected=1,
        cases_duplicate=0,
        intake_done=intake_done,
        jobs_total=total,
        by_state=by_state,
        verdicts={},
        attempts=12,
        calls=30,
        platforms=tuple(a_platform(f"bank-{n}", bucket=n) for n in range(1, 11)) if total else (),
        workers_alive=2,
        events=("one", "two", "[bold]three", "四" * 200),
    )


def a_sample(at_s: float, settled: int) -> Sample:
    """Return one earlier moment."""
    return Sample(at_s=at_s, settled=settled, calls=0, waiting=0, dead=0)


def shown(progress: Progress, *, columns: int) -> str:
    """Return the picture as text."""
    console = Console(file=io.StringIO(), width=columns, force_terminal=False, color_system=None)
    console.print(screen(progress, [a_sample(10, 300)], title="renewal run", columns=columns))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rate_is_measured_over_the_window_and_not_since_the_start() -> None:
    """A run that slowed down shows how fast it is now."""
    samples = [a_sample(0, 0), a_sample(9, 400), a_sample(10, 420), a_sample(19, 495)]

    assert a_progress(settled=500, at_s=20).rate(samples) == pytest.approx(8.0)


@pytest.mark.parametrize("samples", [[], [a_sample(20, 500)], [a_sample(10, 900)]])
def test_rate_without_progress_is_zero(samples: list[Sample]) -> None:
    """Nothing to compare with, no time between, or a replay that took jobs back: never negative, never a crash."""
    assert a_progress(settled=500, at_s=20).rate(samples) == 0.0


def test_time_left_is_what_is_open_at_the_present_rate() -> None:
    """500 jobs at 20 a second are 25 seconds."""
    assert a_progress().eta_s([a_sample(10, 300)]) == pytest.approx(25.0)


def test_time_left_is_unknown_while_the_file_is_read_or_nothing_moves() -> None:
    """Nobody can know, so nobody says."""
    assert a_progress(intake_done=False).eta_s([a_sample(10, 300)]) is None
    assert a_progress().eta_s([]) is None
    assert a_progress(settled=1000).eta_s([]) == 0.0


def test_latency_is_linear_inside_a_bucket_and_at_least_the_bound_in_the_open_one() -> None:
    """Ten calls between 20 and 50 ms: the median is half way; above 30 s only the bound is known."""
    assert a_platform(bucket=3).latency_ms(0.5) == pytest.approx(35.0)
    assert a_platform(bucket=len(LATENCY_BOUNDS_MS)).latency_ms(0.95) == 30_000.0
    assert latency_ms([0] * 13, 0.5) is None


@pytest.mark.parametrize(
    ("value_ms", "text"), [(None, "–"), (4.4, "4 ms"), (999.4, "999 ms"), (999.6, "1.0 s"), (30_000.0, "≥ 30 s")]
)
def test_latency_is_said_in_the_unit_that_fits(value_ms: float | None, text: str) -> None:
    """Milliseconds below a second; the open bucket is a lower bound and says so."""
    assert text == latency_text(value_ms)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (4.21, "4.2 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (7810, "2 h 10 min")]
)
def test_duration_is_said_in_two_units_at_most(seconds: float, text: str) -> None:
    """Rounding never shows 60 of a unit."""
    assert text == duration_text(seconds)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 9, "0 %"),
        (1, 10_000, "< 0.1 %"),
        (985, 1000, "98.5 %"),
        (99_999, 100_000, "99.9 %"),
        (3, 3, "100 %"),
    ],
)
def test_share_is_100_only_when_nothing_is_missing(part: int, whole: int, text: str) -> None:
    """One open job of a hundred thousand is not 100 %, and one dead job is not 0 %."""
    assert text == percent_text(part, whole)


def test_slowest_platforms_leave_out_those_never_called() -> None:
    """A platform without an answer has no latency to rank by."""
    platforms = [a_platform("slow", bucket=9), a_platform("idle", calls=0), a_platform("fast", bucket=1)]

    assert ["slow", "fast"] == [platform.key for platform in slowest_platforms(platforms, limit=8)]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_picture_fits_the_terminal(columns: int) -> None:
    """No line is wider than the terminal, Chinese names and long events included, and no count loses its word."""
    text = shown(a_progress(), columns=columns)

    assert max(map(cell_len, text.splitlines())) <= columns
    assert "50.0 %" in text
    assert "500/1,000 jobs settled · 20 jobs/s · 25 s left" in text
    assert "500 no binding · 500 waiting" in text
    assert "工商银行" in text
    assert "[bold]three" in text
    assert "  one" not in text


@pytest.mark.parametrize("columns", range(31, 90, 7))
def test_a_count_stands_on_the_line_of_its_word(columns: int) -> None:
    """Wherever the line of states breaks, it breaks between two states."""
    text = shown(replace(a_progress(), by_state=dict.fromkeys(State, 12_345)), columns=columns)

    for words in STATE_WORDS.values():
        assert f"12,345 {words}" in text


def test_picture_shows_the_eight_slowest_platforms() -> None:
    """The slowest come first; the two fastest of ten are left out."""
    names = re.findall(r"BANK-\d+", shown(a_progress(), columns=100))

    assert [f"BANK-{n}" for n in range(10, 2, -1)] == names


def test_picture_before_the_first_job_says_what_is_going_on() -> None:
    """Reading is not the same as having found nothing."""
    reading = shown(a_progress(total=0, settled=0, intake_done=False), columns=60)
    empty = shown(a_progress(total=0, settled=0), columns=60)

    assert "reading the file · 10 cases accepted · no jobs yet" in reading
    assert "no jobs · 10 cases accepted · 1 rejected" in empty


def test_terminal_gets_a_picture_and_its_cursor_back() -> None:
    """The last picture stays, and the cursor is shown again, after an error too."""
    file = Terminal()
    console = Console(file=file, force_terminal=True, width=80, _environ={"TERM": "xterm"})

    def interrupted() -> None:
        with LiveView(console, title="renewal run") as view:
            view.update(a_progress(), [])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert "500/1,000 jobs settled" in file.getvalue()
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")


def test_no_color_is_honoured() -> None:
    """With NO_COLOR the terminal gets no colour; without it, it does, or this test proves nothing."""
    texts = []
    for environ in ({"TERM": "xterm-256color"}, {"TERM": "xterm-256color", "NO_COLOR": "1"}):
        file = Terminal()
        with LiveView(Console(file=file, force_terminal=True, _environ=environ), title="renewal run") as view:
            view.update(a_progress(), [])
        texts.append(file.getvalue())

    assert COLOUR.search(texts[0])
    assert not COLOUR.search(texts[1])


@pytest.mark.parametrize("forced", [None, True])
def test_pipe_gets_one_plain_line_each_five_seconds_and_the_last_state(forced: bool | None) -> None:
    """No control code, even where FORCE_COLOR makes rich believe in a terminal; the end is always told."""
    file, clock = io.StringIO(), Clock()
    with LiveView(Console(file=file, force_terminal=forced, width=40), title="renewal run", clock=clock) as view:
        for settled, passed_s in ((100, 0.0), (200, 4.9), (300, 0.1), (1000, 1.0)):
            clock.now_s += passed_s
            view.update(a_progress(settled=settled), [])

    assert "\x1b" not in file.getvalue()
    assert ["10.0 %", "30.0 %", "100 %"] == re.findall(r"^renewal run: (\S+ %) · ", file.getvalue(), re.MULTILINE)
    assert 3 == len(file.getvalue().splitlines())


def test_plain_line_says_all_that_matters() -> None:
    """Percent, settled of total, rate, time left, waiting and dead, in one line."""
    line = plain_line(a_progress(), [a_sample(10, 300)])

    assert "50.0 % · 500/1,000 jobs settled · 20 jobs/s · 25 s left · 500 waiting · 0 dead" == line


def test_it_is_said_why_a_file_is_not_read_on() -> None:
    """On a pipe and on a terminal: else a full queue looks like a standstill."""
    progress = replace(a_progress(intake_done=False), intake_waits="the bulk queue holds 2,104 batches")
    assert plain_line(progress, []).endswith(" · 0 dead · the bulk queue holds 2,104 batches")
    console = Console(file=io.StringIO(), width=80)
    console.print(screen(progress, [], title="renewal run", columns=80))
    assert "the bulk queue holds 2,104 batches" in console.file.getvalue()  # type: ignore[attr-defined] # StringIO


def test_a_line_of_progress_comes_each_five_seconds_or_with_news() -> None:
    """What is over sooner than that leaves no line, and none needs a terminal."""
    file, clock = io.StringIO(), Clock()
    with LiveLine(Console(file=file, width=40), title="renewal submit", clock=clock) as line:
        for text, passed_s, news in (("a", 1, False), ("b", 1, True), ("c", 4.9, False), ("d", 0.1, False)):
            clock.now_s += passed_s
            line.update(text, news=news)

    assert ["renewal submit: b", "renewal submit: d"] == file.getvalue().splitlines()


def test_a_line_of_progress_leaves_nothing_on_a_terminal() -> None:
    """What follows it says how it ended."""
    file = Terminal()
    with LiveLine(Console(file=file, force_terminal=True, width=40), title="renewal submit") as line:
        line.update("1,000 cases accepted")

    assert "1,000 cases accepted" in file.getvalue()
    assert file.getvalue().endswith("\x1b[2K")


def test_nothing_is_printed_for_a_run_that_never_began() -> None:
    """A run that fails before its first picture leaves only its error."""
    file = io.StringIO()
    with LiveView(Console(file=file), title="renewal run"):
        pass

    assert "" == file.getvalue()
