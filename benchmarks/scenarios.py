"""Every scenario, in the order of the design's table of numbers."""

from typing import Final

from benchmarks.bulk import BULK
from benchmarks.scenario import Scenario
from benchmarks.single import SINGLE

SCENARIOS: Final[tuple[Scenario, ...]] = (BULK, SINGLE)
