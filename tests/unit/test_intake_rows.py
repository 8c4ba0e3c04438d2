"""The rules of one row: what is accepted, what is refused and in which words, and what is never shown."""

import unicodedata
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.rows import COLUMNS, Row, RowProblem, RowRules, Values, shown
from schemas.batch import Basis, Job
from schemas.ids import derive

NATIONAL = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)
SEPARATORS = st.sampled_from(["", "", "", " ", "-", "\u2009", "\u3000", "\u2013"])
RULES = RowRules({"acme", "globex", "weixin"})


def row(**values: str) -> Row:
    """Return the row of these values, the rest good or left out."""
    return RULES.row(7, values_of(values))


def values_of(values: dict[str, str]) -> Values:
    """Return values in the order of the columns."""
    good = {"number": "13800001234", "cutoff_at": "2026-01-31"}
    return cast("Values", tuple((good | values).get(name, "") for name in COLUMNS))


def problem_of(**values: str) -> RowProblem:
    """Return why these values are refused."""
    with pytest.raises(RowProblem) as caught:
        row(**values)
    return caught.value


def refused(values: dict[str, str]) -> RowProblem | None:
    """Return why these values are refused, or None where they are not."""
    try:
        row(**values)
    except RowProblem as problem:
        return problem
    return None


def plain_digits(text: str) -> str:
    """Return the digits of a text, in any script, and nothing else."""
    return "".join(str(unicodedata.digit(char)) for char in text if unicodedata.digit(char, None) is not None)


@st.composite
def spellings(draw: st.DrawFn, national: str) -> str:
    """Write a number as people do: country code, separators, full-width digits."""
    digits = "".join(draw(SEPARATORS) + digit for digit in national[1:])
    text = draw(st.sampled_from(["", "+86", "86", "0086", "+86 ", "(+86)"])) + national[0] + digits
    if draw(st.booleans()):
        text = text.translate({ord(str(i)): chr(0xFF10 + i) for i in range(10)})
    return text[:40]


def test_only_number_and_cutoff_are_needed() -> None:
    """The defaults are those of the house plan."""
    expected = Row(
        line=7,
        number="+8613800001234",
        cutoff_at="2026-01-31T00:00:00+08:00",
        reference="",
        basis=Basis.PLANNED_RELEASE,
        cycle="2026-01-31",
        platforms=None,
    )
    assert expected == row()


@given(st.data())
def test_every_spelling_of_a_number_gives_one_row(data: st.DataObject) -> None:
    """Separators, country code and full-width digits do not make another case."""
    national = data.draw(NATIONAL)
    assert f"+86{national}" == row(number=data.draw(spellings(national))).number


@pytest.mark.parametrize(
    ("given_text", "expected", "day"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+08:00", "2026-01-31"),
        (" 2026-01-31 ", "2026-01-31T00:00:00+08:00", "2026-01-31"),
        ("20260131", "2026-01-31T00:00:00+08:00", "2026-01-31"),
        ("2026-01-31T10:20:30+08:00", "2026-01-31T10:20:30+08:00", "2026-01-31"),
        ("2026-01-31 10:20+08:00", "2026-01-31T10:20:00+08:00", "2026-01-31"),
        ("2026-01-31T20:00:00Z", "2026-01-31T20:00:00+00:00", "2026-02-01"),
        ("2026-01-31T10:20:30.999999-05:00", "2026-01-31T10:20:30-05:00", "2026-01-31"),
        ("2000-01-01", "2000-01-01T00:00:00+08:00", "2000-01-01"),
        ("2099-12-31T23:59:59+08:00", "2099-12-31T23:59:59+08:00", "2099-12-31"),
    ],
)
def test_a_cutoff_keeps_its_offset_and_loses_its_fraction(given_text: str, expected: str, day: str) -> None:
    """The default cycle is its day in Shanghai; a batch takes it as it is."""
    found = row(cutoff_at=given_text)
    assert (expected, day) == (found.cutoff_at, found.cycle)
    assert expected == Job(case=derive("x"), cutoff_at=found.cutoff_at, basis=found.basis).cutoff_at


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "missing"),
        ("  ", "missing"),
        ("2026-01-31T00:00:00", "without its offset"),
        ("2026-02-30", "expected a date"),
        ("31.01.2026", "expected a date"),
        ("2026-01-31T25:00:00+08:00", "expected a date or an instant"),
        ("1999-12-31", "a year from 2000 to 2099"),
        ("2100-01-01T00:00:00Z", "a year from 2000 to 2099"),
        ("0001-01-01T00:00:00+14:00", "a year from 2000 to 2099"),
        ("2026-01-31T00:00:00+23:00", "at most 14 hours"),
        ("2026-01-31T00:00:00+08:00:30", "whole minutes"),
        ("13800001234", "expected a date"),
    ],
)
def test_a_cutoff_that_could_be_misread_is_refused(text: str, said: str) -> None:
    """An instant decides whose binding it is: nothing is guessed."""
    problem = problem_of(cutoff_at=text)
    assert "cutoff_at" == problem.field
    assert said in problem.problem


