"""What a scenario is: one thing that is measured, in rounds, and what its figures shall hold."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rounds import Figures
from benchmarks.wants import Want


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a round is told. `quick`: sizes that only show that it works; `full`: the largest sizes of the design.

    `turn` is called before each thing that is measured by itself: it waits until the machine is quiet.
    """

    seed: int
    quick: bool = False
    full: bool = False
    say: Callable[[str], None] = lambda _: None
    turn: Callable[[str], None] = lambda _: None

    def size(self, usual: int, *, quick: int) -> int:
        """Return the size of this run."""
        return quick if self.quick else usual

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a folder that goes with the round."""
        with tempfile.TemporaryDirectory(prefix="renewal-bench-", ignore_cleanup_errors=True) as name:
            yield Path(name)


@dataclass(slots=True, kw_only=True)
class Round:
    """What one round came to. Figures named `who/what` make a row for each `who`; problems are told in any case."""

    figures: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def nothing_follows(_: Figures) -> Figures:
    """Return no further figures."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`conclude` makes further figures from the medians, such as ratios; what it cannot make it leaves out."""

    name: str
    about: str
    measure: Callable[[Setting], Round]
    wants: tuple[Want, ...]
    conclude: Callable[[Figures], Figures] = nothing_follows
