"""`renewal forecast`: a night before it begins, on an idle system."""

import json
from pathlib import Path

from backends.embedded import EmbeddedValkey
from backends.vault import new_key_file, write_key_file
from schemas.ids import new_id
from tests.command import Renewal, write_platform


def test_a_night_is_foreseen_at_the_command_line(renewal: Renewal, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """1,000 numbers, 600 a day at one platform: 400 are left, because of its quota, and their release is at risk."""
    write_platform(tmp_path / "catalogue", "alpha", limits={"jobs_per_day": 600})
    write_platform(tmp_path / "catalogue", "beta")
    write_key_file(tmp_path / "number-keys", new_key_file())
    renewal.settings |= {
        "RENEWAL_REDIS_URL": valkey.url,
        "RENEWAL_NAMESPACE": f"t{new_id()}",
        "RENEWAL_NUMBER_KEYS_FILE": str(tmp_path / "number-keys"),
        "RENEWAL_CATALOGUE": str(tmp_path / "catalogue"),
    }
    night = ["forecast", "--numbers", "1000", "--start", "2099-11-03T10:00:00+08:00", "--release", "2099-11-04"]
    done = renewal.run(*night, "-o", "json")
    assert 0 == done.code, done.told
    first, second = json.loads(done.out)
    assert ("alpha", 1000, "2099-11-03T16:00:01Z", 400, "quota") == tuple(first.values())
    assert ("beta", 0, None) == (second["platform"], second["spill"], second["why"])
    assert "2,000 jobs, done 2099-11-03T16:00:01Z; 400 are left after 2099-11-03T10:00:00Z" in done.err
    table = renewal.look(*night)
    assert "at risk" in table.err
    assert "2099-11-04" in table.out
    assert [2, 2, 5] == [
        renewal.look("forecast", *words).code for words in ([], [*night[1:], "--run", "x"], ["--run", "x"])
    ]
