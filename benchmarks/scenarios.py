"""Every scenario, in the order of the design's table of numbers."""

from typing import Final

from benchmarks.api import API
from benchmarks.bulk import BULK
from benchmarks.cost import COST
from benchmarks.help_time import HELP
from benchmarks.intake import INTAKE
from benchmarks.isolation import ISOLATION
from benchmarks.memory import MEMORY
from benchmarks.scenario import Scenario
from benchmarks.single import SINGLE
from benchmarks.waiting_person import INTERACTIVE

SCENARIOS: Final[tuple[Scenario, ...]] = (BULK, SINGLE, INTAKE, INTERACTIVE, ISOLATION, MEMORY, COST, HELP, API)
