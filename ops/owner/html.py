"""Draws the owner's page. One answer is all of it: style inside, no script, no picture, nothing from elsewhere."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ops.owner.view import Line, OwnerView
from ops.owner.words import WORDS, group_name

_STYLE: Final = "owner.css"


class OwnerHtml:
    """Draws pages in one of the languages; safe to use from many threads."""

    def __init__(self) -> None:
        self._pages = Environment(
            loader=PackageLoader("ops.owner"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        source, *_ = PackageLoader("ops.owner").get_source(self._pages, _STYLE)
        self._style = Markup(source)  # noqa: S704 - a file of ours
        digest = b64encode(hashlib.sha256(source.encode()).digest()).decode()
        style = f"style-src 'sha256-{digest}'"
        self.policy = f"default-src 'none'; {style}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

    def page(self, view: OwnerView, *, language: str, token: str) -> str:
        """Return the page of a case."""
        words = WORDS[language]
        return self._draw(
            "owner.html.j2", language=language, words=words, view=view, token=token,
            other="en" if language == "zh" else "zh", action=f"/o/{token}/withdraw?lang={language}",
            day=partial(_day, language=language), group_name=partial(group_name, words),
        )  # fmt: skip

    def said(self, what: str, *, language: str) -> str:
        """Return a page that says one thing: that a link is `gone`, or that visits come too fast (`slow`)."""
        return self._draw("said.html.j2", language=language, words=WORDS[language], what=what)

    def _draw(self, name: str, **values: Any) -> str:
        return self._pages.get_template(name).render(style=self._style, **values)


def _day(day: date, *, language: str) -> str:
    if language == "zh":
        return f"{day.year} 年 {day.month} 月 {day.day} 日"
    return f"{day.day} {day:%B %Y}"


def as_data(view: OwnerView, *, language: str) -> dict[str, Any]:
    """Return the same as data, in the same words."""
    words = WORDS[language]
    return {
        "number": view.number,
        "asked_on": view.asked_on.isoformat(),
        "promised_by": view.promised_by.isoformat(),
        "provisional": view.provisional,
        "sum": view.sum.value,
        "says": words[f"sum_{view.sum}"],
        "groups": [
            {
                "group": group.key,
                "name": group_name(words, group.key),
                "platforms": group.platforms,
                "standing": group.standing.value,
                "says": words[group.standing.value],
                "lines": [_line(line, words, language=language) for line in group.lines],
            }
            for group in view.groups
        ],
    }


def _line(line: Line, words: Mapping[str, str], *, language: str) -> dict[str, Any]:
    return {
        "name": getattr(line.name, language),
        "standing": line.standing.value,
        "says": words[line.standing.value],
        "turn": line.turn.value if line.turn else None,
        "remedy": getattr(line.remedy, language) if line.remedy else None,
    }
