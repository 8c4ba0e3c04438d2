"""The words of the console: one catalogue a language, a folder of YAML files each, with the same keys in both."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import yaml

LANGUAGES: Final = ("en", "zh")
_FOLDER: Final = Path(__file__).parent / "words"


@cache
def words(language: str) -> Mapping[str, str]:
    """Return every text of a language by its key. Raises ValueError where two files hold the same key."""
    found: dict[str, str] = {}
    for path in sorted((_FOLDER / language).glob("*.yaml")):
        part: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
        if twice := found.keys() & part.keys():
            raise ValueError(f"{path.name}: {', '.join(sorted(twice))} stands in another file too")
        found |= part
    return found


def said(language: str, key: str, **values: object) -> str:
    """Return a text in a language with its values. Raises KeyError for a key that no catalogue has."""
    return words(language)[key].format(**values)


def negotiated(accept: str) -> str:
    """Return the language that an Accept-Language header (RFC 9110, 12.5.4) likes best; English if it names none."""
    liked = []
    for place, part in enumerate(accept.split(",")):
        tag, _, quality = part.strip().partition(";q=")
        language = tag.split("-")[0].lower()
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        if language in LANGUAGES and weight > 0:
            liked.append((-weight, place, language))
    return min(liked)[2] if liked else LANGUAGES[0]
