"""What a person sees while a run is going on: a live view on a terminal, plain lines anywhere else."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from ops.progress import (
    STATE_WORDS,
    PlatformProgress,
    Progress,
    Sample,
    duration_text,
    latency_text,
    percent_text,
    slowest_platforms,
)
from schemas.state import State

PLAIN_INTERVAL_S: Final = 5.0
PLATFORMS_SHOWN_MAX: Final = 8
EVENTS_SHOWN_MAX: Final = 3
_ROOMY_COLUMNS: Final = 80
_NAME_COLUMNS_MAX: Final = 28
_SEPARATOR: Final = Text(" · ")
_STYLES: Final = {State.DEAD: "bold red", State.REFUSED: "yellow", State.PENDING_REVIEW: "yellow"}


class _Screen:
    """One thing that changes: a picture on a terminal, plain lines anywhere else."""

    def __init__(self, console: Console, *, title: str, clock: Callable[[], float], transient: bool) -> None:
        self._console, self._title, self._clock, self._transient = console, title, clock, transient
        self._live: Live | None = None
        self._due_s = float("-inf")

    def __enter__(self) -> Self:
        """Take the terminal, if there is one."""
        # FORCE_COLOR makes rich take any pipe for a terminal; cursor codes belong only on a real one.
        if self._console.is_interactive and self._console.file.isatty():
            self._live = Live(
                console=self._console, auto_refresh=False, redirect_stdout=False, transient=self._transient
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        if self._live:
            self._live.stop()

    def _print(self, text: str) -> None:
        self._due_s = self._clock() + PLAIN_INTERVAL_S
        self._console.print(f"{self._title}: {text}", markup=False, highlight=False, soft_wrap=True)


class LiveLine(_Screen):
    """Shows one line of text while it changes, and leaves nothing behind on a terminal."""

    def __init__(self, console: Console, *, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing before the first update."""
        super().__init__(console, title=title, clock=clock, transient=True)
        # What is over within some seconds needs no line before its last one.
        self._due_s = clock() + PLAIN_INTERVAL_S

    def update(self, text: str, *, news: bool = False) -> None:
        """Show `text`; off a terminal at most one line every `PLAIN_INTERVAL_S`, but for news."""
        if self._live:
            self._live.update(Text(f"{self._title}: {text}"), refresh=True)
        elif news or self._clock() >= self._due_s:
            self._print(text)


