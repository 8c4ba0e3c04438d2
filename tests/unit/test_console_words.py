"""The words of the console, and values as its pages show them."""

import re
from string import Formatter

import pytest

from ops.console.words import LANGUAGES, negotiated, words


def test_both_languages_have_the_same_words() -> None:
    """A page must not fall into the other language, or fall over."""
    first, *others = (words(language) for language in LANGUAGES)
    for other in others:
        assert first.keys() == other.keys()


def test_a_word_takes_the_same_values_in_both_languages() -> None:
    """A translation that forgets a count says something else."""
    taken = [
        {key: sorted(name for _, name, _, _ in Formatter().parse(text) if name) for key, text in words(each).items()}
        for each in LANGUAGES
    ]
    assert taken[0] == taken[1]


def test_chinese_is_chinese() -> None:
    """A text that was copied and never translated is found here."""
    values = re.compile(r"\{[a-z_]+\}")
    same = [key for key, text in words("zh").items() if text == words("en")[key]]
    assert [] == [key for key in same if re.search(r"[a-z]{4}", values.sub("", words("en")[key]))]


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr,de;q=0.5", "en"),
        ("zh;q=0.2,en;q=0.7", "en"),
        ("zh;q=0,en;q=0.1", "en"),
        ("zh;q=x", "en"),
        ("", "en"),
    ],
)
def test_the_browser_s_favourite_language_is_spoken(accept: str, language: str) -> None:
    """Nobody has to look for a switch in a language that they do not read."""
    assert language == negotiated(accept)
