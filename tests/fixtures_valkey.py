"""Fixtures: a real Valkey for the whole session, and backends in a namespace of their own for each test."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr
from redis import Redis

from backends.bootstrap import Backends, open_backends
from backends.clock import ManualClock
from backends.connect import text
from backends.embedded import EmbeddedValkey
from backends.settings import Settings
from backends.vault import new_key_file
from schemas.ids import new_id

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
# For tests whose every example makes ids of its own in the one namespace of the test.
ONE_NAMESPACE = hypothesis_settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A server that lives as long as the session."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def backends(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[Backends]:
    """Everything on the session's server, with names and keys of the test's own and a clock that stands still."""
    opened = open_backends(settings_of(valkey, tmp_path), clock=ManualClock(NOON))
    yield opened
    _forget(opened.redis, opened.settings.namespace)
    opened.close()


def settings_of(server: EmbeddedValkey, data_dir: Path) -> Settings:
    """Return settings that use a server under a fresh namespace with fresh keys."""
    return Settings(
        redis_url=server.url,
        namespace=f"t{new_id()}",
        data_dir=data_dir,
        number_keys=SecretStr(new_key_file()),
    )


def stored(backends: Backends) -> dict[str, tuple[int, bytes]]:
    """Return everything that the namespace holds, key by key: when it ends, and its bytes."""
    keys = sorted(backends.redis.scan_iter(match=f"{backends.settings.namespace}*", count=1000))
    pipe = backends.redis.pipeline(transaction=False)
    for key in keys:
        pipe.pexpiretime(key)
        pipe.dump(key)
    found = pipe.execute()
    return {text(key): (ends, body) for key, ends, body in zip(keys, found[::2], found[1::2], strict=True)}


def _forget(redis: Redis, namespace: str) -> None:
    for key in list(redis.scan_iter(match=f"{namespace}*", count=1000)):
        redis.delete(key)
