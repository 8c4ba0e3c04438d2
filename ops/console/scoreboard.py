"""The platforms as rows of one board: how each does now. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from backends.admission import GateState
from ops.console.listing import Column
from ops.health import HEALTH_FIELDS, PlatformHealth, by_trouble
from platforms.catalogue import Catalogue
from platforms.model import Platform

# A state that is no state of a gate: everything that does not flow.
TROUBLE: Final = "trouble"
CHOICES: Final = (TROUBLE, *(state.value for state in GateState), "maintenance")
FIELDS: Final = ("key", "category", *HEALTH_FIELDS[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One platform on the board."""

    platform: Platform
    health: PlatformHealth

    @property
    def key(self) -> str:
        """Its key."""
        return self.platform.key

    def fits(self, filters: Mapping[str, str]) -> bool:
        """Whether it is among those that are looked for."""
        names = f"{self.key} {self.platform.name.zh} {self.platform.name.en}".casefold()
        wanted = filters["state"]
        return (
            all(word in names for word in filters["q"].casefold().split())
            and filters["category"] in {"", self.platform.category}
            and (self.health.state != "flowing" if wanted == TROUBLE else wanted in {"", self.health.state})
        )

    def row(self) -> dict[str, Any]:
        """Return it as a file holds it."""
        return self.health.row() | {"category": self.platform.category}


COLUMNS: Final = (
    Column(name="platform", key=lambda line: line.key),
    Column(name="gate", key=lambda line: line.health.trouble, falling=True),
    Column(name="success", numeric=True, key=lambda line: _known(line.health.success_pct)),
    Column(name="p95", numeric=True, wide=True, key=lambda line: line.health.p95_ms or 0, falling=True),
    Column(name="rate", numeric=True, wide=True, key=lambda line: line.health.calls_per_s or 0, falling=True),
    Column(name="in_flight", numeric=True, wide=True, key=lambda line: line.health.gate.in_flight_now, falling=True),
    Column(name="waiting", numeric=True, wide=True, key=lambda line: line.health.waiting, falling=True),
    Column(name="dead", numeric=True, key=lambda line: line.health.dead, falling=True),
    Column(name="", wide=True),
)


def board(catalogue: Catalogue, healths: Sequence[PlatformHealth]) -> list[Line]:
    """Return every platform, those in trouble first."""
    return [Line(platform=catalogue.get(health.key), health=health) for health in by_trouble(healths)]


def states(lines: Iterable[Line]) -> dict[str, int]:
    """Count the platforms by state."""
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.health.state] = counts.get(line.health.state, 0) + 1
    return counts


def verbs(state: str) -> Iterator[str]:
    """Yield what a person may want to do about a platform in this state, the likeliest first."""
    if state in {"suspended", "broken", "probing"}:
        yield "probe"
    yield "resume" if state not in {"flowing", "ramping", "maintenance"} else "pause"
    yield "limit"


def _known(pct: float | None) -> float:
    """Put platforms that nobody has called behind all others."""
    return 101.0 if pct is None else pct
