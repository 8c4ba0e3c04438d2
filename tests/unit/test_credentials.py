"""Secrets are read when a process starts: each one missing is named, and none is shown."""

from pathlib import Path

import pytest

from platforms.catalogue import Catalogue
from schemas.errors import ConfigurationError
from tests.answers import CALLBACK, OLD_SECRET, SECRET
from tests.command import write_platform
from workers.credentials import callback_keys_of, check_secrets, credentials_of

PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Alpha is called with a token and calls back, beta does neither."""
    auth = {"scheme": "bearer", "token": "env:ALPHA_TOKEN"}
    write_platform(tmp_path, "alpha", auth=auth, callback=CALLBACK)
    write_platform(tmp_path, "beta")
    return Catalogue.load(tmp_path)


def test_calls_and_callbacks_have_secrets_of_their_own(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker needs none of a callback, the console none of a call; both are checked before anything is started."""
    monkeypatch.setenv("ALPHA_TOKEN", "t0ken")
    assert {"alpha": ("t0ken",), "beta": ()} == credentials_of(catalogue)
    with pytest.raises(ConfigurationError, match=r"alpha: .*ALPHA_CALLBACK"):
        check_secrets(catalogue)
    monkeypatch.delenv("ALPHA_TOKEN")
    monkeypatch.setenv("ALPHA_CALLBACK", SECRET)
    monkeypatch.setenv("ALPHA_CALLBACK_OLD", OLD_SECRET)
    assert {"alpha": (SECRET, OLD_SECRET)} == callback_keys_of(catalogue)
    with pytest.raises(ConfigurationError, match=r"alpha: .*ALPHA_TOKEN"):
        check_secrets(catalogue)
    monkeypatch.setenv("ALPHA_TOKEN", "t0ken")
    check_secrets(catalogue)


def test_a_public_key_is_enough_to_check_with(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a platform goes from v1 to v1a there is one of each."""
    monkeypatch.setenv("ALPHA_CALLBACK", PUBLIC)
    monkeypatch.setenv("ALPHA_CALLBACK_OLD", SECRET)
    assert {"alpha": (PUBLIC, SECRET)} == callback_keys_of(catalogue)


@pytest.mark.parametrize("wrong", ["whsec_", "whpk_c2hvcnQ=", "not base64 at all!"])
def test_what_is_no_key_is_named_and_not_shown(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """It would be found out at the first callback, at night."""
    monkeypatch.setenv("ALPHA_CALLBACK", wrong)
    monkeypatch.setenv("ALPHA_CALLBACK_OLD", SECRET)
    with pytest.raises(ConfigurationError, match=r"alpha: callback\.secret") as raised:
        callback_keys_of(catalogue)
    assert wrong.removeprefix("whpk_").removeprefix("whsec_") not in str(raised.value) or wrong == "whsec_"
