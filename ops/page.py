"""What report.html says, as values: the sentences, the bars, the curves. The template only lays them out."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor, log10
from typing import Final

from ops.progress import FAULT_WORDS, STATE_WORDS, PlatformProgress, Sample, duration_text, latency_ms
from schemas.state import DISPATCHER_STATES, STATES, State, Verdict
from schemas.summary import LedgerCheck, Summary

CHART_STEPS_MAX: Final = 60
FIGURE_ROWS_MAX: Final = 10
# Below this ratio to the longest bar, the others would be hairlines on a common scale.
_COMMON_SCALE_RATIO: Final = 8
_THOUSAND: Final = 1000
_MILLION: Final = 1_000_000
_LOUD: Final = frozenset({State.DEAD, State.PENDING_REVIEW})
_MEANINGS: Final[Mapping[State, str]] = {
    State.NO_BINDING: "the platform knew nothing under this number",
    State.UNBOUND: "the old owner's binding is gone",
    State.BOUND_AFTER_CUTOFF: "bound after the cut-off, so not touched: counts as clean",
    State.REFUSED: "the platform keeps the binding and says why",
    State.NOT_SUPPORTED: "the platform cannot do this",
    State.ACCEPTED: "the platform has it and answers later",
    State.PENDING_REVIEW: "an answer that a person has to read",
    State.DEAD: "given up after the last retry: a person decides",
    State.WAITING: "due again later",
    State.QUEUED: "not sent yet",
    State.EXPIRED: "no answer before the deadline",
    State.CANCELLED: "withdrawn",
    State.DELIVERED_UNCONFIRMED: "delivered to a platform that never confirms",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One state of the outcome chart."""

    label: str
    meaning: str
    count: int
    width_pct: float
    tone: str  # clean, open, exception or person: never the only carrier, the label says it too


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """The outcome chart: `main` on the scale of the whole, `rest` on a scale of its own so that it can be seen."""

    main: tuple[Bar, ...]
    rest: tuple[Bar, ...]
    rest_full: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis; `at_pct` counts from the left or from the bottom."""

    at_pct: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A curve in a box of 100 by 100, y downwards as SVG has it."""

    title: str
    summary: str
    points: str
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """The platforms of one category together."""

    name: str
    platforms: int
    by_state: Mapping[State, int]
    calls: int
    faults: int
    p95_ms: float | None

    @property
    def jobs(self) -> int:
        """All jobs at these platforms."""
        return sum(self.by_state.values())

    @property
    def person(self) -> int:
        """Jobs that need a person."""
        return sum(self.by_state.get(state, 0) for state in _LOUD)


def headline(summary: Summary, *, platforms: int) -> str:
    """Say the verdict of the run in one sentence."""
    cases = sum(summary.verdicts.values())
    clean = summary.verdicts.get(Verdict.CLEAN, 0)
    if cases == 0:
        return "No number was renewed: the input held no row that could be accepted."
    everywhere = summary.jobs.total == cases * platforms
    where = f"all {platforms:,} platforms" if everywhere and platforms > 1 else "every platform that was asked"
    subject = "1 number is" if cases == 1 else f"{cases:,} numbers are"
    return f"{clean:,} of {subject} clean at {where}."


def verdict_sentences(summary: Summary) -> tuple[str, ...]:
    """Say what is to be known about the numbers that are not clean."""
    exceptions = summary.verdicts.get(Verdict.CLEAN_WITH_EXCEPTIONS, 0)
    incomplete = summary.verdicts.get(Verdict.INCOMPLETE, 0)
    if not sum(summary.verdicts.values()):
        return ()
    said = []
    if exceptions:
        said.append(f"{_have(exceptions)} exceptions: every platform answered, but not every binding is gone.")
    if incomplete:
        said.append(f"{_are(incomplete)} incomplete: an answer or a person's decision is still to come.")
    return tuple(said) or ("None has an exception, none is incomplete.",)


