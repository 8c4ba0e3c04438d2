"""What commands print for other programs."""

import pytest

from ops.cli.output import Format, emit


def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(capsys: pytest.CaptureFixture[str]) -> None:
    """A platform's sentence ends in somebody's spreadsheet; a number below nought stays a number."""
    emit([{"detail": "=1+1", "left": -3}, {"detail": "plain"}], fields=("detail", "left"), output=Format.CSV)
    assert ["detail,left", "'=1+1,-3", "plain,"] == capsys.readouterr().out.splitlines()