@pytest.mark.parametrize(
    ("values", "cycle"),
    [
        ({"cycle": "2026-A.1_x:y"}, "2026-A.1_x:y"),
        ({"cycle": " c1 ", "deactivated_on": "2025-10-01"}, "c1"),
        ({"cycle": " ", "deactivated_on": "2025-10-01"}, "2025-10-01"),
        ({"deactivated_on": "20251001"}, "2025-10-01"),
        ({"deactivated_on": " "}, "2026-01-31"),
    ],
)
def test_the_cycle_is_given_or_comes_from_a_date(values: dict[str, str], cycle: str) -> None:
    """Text, else the day of deactivation, else the cut-off's day; one day has one spelling."""
    assert cycle == row(**values).cycle


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({"number": ""}, "number", "missing"),
        ({"number": "010-12345678"}, "number", "fixed line"),
        ({"basis": "because"}, "basis", "expected planned_release or new_owner_activation"),
        ({"deactivated_on": "yesterday"}, "deactivated_on", "expected a date"),
        ({"deactivated_on": "2025-10-01T00:00:00Z"}, "deactivated_on", "expected a date"),
        ({"deactivated_on": "1925-10-01"}, "deactivated_on", "a year from"),
        ({"cycle": "a b"}, "cycle", "at most 40 of"),
        ({"cycle": "x" * 41}, "cycle", "at most 40 of"),
        ({"cycle": "13900005678"}, "cycle", "must not hold a phone number"),
        ({"reference": "x" * 65}, "reference", "at most 64 printable characters"),
        ({"reference": "a\nb"}, "reference", "at most 64 printable characters"),
        ({"reference": "a\x1bb"}, "reference", "at most 64 printable characters"),
        ({"platforms": "acme;weixim"}, "platforms", "unknown platform weixim; did you mean weixin?"),
        ({"platforms": "zzzzzzz"}, "platforms", "unknown platform zzzzzzz"),
        ({"platforms": "13800001234"}, "platforms", "unknown platform 138****34"),
        ({"number": "x", "basis": "because"}, "number", "not a phone number"),
    ],
)
def test_a_bad_field_is_named_with_what_was_expected(values: dict[str, str], field: str, said: str) -> None:
    """The first field in the order of the columns is enough."""
    problem = problem_of(**values)
    assert field == problem.field
    assert said in problem.problem


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", None), (" ; ", None), ("acme", ("acme",)), (" globex ;acme;; globex", ("globex", "acme"))],
)
def test_platforms_keep_their_order_and_come_once(text: str, keys: tuple[str, ...] | None) -> None:
    """Nothing named means all of them."""
    assert keys == row(platforms=text).platforms


@pytest.mark.parametrize(
    "reference",
    [
        "R-000123",
        "工单 2026-01-31 第7号",
        "20260131000123",
        "1735689600000",
        "7212345678901234567",
        "1381234567890123456",
        "550e8400-e29b-41d4-a716-446655440000",
        "550e8400e29b13812345678a716abcde",
        "2026-01-31/00012345",
        "x" * 64,
    ],
)
def test_an_ordinary_reference_is_kept(reference: str) -> None:
    """Dates, serial numbers and UUIDs are no phone numbers, even where eleven of their digits look like one."""
    assert reference == row(reference=f" {reference} ").reference


@pytest.mark.parametrize(
    "reference",
    [
        "13900005678",
        "+86 139 0000 5678",
        "order13900005678",
        "13900005678-2026",
        "2026-139-0000-5678",
        "a 008613900005678 b",
        "1795113900005678",
        "+86(0)13900005678",
        "1390000567 8;",
        "no. 139_0000_5678",
        "１３９００００５６７８",
        "139\u20130000\u20135678",
        "13800001234",
        "202613800001234",
        "1-3-8-0-0-0-0-1-2-3-4",
        "1380000x1234",
        "٠13800001234",
    ],
)
def test_a_reference_with_a_phone_number_is_refused(reference: str) -> None:
    """It is echoed in every report; the row's own number is found wherever it hides."""
    problem = problem_of(reference=reference)
    assert ("reference", "a reference must not hold a phone number") == (problem.field, problem.problem)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("13800001234", "138****34"),
        ("138-0000-1234", "138-****-**34"),
        ("１３８ ００００ １２３４", "１３８ **** **３４"),
        ("一三八零零零零一二三四", "一三八****三四"),
        ("138x0000y1234", "138x****y**34"),
        ("123456", "123456"),
        ("2026-02-30", "2026-02-30"),
        ("2026/02/30 25:61", "2026/02/30 25:61"),
        ("a\nb\x1b[0m", "a·b·[0m"),
        ("x" * 41, "x" * 39 + "…"),
        ("9" * 100_000, "999****99"),
    ],
)
def test_a_shown_value_is_short_masked_and_printable(value: str, expected: str) -> None:
    """Seven digits or more are hidden whatever stands between them; a date stays readable."""
    assert expected == shown(value)


@given(st.data())
def test_no_rejection_ever_shows_a_full_number(data: st.DataObject) -> None:
    """Wherever the number was put, and however it was written."""
    national = data.draw(NATIONAL)
    name = data.draw(st.sampled_from(COLUMNS))
    around = st.text(st.characters(exclude_categories=["Nd", "Nl", "No", "Cs"]), max_size=10)
    text = data.draw(around) + data.draw(spellings(national)) + data.draw(around)
    problem = refused({name: text})
    if problem is None:
        assert ("number", f"+86{national}") == (name, row(number=text).number)
        return
    value = shown(problem.value)
    assert national not in plain_digits(f"{problem.problem} {value} {problem}")
    assert 40 >= len(value)


@given(st.dictionaries(st.sampled_from(COLUMNS), st.text(max_size=70)))
def test_no_text_raises_anything_but_a_row_problem(values: dict[str, str]) -> None:
    """Also texts that no file would hold."""
    problem = refused(values)
    assert problem is None or problem.field in COLUMNS
