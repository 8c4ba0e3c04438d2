"""`renewal bench` leads to the benchmark where there is one, and says so where there is none."""

import os
import sys
from pathlib import Path

import pytest

from ops.bench import CHECKOUT, become_bench
from schemas.errors import Refused


def test_an_installation_without_the_benchmark_says_where_it_is(tmp_path: Path) -> None:
    """A wheel holds the product alone; who calls the command there must learn what to do."""
    with pytest.raises(Refused, match="check the project out"):
        become_bench([], checkout=tmp_path)


def test_the_command_becomes_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals, output and exit code are the benchmark's own, wherever the command was called."""
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: calls.append((path, words)))
    monkeypatch.setattr(os, "chdir", lambda path: calls.append((str(path), [])))
    become_bench(["bulk", "--rounds=1"])
    assert [
        (str(CHECKOUT), []),
        (sys.executable, [sys.executable, "-m", "benchmarks", "bulk", "--rounds=1"]),
    ] == calls