def ledger_sentence(ledger: LedgerCheck | None, *, sandbox: bool) -> str:
    """Say whether the platforms' own record agrees with what was recorded here."""
    if ledger is None:
        kept = "the simulated platforms' ledger was not read" if sandbox else "real platforms show no ledger"
        return f"The outcomes were not compared with the platforms' own record: {kept}."
    if ledger.agrees:
        silent = ledger.without_outcome
        unanswered = f" {silent:,} ended without an answer, so they had nothing to compare." if silent else ""
        return (
            f"Every recorded outcome ({ledger.compared:,}) was compared with the platforms' own ledger: they agree, "
            f"and no platform acted twice.{unanswered}"
        )
    return (
        f"The platforms' own ledger does not agree. Of {ledger.compared:,} outcomes compared, "
        f"{ledger.disagreements:,} differ. Jobs that took effect twice: {ledger.second_effects:,}. "
        f"Effects of no recorded job: {ledger.unknown_effects:,}."
    )


def outcomes(by_state: Mapping[State, int]) -> Outcomes:
    """Lay the outcome chart out."""
    counts = {state: by_state.get(state, 0) for state in STATE_WORDS}
    found = sorted((state for state in counts if counts[state]), key=lambda state: -counts[state])
    dwarfs = len(found) > 1 and counts[found[0]] > _COMMON_SCALE_RATIO * counts[found[1]]
    main, rest = (found[:1], found[1:]) if dwarfs else (found, [])
    rest_full = counts[rest[0]] if rest else 0
    return Outcomes(
        main=tuple(_bar(state, counts[state], full=sum(counts.values())) for state in main),
        rest=tuple(_bar(state, counts[state], full=rest_full) for state in rest),
        rest_full=rest_full,
    )


