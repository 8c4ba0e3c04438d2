"""Settings: every wrong variable is named at once, and no message, no repr ever tells a secret."""

from pathlib import Path

import pytest

from backends.bootstrap import load_vault
from backends.settings import Settings, resolve_secret
from backends.vault import new_key_file
from schemas.errors import ConfigurationError

SECRET = "s3cret-that-nobody-may-see"
# variable → (a value that is wrong, a word of what is said about it)
WRONG = {
    "RENEWAL_NAMESPACE": ("Not A Name", "pattern"),
    "RENEWAL_OPERATOR": ("-", "pattern"),
    "RENEWAL_PRIVATE_ENDPOINTS": ("perhaps", "'deny' or 'allow'"),
    "RENEWAL_QUEUE_HIGH_WATER": ("lots", "integer"),
    "RENEWAL_REDIS_URL": ("redis://there:port/0", "port"),
    "RENEWAL_BROKER_URL": ("amqp://guest:guest@there:port//", "port"),
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the settings of whoever runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RENEWAL_{name.upper()}", raising=False)


def test_everything_has_a_default() -> None:
    """One command and no setting is all that a newcomer needs."""
    settings = Settings.load()
    assert settings.embedded
    assert ("renewal", "operator", "deny") == (settings.namespace, settings.operator, settings.private_endpoints)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compose file passes on what the person has left out."""
    for name in Settings.model_fields:
        monkeypatch.setenv(f"RENEWAL_{name.upper()}", "")
    assert Settings() == Settings.load()
    assert Settings.load().embedded


def test_a_variable_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each by its own name."""
    monkeypatch.setenv("RENEWAL_REDIS_URL", "redis://there:6379/0")
    monkeypatch.setenv("RENEWAL_DATA_DIR", str(tmp_path))
    settings = Settings.load()
    assert not settings.embedded
    assert ("redis://there:6379/0", tmp_path) == (settings.redis_url, settings.data_dir)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variable_is_named_with_what_was_expected(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """By the name under which it was set."""
    value, expected = WRONG[name]
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{name}: ")
    assert expected in str(caught.value)


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should have to start five times to find five mistakes."""
    for name, (value, _) in WRONG.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert sorted(WRONG) == sorted(line.partition(":")[0] for line in str(caught.value).splitlines())


@pytest.mark.parametrize("name", ["RENEWAL_REDIS_URL", "RENEWAL_BROKER_URL"])
def test_a_url_with_a_wrong_password_part_is_refused_without_a_word_of_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An unescaped slash makes a port of half the password."""
    monkeypatch.setenv(name, f"redis://:{SECRET}/more@there:6379/0")
    with pytest.raises(ConfigurationError, match=rf"^{name}: .*%2F") as caught:
        Settings.load()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("number", ["9", "1000001", "-1"])
def test_the_high_water_mark_is_bounded(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """No queue without a bound (rule 9)."""
    monkeypatch.setenv("RENEWAL_QUEUE_HIGH_WATER", number)
    with pytest.raises(ConfigurationError, match="RENEWAL_QUEUE_HIGH_WATER"):
        Settings.load()


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback or a log line may print them."""
    for name in ("REDIS_URL", "BROKER_URL"):
        monkeypatch.setenv(f"RENEWAL_{name}", f"redis://:{SECRET}@there:6379/0")
    monkeypatch.setenv("RENEWAL_NUMBER_KEYS", SECRET)
    settings = Settings.load()
    assert SECRET not in f"{settings} {settings!r}"


def test_a_child_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the supervisor has decided holds for its workers, secrets included."""
    monkeypatch.setenv("RENEWAL_NUMBER_KEYS", SECRET)
    monkeypatch.setenv("RENEWAL_QUEUE_HIGH_WATER", "77")
    settings = Settings.load().model_copy(update={"redis_url": "redis://here/0", "data_dir": tmp_path})
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert settings == Settings.load()


# -- secrets of the catalogue -----------------------------------------------------------------------------------------


def test_a_secret_comes_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file is looked for beside the catalogue; the line end that editors add is no part of it."""
    monkeypatch.setenv("ACME_SECRET", SECRET)
    (tmp_path / "acme.secret").write_text(f"{SECRET}\n", encoding="utf-8")
    assert SECRET == resolve_secret("env:ACME_SECRET", folder=tmp_path)
    assert SECRET == resolve_secret("file:acme.secret", folder=tmp_path)
    assert SECRET == resolve_secret(f"file:{tmp_path / 'acme.secret'}", folder=Path("elsewhere"))


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None) -> None:
    """Set but empty is as good as missing: nothing may be signed with an empty key."""
    monkeypatch.delenv("ACME_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("ACME_SECRET", value)
    with pytest.raises(ConfigurationError, match=r"^secret missing: set the environment variable ACME_SECRET$"):
        resolve_secret("env:ACME_SECRET", folder=tmp_path)


def test_a_file_that_cannot_be_used_is_named_and_never_its_content(tmp_path: Path) -> None:
    """Missing, a folder, empty, or not text."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_text(" \n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(SECRET.encode() + b"\xff\xfe")
    for name in ("missing", "folder", "empty", "binary"):
        with pytest.raises(ConfigurationError) as caught:
            resolve_secret(f"file:{name}", folder=tmp_path)
        assert str(caught.value).startswith(f"secret missing: {tmp_path / name} ")
        assert SECRET not in str(caught.value)


# -- the number keys ---------------------------------------------------------------------------------------------------


def test_number_keys_come_from_a_variable_or_a_file(tmp_path: Path) -> None:
    """The same keys give the same tokens, however they came."""
    text, path = new_key_file(), tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    by_value = load_vault(Settings.model_validate({"number_keys": text}))
    by_file = load_vault(Settings(number_keys_file=path))
    assert by_value.token("x") == by_file.token("x")


def test_missing_number_keys_say_how_to_make_them() -> None:
    """Keys made on the spot would be beside the wrong data."""
    with pytest.raises(ConfigurationError, match=r"RENEWAL_NUMBER_KEYS_FILE.*renewal keys create"):
        load_vault(Settings())


def test_unreadable_number_keys_name_their_source_and_no_key(tmp_path: Path) -> None:
    """A missing file, a binary one, and a variable with something else in it."""
    (tmp_path / "binary").write_bytes(SECRET.encode() + b"\xff\xfe")
    for name in ("missing", "binary"):
        with pytest.raises(ConfigurationError) as caught:
            load_vault(Settings(number_keys_file=tmp_path / name))
        assert str(tmp_path / name) in str(caught.value)
        assert SECRET not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"^RENEWAL_NUMBER_KEYS: line 1: ") as wrong:
        load_vault(Settings.model_validate({"number_keys": SECRET}))
    assert SECRET not in str(wrong.value)


def test_a_setting_that_is_taken_away_does_not_reach_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler of `renewal run` must not sweep, although the environment names a folder of sweeps."""
    monkeypatch.setenv("RENEWAL_SWEEPS", "sweeps")
    monkeypatch.setenv("ACME_SECRET", "hush")
    settings = Settings.load()
    assert "sweeps" == settings.environment()["RENEWAL_SWEEPS"]
    child = settings.model_copy(update={"sweeps": None}).environment()
    assert "RENEWAL_SWEEPS" not in child
    assert "hush" == child["ACME_SECRET"]
