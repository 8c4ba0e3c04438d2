"""Runs scenarios in rounds, each when the machine is quiet, and gathers what came of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.quiet import PATIENCE_S, Wait, await_quiet, foreign_cores, read
from benchmarks.rounds import Spread, medians, spread
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.wants import Verdict, Want, judge
from schemas.errors import RenewalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What others did with the machine before and during one round, in cores."""

    waited_s: float
    before_cores: float
    quiet: bool
    during_cores: float


@dataclass(slots=True, kw_only=True)
class Result:
    """One scenario: its figures, what they were held against, and what went wrong."""

    scenario: Scenario
    quick: bool
    spreads: dict[str, Spread] = field(default_factory=dict)
    concluded: dict[str, float] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def verdicts(self) -> list[tuple[Want, float | None, Verdict]]:
        """Return each want with its value and what came of it."""
        values = medians(self.spreads) | self.concluded
        return [(want, values.get(want.figure), judge(want, values, quick=self.quick)) for want in self.scenario.wants]

    @property
    def holds(self) -> bool:
        """Whether every must holds, and nothing went wrong."""
        return not self.problems and all(verdict.good for _, _, verdict in self.verdicts)


def await_turn(setting: Setting) -> Wait:
    """Wait until the machine is quiet; a quick run says nothing about speed, so it only notes what others use."""
    return await_quiet(lambda: read(time.monotonic), time.sleep, patience_s=0.0 if setting.quick else PATIENCE_S)


def run_scenario(
    scenario: Scenario, setting: Setting, *, rounds: int, turn: Callable[[Setting], Wait] = await_turn
) -> Result:
    """Measure one scenario; a round that fails is told as a problem and ends it, for others may still be measured."""
    result = Result(scenario=scenario, quick=setting.quick)
    found: list[Round] = []
    for number in range(1, rounds + 1):
        wait = turn(setting)
        setting.say(f"{scenario.name}: round {number} of {rounds}{_waited(wait)}")
        before = read(time.monotonic)
        try:
            found.append(scenario.measure(setting))
        except (RenewalError, OSError) as error:
            result.problems.append(f"round {number}: {type(error).__name__}: {error}")
            break
        finally:
            during = foreign_cores(before, read(time.monotonic))
            result.loads.append(
                Load(waited_s=wait.waited_s, before_cores=wait.load_cores, quiet=wait.quiet, during_cores=during)
            )
    result.spreads = spread([each.figures for each in found])
    result.problems += dict.fromkeys(problem for each in found for problem in each.problems)
    result.concluded = dict(scenario.conclude(medians(result.spreads)))
    return result


def run_all(scenarios: Sequence[Scenario], setting: Setting, *, rounds: int, show: Callable[[Result], None]) -> bool:
    """Measure all, show each as it ends; returns whether every must holds."""
    good = True
    for scenario in scenarios:
        result = run_scenario(scenario, setting, rounds=rounds)
        show(result)
        good = good and result.holds
    return good


def _waited(wait: Wait) -> str:
    told = f", others use {wait.load_cores:.2f} cores"
    return told if wait.quiet else f"{told} and did not leave within {wait.waited_s:.0f} s"
