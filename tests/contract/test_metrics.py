"""`/metrics`, `/healthz` and `/readyz` over the app itself, on a real store."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from backends.api_keys import Scope
from backends.bootstrap import Backends
from backends.broker import Broker
from platforms.catalogue import SAMPLE, Catalogue
from schemas.state import State
from tests.asking import Asker
from tests.fixtures_valkey import NOON, stored
from tests.letters import accept, die, record
from tests.rig import ValkeyServer
from tests.snapshots import catalogue_of

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms."""
    return catalogue_of(tmp_path / "catalogue")


@pytest.fixture
def key(backends: Backends) -> str:
    """The text of a key that may read."""
    return backends.api_keys.create("prometheus", Scope.READ, by="somebody", now=NOON)[1]


@pytest.fixture
def client(backends: Backends, catalogue: Catalogue, key: str) -> Asker:
    """A client that may read."""
    return Asker(backends, catalogue, key=key)


def test_who_has_no_key_reads_no_metrics(backends: Backends, catalogue: Catalogue) -> None:
    """How many numbers an operator recycles is nobody else's business."""
    assert 401 == Asker(backends, catalogue).get("/metrics").status_code


def test_the_scrape_is_what_was_recorded(client: Asker, backends: Backends) -> None:
    """Each family is read off the store, and a second scrape of an idle system says the same."""
    cases = die(backends, ["alpha"], count=3)
    record(backends, "alpha", accept(backends, ["alpha", "beta"], count=2, first=3), state=State.UNBOUND)
    record(backends, "beta", accept(backends, ["beta"], first=5), state=State.REFUSED)
    found = values(client.get("/metrics").text)
    assert 3 == found["renewal_dead_letters", "alpha", "rejected_request"] == len(cases)
    states = {state: found["renewal_jobs", state] for state in State}
    expected = {State.DEAD: 3, State.UNBOUND: 2, State.REFUSED: 1, State.QUEUED: 2}
    assert expected == {state: count for state, count in states.items() if count}
    verdicts = {name: found["renewal_cases", name] for name in ("CLEAN", "CLEAN_WITH_EXCEPTIONS", "INCOMPLETE")}
    assert {"CLEAN": 0, "CLEAN_WITH_EXCEPTIONS": 1, "INCOMPLETE": 5} == verdicts
    assert (2, 1) == (found["renewal_attempts_total", "alpha"], found["renewal_attempts_total", "beta"])
    assert found == values(client.get("/metrics").text)


def values(text: str) -> dict[tuple[str, ...], float]:
    """Return the samples by name and values of labels; without what changes by itself."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in read_text(text)
        for sample in family.samples
        if not sample.name.endswith("_bytes")
    }


def test_both_formats_are_understood(client: Asker) -> None:
    """Prometheus asks for OpenMetrics, a person for plain text."""
    plain, open_ = client.get("/metrics"), client.get("/metrics", accept=OPENMETRICS)
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert open_.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in read_openmetrics(open_.text)}  # type: ignore[no-untyped-call]  # it has no types
    assert {family.name.removesuffix("_total").removesuffix("_info") for family in read_text(plain.text)} == {
        name.removesuffix("_info") for name in names
    }


def test_a_scrape_of_240_platforms_takes_as_many_round_trips_as_one_of_two(
    backends: Backends, catalogue: Catalogue, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape that grows with the catalogue would load the ledger every few seconds."""
    trips = [0]
    counts = []
    connection: Any = backends.redis.connection_pool.connection_class
    send = connection.send_packed_command

    def counted(self: Any, *args: Any, **words: Any) -> Any:
        trips[0] += 1
        return send(self, *args, **words)

    monkeypatch.setattr(connection, "send_packed_command", counted)
    for platforms in (catalogue, Catalogue.load(SAMPLE)):
        client = Asker(backends, platforms, key=key)
        client.get("/metrics")  # the server learns the scripts
        trips[0] = 0
        assert 200 == client.get("/metrics").status_code
        counts.append(trips[0])
    of_two, of_all = counts
    assert of_two == of_all <= 25


def test_a_scrape_leaves_the_store_as_it_was(client: Asker, backends: Backends) -> None:
    """It comes every few seconds, for ever."""
    die(backends, ["alpha"], count=1)
    client.get("/metrics")
    before = held(backends)
    client.get("/metrics")
    assert before == held(backends)


def held(backends: Backends) -> dict[str, tuple[int, bytes]]:
    """Return what the store holds but for the pace of the key that asks."""
    return {key: value for key, value in stored(backends).items() if ":pace:" not in key}


# -- health --------------------------------------------------------------------------------------------------------


@pytest.fixture
def away() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"127.0.0.1:{silent.getsockname()[1]}"


def test_who_is_well_is_ready(backends: Backends, catalogue: Catalogue) -> None:
    """Neither needs a key: a load balancer has none."""
    client = Asker(backends, catalogue)
    assert (200, {"status": "ok"}) == _said(client, "/healthz")
    assert (200, {"status": "ready"}) == _said(client, "/readyz")


def _said(client: Asker, path: str) -> tuple[int, Any]:
    answer = client.get(path)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_hangs_makes_it_unready_within_seconds(
    backends: Backends, catalogue: Catalogue, away: str, scheme: str
) -> None:
    """An orchestrator gives up after some seconds, and would learn nothing."""
    broken = replace(backends, broker=Broker(f"{scheme}://{away}/", backends.keys))
    started = time.monotonic()
    status, said = _said(Asker(broken, catalogue), "/readyz")
    assert (503, ["broker"]) == (status, said["away"])
    assert time.monotonic() - started < 5
    assert 200 == Asker(broken, catalogue).get("/healthz").status_code
    broken.broker.close()


def test_a_frozen_store_makes_it_unready_within_seconds(
    backends: Backends, catalogue: Catalogue, tmp_path: Path
) -> None:
    """The ledger's own time-out is far longer than whoever asks will wait; both are named if both are away."""
    server = ValkeyServer(tmp_path / "frozen")
    server.start()
    try:
        server.freeze()
        frozen = replace(
            backends,
            settings=backends.settings.model_copy(update={"redis_url": server.url}),
            broker=Broker(server.url, backends.keys),
        )
        started = time.monotonic()
        status, said = _said(Asker(frozen, catalogue), "/readyz")
        assert (503, ["status store", "broker"]) == (status, said["away"])
        assert time.monotonic() - started < 5
        frozen.broker.close()
    finally:
        server.thaw()
        server.close()
