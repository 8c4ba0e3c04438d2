"""A snapshot counts what is there, and leaves it as it was."""

import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from backends.bootstrap import Backends
from backends.broker import Broker
from backends.custody import Phase
from backends.embedded import EmbeddedValkey, is_running
from backends.figures import Piles
from backends.heartbeat import SILENT_S
from backends.waiting import Why
from ops.alerts import AlertCode, alerts
from ops.snapshot import RESULTS, Snapshot, take, take_two
from platforms.catalogue import Catalogue
from schemas.batch import Basis, Batch, Job, Lane, seal_context
from schemas.ids import new_id
from schemas.outcome import Fault
from tests.command import free_port
from tests.fixtures_valkey import NOON, stored
from tests.letters import accept, record
from tests.snapshots import catalogue_of

NUMBER = "+8613912345678"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms."""
    return catalogue_of(tmp_path / "catalogue")


def look(backends: Backends, catalogue: Catalogue) -> Snapshot:
    """Take a snapshot."""
    return take(backends, catalogue, taken_s=0.0)


def batch_of(backends: Backends, platform: str = "alpha") -> Batch:
    """A batch of one job."""
    case = new_id()
    return Batch(
        id=new_id(), run=new_id(), platform=platform, deadline=NOON + timedelta(days=1),
        jobs=(Job(case=case, cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE),),
        sealed=backends.vault.seal_numbers([NUMBER], context=seal_context([case])),
    )  # fmt: skip


def died(backends: Backends, *, ago: timedelta, platform: str = "alpha") -> None:
    """Let one job of a new case be a dead letter since then."""
    record(backends, platform, accept(backends, ["alpha", "beta"]), reason=Fault.TIMEOUT, at=NOON - ago)


def test_an_empty_system_can_be_looked_at(backends: Backends, catalogue: Catalogue) -> None:
    """The first look comes before the first job; only the processes are missing."""
    now = look(backends, catalogue)
    assert {"interactive": 0, "bulk": 0, RESULTS: 0} == now.queues
    assert (0, 0, 0, 0.0) == (now.dead_total, now.waiting.due, now.waiting.later, now.waiting.oldest_due_s)
    assert [AlertCode.NO_WORKER, AlertCode.NO_RECORDER, AlertCode.NO_SCHEDULER] == [a.code for a in alerts(now)]


def test_looking_changes_nothing(backends: Backends, catalogue: Catalogue) -> None:
    """`renewal top` looks every second, all night."""
    backends.waiting.put(batch_of(backends), due=NOON, why=Why.LIMIT)
    died(backends, ago=timedelta(0))
    backends.heartbeats.beat("worker", facts={})
    before = stored(backends)
    look(backends, catalogue)
    backends.figures.whys()
    assert before == stored(backends)


def test_what_waits_is_counted_by_due_time_platform_and_why(backends: Backends, catalogue: Catalogue) -> None:
    """Late, planned, and for whom: three different questions."""
    waits = [("alpha", -90, Why.LIMIT), ("alpha", 0, Why.RETRY), ("beta", 60, Why.LIMIT)]
    for platform, in_s, why in waits:
        backends.waiting.put(batch_of(backends, platform), due=NOON + timedelta(seconds=in_s), why=why)
    found = look(backends, catalogue).waiting
    assert (2, 1, 90.0) == (found.due, found.later, found.oldest_due_s)
    assert {"alpha": 2, "beta": 1} == found.by_platform
    assert {"limit": 2, "retry": 1} == backends.figures.whys()


def test_reasons_to_wait_are_counted_over_many_pages(backends: Backends) -> None:
    """A page is a hundred; after an outage there are thousands."""
    for _ in range(250):
        backends.waiting.put(batch_of(backends), due=NOON, why=Why.PAUSED)
    redis: Any = backends.redis
    first = redis.zrange(backends.keys.waiting, 0, 0)[0]
    redis.hset(backends.keys.waiting_batches, first, b"no JSON")
    assert {"paused": 249, "unreadable": 1} == backends.figures.whys()


def test_custody_is_counted_by_phase_with_the_oldest(backends: Backends, catalogue: Catalogue) -> None:
    """A batch that stays in one phase is the first sign of trouble."""
    batches = [batch_of(backends) for _ in range(3)]
    backends.custody.enter([(batch, b"{}") for batch in batches], now=NOON - timedelta(seconds=20))
    assert backends.custody.begin(batches[0], holder="w", lease_s=9, now=NOON - timedelta(seconds=3))
    entry = next(entry for entry in backends.custody.every() if entry.batch == batches[1].id)
    assert backends.custody.redrive(entry, now=NOON, look_s=1)
    now = look(backends, catalogue)
    assert {Phase.QUEUED: 2, Phase.BEGUN: 1} == now.held.by_phase
    assert {Phase.QUEUED: 20.0, Phase.BEGUN: 3.0} == now.held.oldest_s
    assert (1, 1) == (now.held.sent_again, now.redriven)


def test_queues_are_counted_by_lane(backends: Backends, catalogue: Catalogue) -> None:
    """A person's job must not stand in the long lane."""
    backends.broker.declare()
    backends.broker.publish_batches([batch_of(backends), batch_of(backends)])
    assert {"interactive": 0, Lane.BULK.value: 2, RESULTS: 0} == look(backends, catalogue).queues


