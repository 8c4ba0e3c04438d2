"""docs/operate.md and backends/settings.py name the same settings with the same defaults."""

import re
from pathlib import Path

from backends.settings import Settings

DOC = Path(__file__).parents[2] / "docs" / "operate.md"
ROW = re.compile(r"^\| `(RENEWAL_[A-Z_]+)` \| (none|`[^`]+`) \| \S.*\|$", re.MULTILINE)


def section(title: str) -> str:
    """Return one section of the page."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", DOC.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found, f"docs/operate.md has no section {title!r}"
    return found[1]


def test_the_table_names_every_setting_with_its_default() -> None:
    """What can be set is what can be read about, in the same order."""
    of_the_code = [
        (f"RENEWAL_{name.upper()}", "none" if field.default is None else f"`{field.default}`")
        for name, field in Settings.model_fields.items()
    ]
    assert of_the_code == ROW.findall(section("Settings"))


def test_the_table_has_no_row_of_another_form() -> None:
    """A row that the first test cannot read would go unchecked."""
    rows = [line for line in section("Settings").splitlines() if line.startswith("| `")]
    assert len(Settings.model_fields) == len(rows)
