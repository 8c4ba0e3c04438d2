"""Doing a thing twice gives the same name, and no two things share one."""

import hashlib
import re
from base64 import b32encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import ID_PATTERN, PLATFORM_PATTERN, case_id, derive, job_id, new_id, split_job_id

CASE = st.from_regex(ID_PATTERN, fullmatch=True)
PLATFORM = st.from_regex(PLATFORM_PATTERN, fullmatch=True)
# What operators and tokens are made of: no control characters.
PART = st.text(st.characters(min_codepoint=32, codec="utf-8"), max_size=20)


def test_names_never_change_from_release_to_release() -> None:
    """Platforms remember these names for years: a change would be a second effect."""
    assert "tncvq76oc27shom4xusbkptu3m" == derive("case", "operator", "token", "2026-03-01")


@given(parts=st.lists(PART, min_size=1, max_size=4))
def test_a_derived_name_has_the_form_of_an_id_and_is_repeatable(parts: list[str]) -> None:
    """The name depends on nothing but its parts."""
    assert re.fullmatch(ID_PATTERN, derive(*parts))
    assert derive(*parts) == derive(*parts)


@given(parts=st.lists(PART, min_size=1, max_size=4))
def test_a_derived_name_is_the_base32_of_a_digest(parts: list[str]) -> None:
    """Another program can derive the same names with what its standard library has."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()[:16]
    assert b32encode(digest).decode().rstrip("=").lower() == derive(*parts)


@given(first=st.lists(PART, min_size=1, max_size=4), second=st.lists(PART, min_size=1, max_size=4))
def test_other_parts_give_another_name(first: list[str], second: list[str]) -> None:
    """Where one part ends and the next begins belongs to the name."""
    assert (first == second) == (derive(*first) == derive(*second))


@pytest.mark.parametrize("field", ["operator", "number_token", "cycle"])
def test_a_case_is_one_operator_one_number_and_one_cycle(field: str) -> None:
    """The same number recycled next year is another case."""
    same = {"operator": "a", "number_token": "b", "cycle": "c"}
    assert case_id(**same) == case_id(**same)
    assert case_id(**same) != case_id(**same | {field: "z"})


@given(case=CASE, platform=PLATFORM)
def test_a_job_id_splits_into_what_it_was_made_of(case: str, platform: str) -> None:
    """A platform's answer leads back to the case."""
    assert (case, platform) == split_job_id(job_id(case, platform))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.b",
        f"{'a' * 26}",
        f"{'a' * 26}.",
        f"{'a' * 26}.-x",
        f"{'A' * 26}.x",
        f"{'a' * 26}.x\n",
        "13800001234",
    ],
    ids=repr,
)
def test_anything_else_is_no_job_id(text: str) -> None:
    """An id that a platform made up leads nowhere."""
    with pytest.raises(ValueError, match="a case id, a dot and a platform key"):
        split_job_id(text)


def test_what_happens_once_gets_a_name_of_its_own() -> None:
    """A run, an event and a lease never share a name."""
    names = {new_id() for _ in range(1000)}
    assert 1000 == len(names)
    assert all(re.fullmatch(ID_PATTERN, name) for name in names)
