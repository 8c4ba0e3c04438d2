"""Templates into pages: escaped by default, strict about what is missing, with the few words every template needs."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined

from ops.console import shown
from ops.console.look import LANGUAGE_COOKIE, THEMES, Look
from ops.console.place import PREFIX
from ops.console.words import LANGUAGES

_STATIC: Final = Path(__file__).parent / "static"


def draw(template: str, *, look: Look, request: Request, **values: Any) -> str:
    """Return a template filled. Raises UndefinedError for a value that is not given."""
    own: dict[str, Any] = {
        "t": look.say,
        "word": look.word,
        "look": look,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "path": request.url.path.removeprefix(PREFIX),
        "environment": request.app.state.door.backends.settings.namespace,
        "clock_now": request.app.state.door.backends.clock.now(),
        **_in_language(look.language),
    }
    return _templates().get_template(template).render(own | values)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("ops.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.globals |= {"prefix": PREFIX, "asset": _asset, "LANGUAGES": LANGUAGES, "THEMES": THEMES}
    made.globals["LANGUAGE_COOKIE"] = LANGUAGE_COOKIE
    made.filters |= {
        "count": shown.count, "short": shown.short, "share": shown.share, "mask": shown.masked, "clock": shown.clock,
        "iso": shown.iso, "line": shown.line, "tone": shown.tone, "gate_tone": shown.gate_tone, "ms": shown.latency,
        "instant": shown.instant,
    }  # fmt: skip
    return made


def _in_language(language: str) -> dict[str, Callable[..., str]]:
    """Return the functions whose text depends on the language."""
    return {
        "duration": lambda seconds: shown.duration(seconds, language=language),
        "ago": lambda instant, now: shown.ago(instant, now, language=language),
    }


@cache
def _asset(name: str) -> str:
    digest = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]
    return f"{PREFIX}/static/{name}?v={digest}"
