"""The command in a folder of its own, for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Renewal


@pytest.fixture
def renewal(tmp_path: Path) -> Iterator[Renewal]:
    """The command with an empty HOME and without settings; what it left running is ended with the test."""
    command = Renewal(tmp_path / "clean")
    yield command
    command.kill_leftovers()
