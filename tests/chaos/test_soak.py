from pathlib import Path

from tests.chaos.soak import soak


def test_a_short_soak_is_clean(tmp_path: Path) -> None:
    """The long one runs for hours somewhere else: that it still works, and still finds nothing, is seen here."""
    score = soak(tmp_path, seconds=8, seed=15, open_max=50, settle_s=70)
    assert score.clean, "\n".join(score.lines())
