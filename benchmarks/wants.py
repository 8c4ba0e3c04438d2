"""What a figure must hold and aims at, and whether it does. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One line of the design's table of numbers: `must` decides the exit code, `aim` is only told.

    `at_most`: the figure shall not be above the bound; otherwise it shall not be below.
    """

    figure: str
    text: str
    unit: str
    must: float
    aim: float | None = None
    at_most: bool = False

    def meets(self, value: float, bound: float) -> bool:
        """Tell whether a value is on the right side of a bound; on it is right."""
        return value <= bound if self.at_most else value >= bound


class Verdict(StrEnum):
    """What came of one want."""

    AIM = "aim reached"
    HOLDS = "holds"
    FAILS = "FAILS"
    NOT_MEASURED = "NOT MEASURED"
    NOT_JUDGED = "not judged"

    @property
    def good(self) -> bool:
        """Whether the command may end with 0 for all that is known of this one."""
        return self not in {Verdict.FAILS, Verdict.NOT_MEASURED}


def judge(want: Want, medians: Mapping[str, float], *, quick: bool = False) -> Verdict:
    """Hold a want against the medians; what was not measured does not hold.

    A quick run is too short to mean anything: it only shows that each figure can be taken.
    """
    value = medians.get(want.figure)
    if value is None:
        return Verdict.NOT_MEASURED
    if quick:
        return Verdict.NOT_JUDGED
    if not want.meets(value, want.must):
        return Verdict.FAILS
    return Verdict.AIM if want.aim is not None and want.meets(value, want.aim) else Verdict.HOLDS
