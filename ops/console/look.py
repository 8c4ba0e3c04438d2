"""How somebody likes the pages: language and theme, kept in cookies that hold nothing else."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from ops.console.words import LANGUAGES, negotiated, said, words

LANGUAGE_COOKIE: Final = "renewal_language"
THEME_COOKIE: Final = "renewal_theme"
THEMES: Final = ("auto", "light", "dark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Language and theme of one request."""

    language: str
    theme: str

    def say(self, key: str, **values: object) -> str:
        """Return a text in this language."""
        return said(self.language, key, **values)

    def word(self, family: str, key: object) -> str:
        """Return the word for a member of a list; its key where the list has grown and its word is still to come."""
        return words(self.language).get(f"{family}.{key}", str(key))


def look_of(request: Request) -> Look:
    """Return what was chosen, else what the browser likes."""
    language, theme = request.cookies.get(LANGUAGE_COOKIE), request.cookies.get(THEME_COOKIE)
    return Look(
        language=language if language in LANGUAGES else negotiated(request.headers.get("accept-language", "")),
        theme=theme if theme in THEMES else THEMES[0],
    )


TheLook = Annotated[Look, Depends(look_of)]
