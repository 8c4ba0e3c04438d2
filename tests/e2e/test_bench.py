"""`renewal bench` from its command line to its exit code, on the smallest load that is a real one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from tests.command import COMMAND

ROOT = Path(__file__).parents[2]


def test_a_quick_run_measures_the_real_thing_and_judges_nothing(tmp_path: Path) -> None:
    """It starts every part of the product; that a change of one broke it must not be found out by its users."""
    done = subprocess.run(
        [COMMAND, "bench", "bulk", "--quick", "--rounds", "1", "-o", "json"],
        cwd=tmp_path, capture_output=True, encoding="utf-8", check=False, timeout=110,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout)
    assert (True, None) == (told["quick"], told["holds"])
    bulk = told["scenarios"][0]
    assert ([], "not judged") == (bulk["problems"], bulk["wants"][0]["verdict"])
    assert (2000, 0) == (bulk["figures"]["jobs"]["median"], bulk["figures"]["decided_again"]["median"])
    assert bulk["figures"]["steady_jobs_per_s"]["median"] > 0


def test_a_scenario_that_does_not_exist_is_a_mistake_of_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody who mistypes a name must not believe that all of it has passed."""
    monkeypatch.setattr(sys, "argv", ["renewal bench", "bulky"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert 2 == ended.value.code
    assert "unknown scenario bulky; there are api, bulk, " in capsys.readouterr().err
