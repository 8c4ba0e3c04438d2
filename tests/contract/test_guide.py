"""docs/integrate.md: what it shows works as it stands there, and it names what the kit checks."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    """Return the one block of commands in which these words stand."""
    (found,) = [str(text) for text in re.findall(r"^```\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if mark in text]
    return found


@pytest.mark.parametrize(("change", "good"), [("", True), ("2432232314", False)])
def test_a_v1a_signature_is_checked_by_the_commands_of_the_guide(tmp_path: Path, change: str, good: bool) -> None:
    """Who has no library checks one call by hand and knows that key and bytes are right; a changed body fails."""
    assert shutil.which("openssl"), "the guide uses openssl"
    commands = block("openssl pkeyutl -verify")
    commands = commands.replace(change, "2432232315") if change else commands
    done = subprocess.run(["sh", "-c", commands], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert good is (done.returncode == 0), done.stderr
    assert good is ("Signature Verified Successfully" in done.stdout)
