"""Any usual spelling becomes one key; everything else is refused without being repeated."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.number import MASK, NumberProblem, mask, mask_text, normalise

NATIONAL = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)


@pytest.mark.parametrize(
    "spelling",
    [
        "13800001234",
        "+8613800001234",
        "8613800001234",
        "008613800001234",
        "138 0000 1234",
        "138-0000-1234",
        "+86 138 0000 1234",
        "+86-138-0000-1234",
        "(+86) 13800001234",
        " 13800001234\t",
        "138\u00a00000\u00a01234",
        "138\u30000000\u30001234",
        "138\u20130000\u20131234",
        "１３８００００１２３４",
        "＋８６１３８００００１２３４",
    ],
    ids=repr,
)
def test_every_usual_spelling_gives_the_same_key(spelling: str) -> None:
    """Two spellings of one number must never become two cases."""
    assert "+8613800001234" == normalise(spelling)


@pytest.mark.parametrize("start", ["13", "14", "15", "16", "17", "18", "19"])
def test_every_mobile_range_is_known(start: str) -> None:
    """Recycled numbers come from all of them, the young 16x and 19x too."""
    assert f"+86{start}500001234" == normalise(f"{start}500001234")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("01012345678", "fixed line"),
        ("010-1234 5678", "fixed line"),
        ("+861012345678", "fixed line"),
        ("+14155550123", r"country code \+1"),
        ("+85291234567", r"country code \+852"),
        ("70013800001234", "700 privacy number"),
        ("700138000012345", "700 privacy number"),
        ("+86700138000012345", "700 privacy number"),
        ("12800001234", "mobile number"),
        ("1380000123", "mobile number"),
        ("138000012345", "mobile number"),
        ("10086", "mobile number"),
        ("4008123456", "mobile number"),
        ("", "not a phone number"),
        ("number", "not a phone number"),
        ("138****1234", "number"),
        ("1.38E+10", "number"),
        ("1" * 41, "more than 40 characters"),
    ],
    ids=repr,
)
def test_what_is_no_mainland_mobile_number_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    """Each kind of mistake has its own words."""
    with pytest.raises(NumberProblem, match=expected):
        normalise(text)


@given(national=NATIONAL)
def test_the_key_of_a_key_is_itself(national: str) -> None:
    """The fast path and a second pass agree."""
    assert f"+86{national}" == normalise(national) == normalise(normalise(national))


@given(text=st.text(max_size=60) | st.text("0123456789+-() 86", max_size=30))
def test_a_text_gives_a_key_or_a_problem_that_does_not_repeat_it(text: str) -> None:
    """Rejected rows end in reports, and reports hold no number."""
    try:
        found = normalise(text)
    except NumberProblem as problem:
        found = str(problem)
    assert re.fullmatch(r"\+861\d{10}", found) or not re.search(r"\d{7,}", found)


@given(national=NATIONAL)
def test_a_mask_shows_the_first_three_and_the_last_four(national: str) -> None:
    """People recognise their number; nobody else learns it."""
    assert f"{national[:3]}****{national[-4:]}" == mask(f"+86{national}")
    assert MASK.fullmatch(mask(f"+86{national}"))


@given(national=NATIONAL, before=st.text("ab: ", max_size=5), after=st.text("ab. ", max_size=5))
def test_masked_text_holds_no_number(national: str, before: str, after: str) -> None:
    """Free text from a platform or a file may have a number anywhere in it."""
    masked = mask_text(f"{before}{national}{after}")
    assert f"{before}{national[:3]}****{national[-2:]}{after}" == masked


def test_masked_text_leaves_short_runs_of_digits_alone() -> None:
    """Lines, codes and dates stay readable."""
    assert "line 12, 2026-03-01, code 500123" == mask_text("line 12, 2026-03-01, code 500123")
