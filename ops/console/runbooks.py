"""The runbooks as pages, so that an alert leads to what to do about it."""

import re
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.responses import Response

from ops.console.place import PREFIX
from ops.console.visitor import Reader
from schemas.errors import NotFound

router = APIRouter()
_HERE: Final = Path(__file__).parent
# Beside us in an image (see the Dockerfile), else where they are written.
FOLDERS: Final = (_HERE / "runbooks", _HERE.parents[1] / "docs" / "runbooks")
_OURS: Final = re.compile(r"(?:\./)?([a-z0-9_-]+)\.md(#[\w-]+)?")


@router.get("/runbooks/{name}")
def one(name: str, visitor: Reader) -> Response:
    """Show one runbook; they are written in English."""
    return visitor.page("runbook.html.j2", name=name, text=Markup(runbook(name)))  # noqa: S704 - our own file


@cache
def runbook(name: str) -> str:
    """Return a runbook as HTML. Raises NotFound."""
    paths = {path.stem: path for folder in reversed(FOLDERS) for path in sorted(folder.glob("*.md"))}
    if name not in paths:
        raise NotFound("there is no such runbook here; all of them are in docs/runbooks/ of the project")
    # HTML inside a file is shown as text: a page holds nothing that we have not drawn.
    reader = MarkdownIt("commonmark", {"html": False})
    tokens = reader.parse(paths[name].read_text(encoding="utf-8"))
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _leads(str(child.attrGet("href")), paths))
    return str(reader.renderer.render(tokens, reader.options, {}))


def _leads(href: str, known: dict[str, Path]) -> str:
    """Return where a link of a runbook leads here; one to another document leads to the list."""
    found = _OURS.fullmatch(href)
    name = found[1] if found and found[1] in known else "README"
    return f"{PREFIX}/runbooks/{name}"
