from collections import Counter

import pytest

from platforms.catalogue import Catalogue
from platforms.model import Platform, Refused
from schemas.errors import CatalogueError
from schemas.outcome import Outcome, Refusal
from simulator.world import BOUND_SHARE, Answer, World
from tests.simulated import SEED, number, platform

ASKED = 60_000


def _count(entry: Platform, *, seed: int = SEED) -> Counter[Outcome | None]:
    world = World(entry, seed=seed)
    return Counter(world.truth(number(index)).outcome for index in range(ASKED))


def test_a_number_has_the_same_truth_whenever_it_is_asked() -> None:
    """Two worlds of one seed agree on every number."""
    one, other = World(platform(), seed=SEED), World(platform(), seed=SEED)
    assert [one.truth(number(i)) for i in range(5000)] == [other.truth(number(i)) for i in range(5000)]


def test_another_seed_and_another_platform_are_other_worlds() -> None:
    """Which numbers are bound depends on seed and platform, not only on the number."""

    def bound(key: str, seed: int) -> set[int]:
        world = World(platform(key), seed=seed)
        return {i for i in range(ASKED) if world.truth(number(i)).outcome is not Outcome.NO_BINDING}

    here = bound("acme", SEED)
    for elsewhere in (bound("acme", SEED + 1), bound("acmf", SEED)):
        # By chance two sets of about 1,000 of 60,000 share about 17.
        assert len(here & elsewhere) < 60


def test_about_1_7_percent_are_bound_and_most_of_them_unbound() -> None:
    """The shares of the outcomes are those that the province's sizes rest on."""
    counted = _count(platform())
    bound = ASKED - counted[Outcome.NO_BINDING]
    assert pytest.approx(BOUND_SHARE, rel=0.15) == bound / ASKED
    assert pytest.approx(0.78, abs=0.06) == counted[Outcome.UNBOUND] / bound
    assert pytest.approx(0.14, abs=0.05) == counted[Outcome.REFUSED] / bound
    assert pytest.approx(0.06, abs=0.03) == counted[Outcome.BOUND_AFTER_CUTOFF] / bound


def _agrees(entry: Platform, answer: Answer) -> bool:
    meaning = entry.outcomes[answer.code]
    if isinstance(meaning, Refused):
        return (answer.outcome, answer.reason) == (Outcome.REFUSED, meaning.REFUSED)
    reasoned = (answer.reason is not None) == (answer.outcome is Outcome.REFUSED)
    return meaning is answer.outcome and reasoned and meaning not in {Outcome.ACCEPTED, Outcome.PENDING_REVIEW}


def test_every_answer_uses_a_code_that_means_exactly_its_outcome() -> None:
    """What the ledger calls an outcome is what the dispatcher must read from the code, at all 240 platforms."""
    answers = [(entry, answer) for entry in Catalogue.load() for answer in World(entry, seed=SEED).answers]
    assert [] == [(entry.key, answer) for entry, answer in answers if not _agrees(entry, answer)]
    assert len(answers) > 240 * 3


def test_a_bare_refusal_carries_one_of_the_closed_reasons() -> None:
    """With the canonical codes a refusal names its reason beside the code."""
    world = World(platform(), seed=SEED)
    reasons = {answer.reason for answer in world.answers if answer.outcome is Outcome.REFUSED}
    assert set(Refusal) == reasons


def test_platforms_that_hold_money_refuse_for_money() -> None:
    """Funds or debt are the usual reason of a payment platform, and not of a social one."""

    def share(category: str) -> float:
        world = World(platform(category=category), seed=SEED)
        truths = [world.truth(number(i)) for i in range(ASKED)]
        reasons = Counter(truth.reason for truth in truths if truth.reason)
        return reasons[Refusal.FUNDS_OR_DEBT] / reasons.total()

    assert share("payment") > 0.45
    assert share("social") < 0.25


def test_what_a_platform_has_no_code_for_it_answers_as_nothing_bound() -> None:
    """A platform that knows only two words uses only these."""
    two = platform(outcomes={"OK": "UNBOUND", "NONE": "NO_BINDING"})
    assert {Outcome.UNBOUND, Outcome.NO_BINDING} == set(_count(two))
    none = platform(outcomes={"NONE": "NO_BINDING", "LATER": "ACCEPTED"})
    assert {Outcome.NO_BINDING: ASKED} == _count(none)


def test_codes_of_the_same_meaning_are_all_used() -> None:
    """Two codes for one outcome both occur, so that the map is tested whole."""
    entry = platform(outcomes={"A": "NO_BINDING", "B": "NO_BINDING", "C": "UNBOUND"})
    world = World(entry, seed=SEED)
    assert {"A", "B", "C"} == {world.truth(number(i)).code for i in range(5000)}


def test_a_platform_that_can_only_accept_is_refused() -> None:
    """The simulator never answers ACCEPTED, so such an entry is an error that names it."""
    with pytest.raises(CatalogueError, match="acme: outcomes"):
        World(platform(outcomes={"LATER": "ACCEPTED"}), seed=SEED)
