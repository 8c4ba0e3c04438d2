"""The benchmark's arithmetic: medians, verdicts, the course of a load, and how they are shown."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench import Result, run_scenario
from benchmarks.contenders import CELERY_GEVENT, CONTENDERS, TASKIQ, Contender
from benchmarks.cost import spread_of_cost
from benchmarks.course import Course
from benchmarks.errors import Unmeasured
from benchmarks.flat import SLACK_MB, growth
from benchmarks.isolation import ratio
from benchmarks.memory import flatness
from benchmarks.quiet import Reading, Watch
from benchmarks.rounds import medians, spread
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.scenarios import SCENARIOS
from benchmarks.shown import as_json, figure_rows, number, want_rows
from benchmarks.single import SINGLE, ratios
from benchmarks.wants import Verdict, Want, judge

AT_LEAST = Want(figure="rate", text="rate", unit="jobs/s", must=100, aim=200)
AT_MOST = Want(figure="wait", text="wait", unit="s", must=5, aim=1, at_most=True)


@pytest.mark.parametrize(
    ("want", "value", "verdict"),
    [
        (AT_LEAST, 99.9, Verdict.FAILS),
        (AT_LEAST, 100, Verdict.HOLDS),
        (AT_LEAST, 200, Verdict.AIM),
        (AT_MOST, 5.1, Verdict.FAILS),
        (AT_MOST, 5, Verdict.HOLDS),
        (AT_MOST, 1, Verdict.AIM),
    ],
)
def test_a_figure_on_its_bound_holds(want: Want, value: float, verdict: Verdict) -> None:
    """Must and aim are bounds in the direction that the want says."""
    assert verdict is judge(want, {want.figure: value})


def test_what_was_not_measured_does_not_hold() -> None:
    """A missing figure would otherwise pass in silence, in a quick run too."""
    assert Verdict.NOT_MEASURED is judge(AT_LEAST, {})
    assert Verdict.NOT_MEASURED is judge(AT_LEAST, {}, quick=True)
    assert not Verdict.NOT_MEASURED.good


def test_a_quick_run_is_not_judged() -> None:
    """Its sizes are too small for its figures to mean anything."""
    assert Verdict.NOT_JUDGED is judge(AT_LEAST, {"rate": 1}, quick=True)


def test_medians_are_over_the_rounds_that_have_the_figure() -> None:
    """One disturbed round of three moves no median, and the range still shows it."""
    found = spread([{"a": 1.0, "b": 5.0}, {"a": 100.0}, {"a": 3.0}])
    assert {"a": 3.0, "b": 5.0} == medians(found)
    assert (1.0, 100.0, (1.0, 100.0, 3.0)) == (found["a"].low, found["a"].high, found["a"].rounds)


def test_steady_leaves_out_the_start_and_the_tail() -> None:
    """Start-up and the last retries belong to the figure from the start, and to no other."""
    course = Course(jobs=100, points=[(1.0, 0), (2.0, 100 - 3), (7.0, 100)])
    assert 7.0 == course.seconds
    assert 100 / 7 == pytest.approx(course.per_s)
    assert 97.0 == pytest.approx(course.steady_per_s)


@given(
    st.lists(st.tuples(st.floats(0.001, 10), st.integers(1, 1000)), min_size=1, max_size=30),
    st.floats(0.01, 1),
)
def test_a_course_is_read_between_its_points(steps: list[tuple[float, int]], share: float) -> None:
    """Whatever the points, a later share of the jobs is never done before an earlier one."""
    at_s, done = 0.0, 0
    points = []
    for seconds, jobs in steps:
        at_s, done = at_s + seconds, done + jobs
        points.append((at_s, done))
    course = Course(jobs=done, points=points)
    assert course.at(share * done / 2) <= course.at(share * done) <= course.seconds + 1e-9


def test_jobs_that_were_never_done_have_no_time() -> None:
    """A load that stopped has no rate, instead of a wrong one."""
    with pytest.raises(ValueError, match="were never done"):
        Course(jobs=10, points=[(1.0, 4)]).at(9)


def test_ratios_are_those_of_the_medians() -> None:
    """How many times as fast we are is one number for both halves of the comparison."""
    found = ratios({"renewal/jobs_per_s": 300.0, f"{CELERY_GEVENT}/jobs_per_s": 100.0, f"{TASKIQ}/steady_per_s": 50.0})
    assert {f"x_{CELERY_GEVENT}_jobs_per_s": 3.0} == found


def test_a_peer_that_is_missing_is_told_and_fails_what_needs_it() -> None:
    """Nobody shall take a comparison for passed that was never made."""
    lost = Contender(name="lost", about="", commands=(), needs=("json", "no_such_package_here"))
    assert ["no_such_package_here"] == lost.missing()
    verdicts = [judge(want, ratios({"renewal/jobs_per_s": 1.0})) for want in SINGLE.wants]
    assert {Verdict.NOT_MEASURED} == set(verdicts)


def test_every_contender_says_what_it_needs() -> None:
    """What is not named cannot be told as missing."""
    assert [] == [contender.name for contender in CONTENDERS if not contender.needs or not contender.commands]


def test_growth_is_that_of_the_role_that_grew_most() -> None:
    """The store grows with its jobs and is measured by itself; a few MB of an interpreter are no growth."""
    small = {"worker": 100.0, "recorder": 50.0, "valkey": 10.0}
    large = {"worker": 100.0 + SLACK_MB, "recorder": 75.0 + SLACK_MB, "valkey": 900.0, "submit": 70.0}
    assert 1.5 == growth(small, large)
    assert growth({"worker": 1.0}, {"recorder": 1.0}) is None


def test_memory_is_compared_by_role() -> None:
    """Figures that are no memory of a process stay out of it."""
    figures = {"small/jobs": 1.0, "small/worker_mb": 100.0, "large/jobs": 10.0, "large/worker_mb": 120.0 + SLACK_MB}
    assert {"growth": 1.2} == flatness(figures)


def test_cost_is_held_dearest_against_cheapest() -> None:
    """Ten percent is meant between any two sizes, whichever is the dearer."""
    costs = {"10k/times_platform": 30.0, "100k/times_platform": 20.0, "1M/times_platform": 22.0}
    assert {"dearest_to_cheapest": 1.5} == spread_of_cost(costs)
    assert {} == spread_of_cost({"10k/times_platform": 30.0})


def test_isolation_is_a_share_of_throughput() -> None:
    """Less than 5 % lost means that at least 0.95 is kept."""
    assert {"kept": 0.96} == ratio({"well/others_per_s": 100.0, "hanging/others_per_s": 96.0})
    assert {} == ratio({"well/others_per_s": 100.0})


def scenario(*rounds: Mapping[str, float] | Exception) -> Scenario:
    """Return a scenario whose rounds come to these figures."""
    coming = iter(rounds)

    def measure(setting: Setting) -> Round:
        setting.turn("all")
        found = next(coming)
        if isinstance(found, Exception):
            raise found
        return Round(figures=dict(found))

    return Scenario(name="s", about="", measure=measure, wants=(AT_LEAST,))


def run(made: Scenario, *, rounds: int = 3) -> Result:
    """Run it on a machine that is quiet."""
    watch = Watch(lambda: Reading(0.0, 0.0, 0.0), lambda _: None, patience_s=0)
    return run_scenario(made, Setting(seed=1), rounds=rounds, watch=watch)


def test_a_scenario_holds_by_the_median_of_its_rounds() -> None:
    """One good round of three is no success, and one bad one no failure."""
    assert run(scenario({"rate": 150}, {"rate": 50}, {"rate": 120})).holds
    assert not run(scenario({"rate": 50}, {"rate": 500}, {"rate": 60})).holds


def test_a_round_that_fails_is_a_failure() -> None:
    """A figure whose completeness could not be shown is none, however good the other rounds were."""
    result = run(scenario({"rate": 500}, Unmeasured("a job is missing")))
    assert ["round 2: Unmeasured: a job is missing"] == result.problems
    assert not result.holds
    assert ["1 all", "2 all"] == [load.turn for load in result.loads]


def test_a_table_has_a_row_for_each_contender() -> None:
    """Figures named who/what are compared side by side; what a contender has not is a dash."""
    columns, rows = figure_rows(spread([{"a/x": 1.0, "a/y": 2000.0, "b/x": 3.0}, {"a/x": 2.0, "b/x": 3.0}]))
    assert ["who", "x", "y"] == columns
    assert [["a", "1.5 (1-2)", "2,000"], ["b", "3", "-"]] == rows


def test_the_rows_of_a_result_say_must_aim_and_verdict() -> None:
    """This is what a reader sees of the design's table of numbers."""
    assert [("rate", "150", "jobs/s", "≥ 100", "≥ 200", "holds")] == want_rows(run(scenario({"rate": 150}), rounds=1))
    assert "-" == number(None)
    assert "0.223" == number(0.22301)


def test_the_json_of_a_result_has_every_round() -> None:
    """Who doubts a median can look at what it was made of."""
    shown = as_json(run(scenario({"rate": 150}, {"rate": 160}), rounds=2))
    assert [150, 160] == list(shown["figures"]["rate"]["rounds"])
    assert "holds" == shown["wants"][0]["verdict"]
    assert shown["holds"]


def test_each_scenario_is_named_once_and_wants_something() -> None:
    """A scenario without a must could never fail."""
    names = [each.name for each in SCENARIOS]
    assert len(set(names)) == len(names)
    assert all(each.wants for each in SCENARIOS)
