"""Runs scenarios in rounds, each turn of one when the machine is quiet, and gathers what came of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from redis.exceptions import RedisError

from benchmarks.quiet import Load, Watch
from benchmarks.rounds import Spread, medians, spread
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.wants import Verdict, Want, judge
from schemas.errors import RenewalError


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


def run_scenario(scenario: Scenario, setting: Setting, *, rounds: int, watch: Watch) -> Result:
    """Measure one scenario; a round that fails is told as a problem and ends it, for others may still be measured."""
    result = Result(scenario=scenario, quick=setting.quick)
    found: list[Round] = []
    for number in range(1, rounds + 1):

        def turn(name: str, number: int = number) -> None:
            setting.say(f"{scenario.name}, round {number} of {rounds}, {name}: {watch.begin(f'{number} {name}')}")

        try:
            found.append(scenario.measure(replace(setting, turn=turn)))
        except (RenewalError, RedisError, OSError) as error:
            result.problems.append(f"round {number}: {type(error).__name__}: {error}")
            break
        finally:
            watch.end()
    result.loads = watch.taken()
    result.spreads = spread([each.figures for each in found])
    result.problems += dict.fromkeys(problem for each in found for problem in each.problems)
    result.concluded = dict(scenario.conclude(medians(result.spreads)))
    return result


def run_all(
    scenarios: Sequence[Scenario], setting: Setting, *, rounds: int, watch: Watch, show: Callable[[Result], None]
) -> bool:
    """Measure all, show each as it ends; returns whether every must holds."""
    good = True
    for scenario in scenarios:
        result = run_scenario(scenario, setting, rounds=rounds, watch=watch)
        show(result)
        good = good and result.holds
    return good
