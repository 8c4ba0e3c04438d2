from collections import Counter
from functools import cache

import pytest

from schemas.errors import NotFound
from schemas.ids import derive
from simulator.scenario import SCENARIOS, Fault, Fortune, Scenario, scenario
from simulator.world import World
from tests.simulated import SEED, number, platform

CALLS = 60_000
BULK = platform(protocol="bulk-json")


@cache
def _faults(name: str) -> Counter[Fault | None]:
    fortune = Fortune(scenario(name), BULK, seed=SEED)
    return Counter(fortune.fate(derive(str(call)), failed_before=0).fault for call in range(CALLS))


def test_without_faults_no_call_fails() -> None:
    """The scenario `none` leaves every call alone."""
    assert {None: CALLS} == _faults("none")


@pytest.mark.parametrize(("name", "share"), [("normal", 0.0231), ("storm", 0.165)])
def test_a_scenario_hurts_its_share_of_calls_in_every_way(name: str, share: float) -> None:
    """About 2 and 15 of 100 calls are faulty, and each fault of the list occurs."""
    counted = _faults(name)
    assert pytest.approx(share, rel=0.1) == 1 - counted[None] / CALLS
    assert set(Fault) == set(counted) - {None}


def test_slow_drips_are_few_where_things_are_normal() -> None:
    """A drip costs its caller the whole time-out: a run of 60,000 calls must meet fewer than 15."""
    assert _faults("normal")[Fault.SLOW_DRIP] < 15


def test_a_call_meets_the_same_fate_in_every_run() -> None:
    """The fate depends on seed, platform, key and try, and on nothing else."""
    one, other = (Fortune(scenario("storm"), BULK, seed=SEED) for _ in range(2))
    assert [one.fate(str(i), failed_before=1) for i in range(2000)] == [
        other.fate(str(i), failed_before=1) for i in range(2000)
    ]


def test_a_repeat_of_a_failed_call_rolls_anew() -> None:
    """No call fails for ever: after a failure the odds are those of any call."""
    fortune = Fortune(scenario("storm"), BULK, seed=SEED)
    failed = [str(i) for i in range(CALLS) if fortune.fate(str(i), failed_before=0).fault]
    again = [call for call in failed if fortune.fate(call, failed_before=1).fault]
    assert pytest.approx(0.165, rel=0.15) == len(again) / len(failed)


def test_a_single_call_never_meets_a_fault_of_bulk_answers() -> None:
    """An answer with one result can neither leave one out nor invent another."""
    plan = Scenario(name="bulk", fault_shares=((Fault.LEFT_OUT, 0.5), (Fault.INVENTED, 0.5)))
    fortune = Fortune(plan, platform(), seed=SEED)
    assert {None} == {fortune.fate(str(i), failed_before=0).fault for i in range(1000)}


@pytest.mark.parametrize(("name", "share"), [("none", 0.0), ("normal", 0.0002), ("storm", 0.001)])
def test_few_jobs_get_a_code_that_nobody_knows(name: str, share: float) -> None:
    """Unknown codes are rare, and are for ever the same for the same pair."""
    entry = platform()
    world, fortune = World(entry, seed=SEED), Fortune(scenario(name), entry, seed=SEED)
    asked = 300_000
    pairs = [world.pair(number(i)) for i in range(asked)]
    unknown = [pair for pair in pairs if fortune.unknown_answer(pair) is not None]
    assert pytest.approx(share, rel=0.3) == len(unknown) / asked
    assert [fortune.unknown_answer(pair) for pair in unknown] == [fortune.unknown_answer(pair) for pair in unknown]


def test_an_unknown_code_is_in_no_map() -> None:
    """Even a platform that happens to use one of the strange codes is never answered with it."""
    known = platform(outcomes={"ERR_9001": "UNBOUND", "NONE": "NO_BINDING"})
    fortune = Fortune(SCENARIOS["storm"], known, seed=SEED)
    assert fortune.unknown_answers
    assert not {answer.code for answer in fortune.unknown_answers} & set(known.outcomes)


def test_latency_is_around_the_platforms_own() -> None:
    """Each platform has a base between 5 and 60 ms, and calls spread around it; a ratio of 0 answers at once."""
    medians = []
    for index in range(50):
        entry = platform(f"p{index}")
        latencies = sorted(
            Fortune(scenario("none"), entry, seed=SEED).fate(str(i), failed_before=0).latency_s for i in range(501)
        )
        medians.append(latencies[250])
        assert latencies[0] < latencies[250] < latencies[500] < 4 * latencies[250]
    assert min(medians) >= 0.0045
    assert 0.066 >= max(medians) > 0.03
    still = Fortune(Scenario(name="still", latency_ratio=0.0), platform(), seed=SEED)
    assert still.fate("a", failed_before=0).latency_s == 0.0


def test_an_unknown_scenario_is_named_with_those_there_are() -> None:
    """A wrong word on the command line gets the right ones."""
    with pytest.raises(NotFound, match="'hurricane'; there are none, normal, later, storm"):
        scenario("hurricane")