def evenly(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the run's curve at evenly spaced moments, at most `CHART_STEPS_MAX` steps; empty if it is too short."""
    if not samples or samples[-1].at_s <= samples[0].at_s:
        return ()
    steps = min(CHART_STEPS_MAX, len(samples) - 1)
    start_s, span_s = samples[0].at_s, samples[-1].at_s - samples[0].at_s
    moments = [sample.at_s for sample in samples]
    return tuple(_at(samples, moments, start_s + span_s * step / steps) for step in range(steps + 1))


def calls_per_s(curve: Sequence[Sample]) -> tuple[float, ...]:
    """Return the rate of calls at each point of an even curve: over the step that ends there."""
    rates = [max(0.0, (after.calls - before.calls) / (after.at_s - before.at_s)) for before, after in pairwise(curve)]
    return (rates[0], *rates) if rates else ()


def charts(samples: Sequence[Sample]) -> tuple[Chart, ...]:
    """Draw the run over time; no chart for a run too short to have a curve, nor for a wait that never was."""
    curve = evenly(samples)
    if not curve:
        return ()
    drawn = [
        _chart(curve, [float(sample.settled) for sample in curve], title="Jobs settled", unit="jobs"),
        _chart(curve, list(calls_per_s(curve)), title="Calls per second", unit="calls a second"),
    ]
    waiting = [float(sample.waiting) for sample in curve]
    if any(waiting):
        drawn.append(_chart(curve, waiting, title="Jobs waiting for a retry", unit="jobs waiting"))
    return tuple(drawn)


def figure_rows(samples: Sequence[Sample]) -> tuple[tuple[Sample, float], ...]:
    """Return what the charts show as rows of a table: a moment, and the calls per second there."""
    curve = evenly(samples)
    rows = list(zip(curve, calls_per_s(curve), strict=True))
    stride = max(1, -(-len(rows) // FIGURE_ROWS_MAX))
    return tuple(rows[::-1][::stride][::-1])


def categories(platforms: Iterable[PlatformProgress]) -> tuple[Category, ...]:
    """Add platforms up by category, in the alphabet's order."""
    members: defaultdict[str, list[PlatformProgress]] = defaultdict(list)
    for platform in platforms:
        members[platform.category].append(platform)
    return tuple(_category(name, members[name]) for name in sorted(members))


def fault_text(platform: PlatformProgress) -> str:
    """Say which faults a platform had and how often, the most frequent first."""
    by_count = sorted(platform.faults.items(), key=lambda item: -item[1])
    return " · ".join(f"{FAULT_WORDS.get(kind, kind)}\u00a0×\u00a0{count:,}" for kind, count in by_count if count)


def status_text(platform: PlatformProgress) -> str:
    """Say which HTTP statuses other than success a platform answered."""
    bad = sorted((status, count) for status, count in platform.statuses.items() if not status.startswith("2"))
    return " · ".join(f"HTTP {status}\u00a0×\u00a0{count:,}" for status, count in bad if count)


def ending_text(platform: PlatformProgress) -> str:
    """Say how the jobs of a platform ended, whatever it went through."""
    left = [(state, platform.by_state.get(state, 0)) for state in (State.DEAD, State.PENDING_REVIEW)]
    parts = [f"{count:,} {STATE_WORDS[state]}" for state, count in left if count]
    if platform.open:
        parts.append(f"{platform.open:,} still open")
    return ", ".join(parts) or "all answered"


def _have(count: int) -> str:
    return f"{count:,} has" if count == 1 else f"{count:,} have"


def _are(count: int) -> str:
    return f"{count:,} is" if count == 1 else f"{count:,} are"


def _bar(state: State, count: int, *, full: int) -> Bar:
    width_pct = round(100 * count / full, 2)
    return Bar(label=STATE_WORDS[state], meaning=_MEANINGS[state], count=count, width_pct=width_pct, tone=_tone(state))


def _tone(state: State) -> str:
    if STATES[state].clean:
        return "clean"
    if state in _LOUD:
        return "person"
    return "open" if state in DISPATCHER_STATES or state is State.ACCEPTED else "exception"


def _at(samples: Sequence[Sample], moments: Sequence[float], at_s: float) -> Sample:
    after = min(max(1, bisect_left(moments, at_s)), len(samples) - 1)
    left, right = samples[after - 1], samples[after]
    span_s = right.at_s - left.at_s
    part = (at_s - left.at_s) / span_s if span_s > 0 else 1.0

    def between(count: Callable[[Sample], int]) -> int:
        return round(count(left) + (count(right) - count(left)) * part)

    return Sample(
        at_s=at_s,
        settled=between(lambda sample: sample.settled),
        calls=between(lambda sample: sample.calls),
        waiting=between(lambda sample: sample.waiting),
        dead=between(lambda sample: sample.dead),
    )


def _chart(curve: Sequence[Sample], values: Sequence[float], *, title: str, unit: str) -> Chart:
    start_s, span_s = curve[0].at_s, curve[-1].at_s - curve[0].at_s
    greatest = max(values)
    top = _round_top(greatest)
    points = " ".join(
        f"{100 * (sample.at_s - start_s) / span_s:.2f},{100 - 100 * value / top:.2f}"
        for sample, value in zip(curve, values, strict=True)
    )
    return Chart(
        title=title,
        summary=f"{title} over {duration_text(span_s)}: at most {greatest:,.0f} {unit}, {values[-1]:,.0f} at the end",
        points=points,
        y_ticks=tuple(Tick(at_pct=part * 50, text=_short(top * part / 2)) for part in range(3)),
        x_ticks=tuple(Tick(at_pct=part * 50, text=duration_text(start_s + span_s * part / 2)) for part in range(3)),
    )


def _round_top(value: float) -> float:
    """Return where an axis ends: a round number not below `value` whose half is a whole number."""
    power = 10.0 ** floor(log10(max(value, 2)))
    tops = (step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12))
    return next(top for top in tops if top >= max(value, 2) and top % 2 == 0)


def _short(value: float) -> str:
    if value >= _MILLION:
        return f"{value / _MILLION:g}M"
    return f"{value / _THOUSAND:g}k" if value >= 10 * _THOUSAND else f"{value:,.0f}"


def _category(name: str, members: Sequence[PlatformProgress]) -> Category:
    by_state = {state: sum(member.by_state.get(state, 0) for member in members) for state in State}
    latencies = [sum(bucket) for bucket in zip(*(member.latencies for member in members), strict=True)]
    return Category(
        name=name,
        platforms=len(members),
        by_state=by_state,
        calls=sum(member.calls for member in members),
        faults=sum(member.faults_total for member in members),
        p95_ms=latency_ms(latencies, 0.95),
    )
