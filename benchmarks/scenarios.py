"""Every scenario, in the order of the design's table of numbers."""

from typing import Final

from benchmarks.bulk import BULK
from benchmarks.scenario import Scenario

SCENARIOS: Final[tuple[Scenario, ...]] = (BULK,)
