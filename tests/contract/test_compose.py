"""No container engine runs in CI: what docker-compose.yml says of our own commands and settings is held here."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


def help_of(command: str) -> str:
    """Return the help text of a command, as wide as it needs."""
    renewal = Path(sys.executable).parent / "renewal"
    done = subprocess.run(
        [renewal, command, "--help"],
        env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("file", ["docker-compose.yml", ".env.example"])
def test_every_variable_is_a_setting(file: str) -> None:
    """A misspelt variable would be passed over in silence."""
    known = {f"RENEWAL_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"\bRENEWAL_[A-Z_]+", (ROOT / file).read_text(encoding="utf-8")))
    assert named
    assert set() == named - known


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_a_service_exists_with_its_options(name: str) -> None:
    """A container that starts with a wrong option starts for ever."""
    command, *arguments = SERVICES[name]["command"]
    text = help_of(command)
    assert [] == [word for word in arguments if word.startswith("--") and word not in text]


@pytest.mark.parametrize("name", [name for name in OURS if "renewal" in SERVICES[name]["healthcheck"]["test"]])
def test_every_health_check_asks_for_the_role_of_its_service(name: str) -> None:
    """A worker that is asked for the recorder's pulse would be restarted for nothing."""
    assert ["CMD", "renewal", "health", name] == SERVICES[name]["healthcheck"]["test"]
    assert name in help_of("health")


@pytest.mark.parametrize("name", list(SERVICES))
def test_every_service_is_watched_and_given_time_to_stop(name: str) -> None:
    """A container that is killed at once leaves its calls to the reaper."""
    service = SERVICES[name]
    assert {"test", "interval", "timeout", "retries", "start_period"} == set(service["healthcheck"])
    assert "150s" == service["stop_grace_period"]
    assert ":latest" not in service["image"]
    assert ":" in service["image"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_write_nothing_but_scratch(name: str) -> None:
    """Numbers must not be left behind in a container."""
    assert SERVICES[name]["read_only"] is True
    assert ["ALL"] == SERVICES[name]["cap_drop"]


def test_redis_is_set_up_as_the_ledger_it_is() -> None:
    """Evicting a key or losing the file would lose jobs."""
    words = SERVICES["redis"]["command"]
    given = {word.removeprefix("--"): value for word, value in zip(words[1::2], words[2::2], strict=True)}
    assert "yes" == given["appendonly"]
    assert "noeviction" == given["maxmemory-policy"]