def test_only_those_who_died_within_the_hour_are_new(backends: Backends, catalogue: Catalogue) -> None:
    """Old dead letters are work for the day; new ones may be stopped."""
    for minutes in (0, 59, 61, 600):
        died(backends, ago=timedelta(minutes=minutes))
    died(backends, ago=timedelta(days=1), platform="beta")
    now = look(backends, catalogue)
    assert {("alpha", Fault.TIMEOUT): 2} == now.dead_lately
    assert 5 == now.dead_total


def test_piles_are_counted(backends: Backends, catalogue: Catalogue) -> None:
    """Nobody empties them but a person, who must know of them."""
    redis: Any = backends.redis
    keys = backends.keys
    for count, key in enumerate((keys.poison, keys.unreadable, keys.orphans, keys.disputes), start=1):
        redis.rpush(key, *["{}"] * count)
    assert Piles(poison=1, unreadable=2, orphans=3, disputes=4) == look(backends, catalogue).piles


def test_the_server_says_that_it_keeps_everything(backends: Backends, catalogue: Catalogue) -> None:
    """The embedded server is set up as the design asks for, and the look sees it."""
    server = look(backends, catalogue).server
    assert ("noeviction", True) == (server.maxmemory_policy, server.appendonly)


def test_a_process_is_alive_then_silent_then_forgotten(backends: Backends, catalogue: Catalogue) -> None:
    """One that hangs is seen for a day, and does not count as living."""
    redis: Any = backends.redis
    for name, age_s in (("far-1", SILENT_S - 5), ("far-2", SILENT_S + 5), ("far-3", 86_500)):
        redis.hset(backends.keys.heartbeats, f"worker:{name}", orjson.dumps({"at_s": time.time() - age_s}))
    now = look(backends, catalogue)
    assert {"far-1": True, "far-2": False} == {beat.name: beat.alive for beat in now.processes}
    assert ["far-1"] == [beat.name for beat in backends.heartbeats.alive("worker")]


def test_a_process_of_this_host_that_ended_without_a_word_is_gone(backends: Backends) -> None:
    """A killed worker's last sign is fresh; its process id tells."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(30)
    redis: Any = backends.redis
    field = f"worker:{socket.gethostname()}-{child.pid}"
    redis.hset(backends.keys.heartbeats, field, orjson.dumps({"at_s": time.time()}))
    (beat,) = backends.heartbeats.every()
    assert (True, False) == (beat.gone, beat.alive)


def test_without_its_broker_the_rest_is_still_shown(backends: Backends, catalogue: Catalogue) -> None:
    """Whoever mends the broker needs the rest of the picture."""
    away = Broker(f"redis://127.0.0.1:{free_port()}/0", backends.keys)
    now = look(replace(backends, broker=away), catalogue)
    assert {} == now.queues
    assert AlertCode.BROKER_AWAY in [alert.code for alert in alerts(now)]


def test_two_snapshots_are_as_far_apart_as_asked(backends: Backends, catalogue: Catalogue) -> None:
    """A rate over a time that was not measured is a guess."""
    waited: list[float] = []
    times = iter((10.0, 11.5))
    before, now = take_two(backends, catalogue, apart_s=1.5, clock=lambda: next(times), wait=waited.append)
    assert ([1.5], 1.5) == (waited, now.taken_s - before.taken_s)


def test_to_see_whether_a_server_runs_starts_and_makes_nothing(tmp_path: Path) -> None:
    """To look at the catalogue must leave no server and no folder behind."""
    folder = tmp_path / "valkey"
    assert not is_running(folder)
    assert not folder.exists()
    with EmbeddedValkey(folder):
        assert is_running(folder)
    assert not is_running(folder)