class LiveView(_Screen):
    """Shows progress on `console` and leaves the last picture standing; writes to nothing else."""

    def __init__(self, console: Console, *, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing before the first update."""
        super().__init__(console, title=title, clock=clock, transient=False)
        self._last: tuple[Progress, Sequence[Sample]] | None = None
        self._shown = True

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back; the last state of the run is on it."""
        super().__exit__(kind, error, trace)
        if not self._live and self._last and not self._shown:
            self._print_line(*self._last)

    def update(self, progress: Progress, samples: Sequence[Sample]) -> None:
        """Show `progress`; off a terminal at most one line every `PLAIN_INTERVAL_S`."""
        self._last, self._shown = (progress, samples), False
        if self._live:
            self._live.update(screen(progress, samples, title=self._title, columns=self._console.width), refresh=True)
        elif self._clock() >= self._due_s:
            self._print_line(progress, samples)

    def say(self, text: str) -> None:
        """Show a sentence that stays, above what changes."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _print_line(self, progress: Progress, samples: Sequence[Sample]) -> None:
        self._shown = True
        self._print(plain_line(progress, samples))


def plain_line(progress: Progress, samples: Sequence[Sample]) -> str:
    """Return the run in one line without any control code."""
    if progress.jobs_total == 0:
        return _nothing_yet(progress)
    share = percent_text(progress.settled, progress.jobs_total)
    waits = f" · {progress.intake_waits}" if progress.intake_waits else ""
    return f"{share} · {_figures(progress, samples)} · {progress.waiting:,} waiting · {progress.dead:,} dead{waits}"


def screen(progress: Progress, samples: Sequence[Sample], *, title: str, columns: int) -> RenderableType:
    """Return the whole live view for a terminal of `columns`."""
    parts: list[RenderableType] = [_heading(progress, title)]
    if progress.jobs_total == 0:
        parts.append(Text(_nothing_yet(progress)))
    else:
        parts += [_bar(progress), Text(_figures(progress, samples)), *_states(progress, columns)]
        if progress.intake_waits:
            parts.append(_one_line(progress.intake_waits, "yellow"))
    slowest = slowest_platforms(progress.platforms, limit=PLATFORMS_SHOWN_MAX)
    if slowest:
        parts += [Text(), _platforms(slowest, roomy=columns >= _ROOMY_COLUMNS)]
    if progress.events:
        parts.append(Text())
        parts += [_one_line(f"  {event}", "dim") for event in progress.events[-EVENTS_SHOWN_MAX:]]
    return Group(*parts)


def _nothing_yet(progress: Progress) -> str:
    cases = f"{progress.cases_accepted:,} cases accepted"
    if progress.intake_done:
        return f"no jobs · {cases} · {progress.cases_rejected:,} rejected"
    return f"reading the file · {cases} · no jobs yet"


def _figures(progress: Progress, samples: Sequence[Sample]) -> str:
    rate, eta_s = progress.rate(samples), progress.eta_s(samples)
    if eta_s is not None:
        left = f"{duration_text(eta_s)} left" if eta_s else "done"
    else:
        left = "time left unknown" if progress.intake_done else "still reading the file"
    return f"{progress.settled:,}/{progress.jobs_total:,} jobs settled · {rate:,.0f} jobs/s · {left}"


def _heading(progress: Progress, title: str) -> Text:
    workers = "1 worker" if progress.workers_alive == 1 else f"{progress.workers_alive} workers"
    heading = Text.assemble((title, "bold"), (f" · {duration_text(progress.at_s)} · ", "dim"))
    return heading.append(workers, style="dim" if progress.workers_alive else "bold red")


def _bar(progress: Progress) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(
        total=progress.jobs_total, completed=progress.settled, complete_style="cyan", finished_style="green"
    )
    grid.add_row(bar, percent_text(progress.settled, progress.jobs_total))
    return grid


def _states(progress: Progress, columns: int) -> list[Text]:
    counts = [(state, progress.by_state.get(state, 0)) for state in STATE_WORDS]
    parts = [Text(f"{count:,} {STATE_WORDS[state]}", style=_STYLES.get(state, "")) for state, count in counts if count]
    return [_SEPARATOR.join(line) for line in _filled(parts, columns)]


def _filled(parts: Sequence[Text], columns: int) -> list[list[Text]]:
    # rich breaks a line even at a no-break space, and a count must not lose the word that says what it counts.
    lines: list[list[Text]] = []
    room = 0
    for part in parts:
        needed = part.cell_len + _SEPARATOR.cell_len
        if needed > room:
            lines.append([])
            room = columns + _SEPARATOR.cell_len
        lines[-1].append(part)
        room -= needed
    return lines


def _platforms(platforms: Sequence[PlatformProgress], *, roomy: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("slowest platforms", no_wrap=True, overflow="ellipsis", max_width=_NAME_COLUMNS_MAX)
    for heading in ("p50", "p95", "calls", "open", "waiting", "faults") if roomy else ("p95", "open", "wait", "faults"):
        table.add_column(heading, justify="right", no_wrap=True)
    for platform in platforms:
        table.add_row(Text(f"{platform.name_en} {platform.name_zh}"), *_cells(platform, roomy=roomy))
    return table


def _cells(platform: PlatformProgress, *, roomy: bool) -> list[str]:
    fast = latency_text(platform.latency_ms(0.5))
    slow = latency_text(platform.latency_ms(0.95))
    held = [f"{platform.open:,}", f"{platform.waiting:,}", f"{platform.faults_total:,}"]
    return [fast, slow, f"{platform.calls:,}", *held] if roomy else [slow, *held]


def _one_line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
