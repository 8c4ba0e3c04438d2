"""The names of log events are a closed list: who searches the logs can count on it."""

import ast
import re
from pathlib import Path

from backends.log import EVENTS

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "platforms", "backends", "producers", "workers", "ops", "simulator")
VERBS = {"debug", "info", "warning", "error", "exception", "critical"}
PRIVATE = re.compile(r"\b(number|numbers|sealed|secret|token|body|credentials)\b")


def calls() -> list[tuple[str, ast.Call]]:
    """Return every call of our structured logger, with where it stands."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                if node.func.attr in VERBS and isinstance(node.func.value, ast.Name) and node.func.value.id == "log":
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


def name_of(call: ast.Call) -> str:
    """Return the event's name; it must be written out."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else "?"


def test_every_event_that_is_logged_is_on_the_list() -> None:
    """An event under a new name would be missed by every search."""
    assert [] == [f"{place} {name_of(call)}" for place, call in calls() if name_of(call) not in EVENTS]


def test_every_event_on_the_list_is_logged() -> None:
    """A name that nothing writes is waited for in vain."""
    assert set(EVENTS) == {name_of(call) for _, call in calls()}


def test_no_event_carries_a_field_that_could_hold_a_number_or_a_secret() -> None:
    """Logs leave the house (rule 8)."""
    assert [] == [
        f"{place} {keyword.arg}"
        for place, call in calls()
        for keyword in call.keywords
        if PRIVATE.search(keyword.arg or "")
    ]


def test_the_operator_can_read_what_each_event_means() -> None:
    """`docs/operate.md` lists them all."""
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    assert [] == [name for name in EVENTS if f"| `{name}` |" not in page]
