"""Which dead letters a page means, and the words of the desks. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import FormData, ImmutableMultiDict

from backends.dead import DeadFilter
from backends.replays import Skip
from backends.sweeps import Ending
from backends.waiting import Why
from backends.withdrawals import Stage
from ops.advice import ADVICE
from ops.console.asking import agreed
from ops.console.choosing import SINCE, Choice
from ops.console.look import Look
from ops.console.words import LANGUAGES, words
from ops.run_desk import RunState
from ops.sweep_desk import Stands
from producers.eligibility import Ineligible
from producers.forecast import Limit
from schemas.errors import InputError
from schemas.ids import job_id, new_id
from schemas.outcome import Fault

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LOOK = Look(language="en", theme="auto")
PLATFORMS = st.sampled_from(["", "alpha", "beta"])
CAUSES = st.lists(st.tuples(PLATFORMS, st.sampled_from(["", *ADVICE])), max_size=3).map(tuple)
CHOICES = st.builds(
    Choice, platform=PLATFORMS, since=st.sampled_from(["", *SINCE]), run=st.sampled_from(["", new_id()]), causes=CAUSES,
    jobs=st.lists(st.sampled_from([job_id(new_id(), "alpha") for _ in range(3)]), unique=True, max_size=3).map(tuple),
)  # fmt: skip


@given(choice=CHOICES)
def test_a_form_carries_a_choice_unchanged(choice: Choice) -> None:
    """What was seen in the preview is what is sent with the form."""
    sent = parse_qsl(urlencode(list(choice.fields())))
    assert choice == Choice.said(ImmutableMultiDict(sent))


@given(choice=CHOICES)
def test_a_pinned_choice_stays_what_it_is_while_time_goes_on(choice: Choice) -> None:
    """A reason takes a minute to type: the window of `24 h` must not move on meanwhile."""
    pinned = choice.pinned(now=NOW)
    later = NOW.replace(hour=15)
    assert pinned.filter(now=NOW) == pinned.filter(now=later)
    assert pinned == pinned.pinned(now=later)


def test_in_an_address_reason_is_what_letters_died_of_and_in_a_form_it_is_why() -> None:
    """The page of a platform links with it; a form has the field for a person."""
    said = ImmutableMultiDict([("platform", "alpha"), ("reason", "timeout")])
    asked = DeadFilter(platforms=frozenset({"alpha"}), reasons=frozenset({Fault.TIMEOUT}))
    assert asked == Choice.asked(said).filter(now=NOW)
    assert DeadFilter(platforms=frozenset({"alpha"})) == Choice.said(said).filter(now=NOW)


@pytest.mark.parametrize("said", [("cause", "alpha:nonsense"), ("job", "138000"), ("since", "yesterday")])
def test_what_nobody_of_ours_has_written_is_refused_without_being_repeated(said: tuple[str, str]) -> None:
    """The error names the field."""
    with pytest.raises(InputError) as refused:
        Choice.asked(ImmutableMultiDict([said])).filter(now=NOW)
    assert said[1] not in str(refused.value)


@pytest.mark.parametrize(
    ("form", "reason", "wrong"),
    [
        ({"reason": " why ", "expected": "3"}, "why", ""),
        ({"reason": "why", "expected": "2"}, "why", "There are 3 now"),
        ({"reason": "why"}, "why", "There are 3 now"),
        ({"reason": "", "expected": "3"}, "", "reason:"),
        ({"reason": "why", "expected": "three"}, "", "expected:"),
    ],
)
def test_a_change_needs_its_reason_and_its_count(form: dict[str, str], reason: str, wrong: str) -> None:
    """Whatever is missing is said on the form again."""
    found = agreed(FormData(form), 3, look=LOOK)
    assert (reason, True) == (found[0], found[1].startswith(wrong))
    assert bool(wrong) == bool(found[1])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_member_of_a_list_has_its_word(language: str) -> None:
    """A page never shows a code where a person needs to know what to do."""
    families: dict[str, Iterable[str]] = {
        "advice": ADVICE, "skip": Skip, "why": Why, "run_state": RunState, "stands": Stands, "ending": Ending,
        "stage": Stage, "limit": Limit, "refused": Ineligible, "since": SINCE,
    }  # fmt: skip
    missing = [f"{family}.{each}" for family, known in families.items() for each in known]
    assert [] == [key for key in missing if key not in words(language)]
