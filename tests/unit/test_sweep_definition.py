"""Definitions of sweeps: what is wrong is named by file and field, and times are those of the zone."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml

from producers.sweep_definition import Definition, Definitions, Files
from schemas.errors import ConfigurationError, NotFound

GOOD = {
    "name": "nightly",
    "inventory": {"folder": "inventory", "pattern": "pool-{day}.csv"},
    "at": "22:30",
    "days_before_release": 7,
    "catch_up": {"rule": "newest", "until": "06:00"},
}
DAY = date(2026, 11, 26)


def write(folder: Path, file: str = "nightly", /, **fields: object) -> Path:
    """Write one definition; `fields` replace its own."""
    (folder / f"{file}.yaml").write_text(yaml.safe_dump(GOOD | fields), encoding="utf-8")
    return folder


def test_a_definition_is_read(tmp_path: Path) -> None:
    """What the page says is what is understood."""
    found = Definitions.load(write(tmp_path)).get("nightly")
    assert ("Asia/Shanghai", "CN", None) == (found.zone, found.country, found.platforms)
    assert isinstance(found.inventory, Files)
    assert tmp_path / "inventory" / "pool-2026-11-26.csv" == found.inventory.file(DAY, beside=tmp_path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"name": "other"}, "name: is 'other', expected the file's name 'nightly'"),
        ({"at": 1350}, "at: Value error, expected a time in quotes"),
        ({"at": "22:30+08:00"}, "at: Value error, a time on the clock of the sweep's zone"),
        ({"zone": "Mars/Olympus"}, "zone: Value error, expected a name of the time zone database"),
        ({"country": "XX"}, "country: Value error, expected one of CN, KR, IN, US"),
        ({"days_before_release": 91}, "days_before_release: Input should be less than or equal to 90"),
        ({"catch_up": {"rule": "all"}}, "catch_up.rule: Input should be 'newest' or 'none'"),
        ({"catch_up": {"rule": "newest"}}, "catch_up: Value error, until: missing"),
        ({"catch_up": {"rule": "none", "until": "06:00"}}, "catch_up: Value error, until: only with rule newest"),
        ({"inventory": {"folder": "x"}}, "inventory: Value error, folder and pattern belong together"),
        ({"inventory": {}}, "inventory: Value error, expected path, or folder and pattern"),
        ({"inventory": {"folder": "x", "pattern": "{night}.csv"}}, "inventory: Value error, pattern: expected a name"),
        ({"inventory": {"url": "postgresql://user:pw@db", "query": "q"}}, "inventory.url: String should match"),
        ({"platforms": []}, "platforms: Tuple should have at least 1 item"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_field(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    """Nobody should have to guess which of ten files holds the typing error; a secret is never repeated."""
    with pytest.raises(ConfigurationError) as caught:
        Definitions.load(write(tmp_path, **fields))
    assert f"{tmp_path}/nightly.yaml: {said}" in str(caught.value)
    assert "user:pw" not in str(caught.value)


def test_all_wrong_files_are_named_at_once(tmp_path: Path) -> None:
    """Who mends one should not meet the next by starting again."""
    write(tmp_path, at="25:00")
    write(tmp_path, "second", name="second", country="XX")
    with pytest.raises(ConfigurationError, match=r"(?s)nightly\.yaml: at: .*second\.yaml: country: "):
        Definitions.load(tmp_path)


def test_a_file_that_is_no_yaml_and_a_folder_that_is_none_are_named(tmp_path: Path) -> None:
    """The message says where to look."""
    (tmp_path / "broken.yaml").write_text("name: [", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"broken\.yaml: not YAML: line 1"):
        Definitions.load(tmp_path)
    with pytest.raises(ConfigurationError, match="RENEWAL_SWEEPS"):
        Definitions.load(tmp_path / "none")


def test_a_sweep_that_is_not_there_is_not_found_by_the_names_that_are(tmp_path: Path) -> None:
    """A typing error in a command is seen at once."""
    with pytest.raises(NotFound, match=r"no sweep 'nigthly' .* there are: nightly"):
        Definitions.load(write(tmp_path)).get("nigthly")


def test_a_night_begins_by_the_wall_clock_of_its_zone() -> None:
    """22:30 in Shanghai is 14:30 UTC; and it may begin late until the next morning."""
    definition = Definition.model_validate(GOOD)
    assert datetime(2026, 11, 26, 14, 30, tzinfo=UTC) == definition.start(DAY)
    assert datetime(2026, 11, 26, 22, 0, tzinfo=UTC) == definition.begins_until(DAY)


def test_a_zone_with_summer_time_keeps_its_wall_clock() -> None:
    """The operator's night begins at half past ten, in summer as in winter."""
    definition = Definition.model_validate(GOOD | {"zone": "America/New_York", "country": "US"})
    assert [2, 3] == [definition.start(day).hour for day in (date(2026, 7, 1), date(2026, 12, 1))]


def test_a_night_that_must_not_be_late_has_a_quarter_of_an_hour() -> None:
    """A scheduler that is just being restarted must not cost a night."""
    definition = Definition.model_validate(GOOD | {"catch_up": {"rule": "none"}})
    assert datetime(2026, 11, 26, 14, 45, tzinfo=UTC) == definition.begins_until(DAY)
