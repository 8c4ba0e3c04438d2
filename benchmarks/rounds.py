"""The figures of several rounds: medians, and how far single rounds lie apart. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over all rounds that have it."""

    median: float
    low: float
    high: float
    rounds: tuple[float, ...]


def spread(rounds: Sequence[Figures]) -> dict[str, Spread]:
    """Return each figure's median and range, in the order in which figures first came."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    found = {name: tuple(figures[name] for figures in rounds if name in figures) for name in names}
    return {
        name: Spread(median=statistics.median(values), low=min(values), high=max(values), rounds=values)
        for name, values in found.items()
    }


def medians(spreads: Mapping[str, Spread]) -> dict[str, float]:
    """Return the medians alone."""
    return {name: each.median for name, each in spreads.items()}
