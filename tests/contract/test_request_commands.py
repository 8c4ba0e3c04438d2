"""A person's request at the desk: the same thing as over HTTP, without a number in a command line."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from backends.actions import What
from backends.bootstrap import Backends
from backends.settings import CONSOLE_OFF
from ops.cli.main import app
from schemas.errors import ConfigurationError, InputError, Refused
from schemas.outcome import Hold
from schemas.state import State
from tests.command import write_platform
from tests.letters import record_of


@pytest.fixture(autouse=True)
def environment(backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the commands find the stores of the test and two platforms; what they set up for their log is taken back."""
    for key in ("alpha", "beta"):
        write_platform(tmp_path / "catalogue", key)
    keys = backends.settings.number_keys
    assert keys is not None
    for name, value in {
        "REDIS_URL": backends.settings.redis_url, "NAMESPACE": backends.settings.namespace,
        "NUMBER_KEYS": keys.get_secret_value(), "CATALOGUE": str(tmp_path / "catalogue"),
        "PUBLIC_URL": "https://renewal.example",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"RENEWAL_{name}", str(value))
    yield
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


def call(*arguments: str, stdin: str = "") -> Result:
    """Run one command; what it raises comes through."""
    done = CliRunner().invoke(app, arguments, input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def said(**changed: Any) -> str:
    """A request as a desk's tool writes it."""
    now = datetime.now(UTC)
    body = {
        "number": "13800000001", "cutoff_at": "2026-10-20T10:00:00+08:00",
        "authorisation": {
            "platforms": ["alpha"], "notice_version": "1", "language": "zh", "method": "counter",
            "given_at": now.isoformat(), "expires_at": (now + timedelta(days=9)).isoformat(),
        },
    }  # fmt: skip
    return json.dumps(body | changed)


def test_a_request_is_submitted_followed_and_withdrawn(backends: Backends) -> None:
    """From standard input to the case, its status, the owner's link, and its end."""
    made = json.loads(call("request", "submit", stdin=said()).stdout)
    case = made["case"]
    assert ["alpha"] == made["platforms"]
    assert made["owner"]["url"].startswith("https://renewal.example/o/")
    assert "authorised by its owner (counter, notice 1) until" in call("status", "--case", case).stdout
    assert call("request", "link", case).stdout.startswith("https://renewal.example/o/")
    assert "2 links revoked" in call("request", "revoke-links", case).stderr
    done = call("request", "withdraw", case, "--reason", "changed their mind")
    assert "1 jobs cancelled, 0 platforms to be told" in done.stderr
    found = record_of(backends, case, "alpha")
    assert (State.CANCELLED, Hold.WITHDRAWN) == (found.state, found.reason)
    (shown,) = json.loads(call("status", "--case", case, "-o", "json").stdout)
    assert shown["authorisation"]["withdrawn_by"]
    assert 1 == len(backends.actions.list(what=What.AUTHORISATION_WITHDRAW))


def test_a_wrong_request_is_refused_without_its_values(backends: Backends) -> None:
    """The message names the fields; what stood in them may be a number."""
    with pytest.raises(InputError, match=r"^number: ") as found:
        call("request", "submit", stdin=said(number="1380000000100"))
    assert "13800000001" not in str(found.value)
    with pytest.raises(InputError, match="owner_name: Extra inputs"):
        call("request", "submit", stdin=said(owner_name="somebody"))
    with pytest.raises(InputError, match="Invalid JSON"):
        call("request", "submit", stdin="{")
    with pytest.raises(InputError, match="--reason"):
        call("request", "withdraw", "x", "--reason", " ")
    assert [] == list(backends.runs.newest_first())


def test_another_authorisation_is_refused() -> None:
    """As over HTTP."""
    call("request", "submit", stdin=said())
    with pytest.raises(Refused, match="with another authorisation"):
        call("request", "submit", stdin=said())


def test_nothing_is_taken_for_which_no_link_could_be_made(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A desk that is told of an error must be able to believe that nothing was sent."""
    monkeypatch.delenv("RENEWAL_PUBLIC_URL")
    monkeypatch.setenv("RENEWAL_CONSOLE", CONSOLE_OFF)
    with pytest.raises(ConfigurationError, match="RENEWAL_PUBLIC_URL"):
        call("request", "submit", stdin=said())
    assert [] == list(backends.runs.newest_first())
