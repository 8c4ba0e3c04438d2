"""Fixtures: the HTTP API in this process, over the backends of the test."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from backends.api_keys import Scope
from backends.bootstrap import Backends
from backends.dead import DeadFilter
from backends.sweeps import Denied, Night
from ops.api.app import make_app
from ops.api.door import Door
from ops.replay_desk import ReplayDesk
from platforms.catalogue import Catalogue
from schemas.ids import new_id
from schemas.state import State
from tests.fixtures_valkey import NOON
from tests.letters import accept, record, wait
from tests.sweeping import DAY, NAME, SweepFolder, line_of, mobiles

with warnings.catch_warnings():
    # It asks for the successor of httpx, which has not come to our other packages yet.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

PLATFORMS = ("alipay", "wechat")


@dataclass(frozen=True, kw_only=True)
class Api:
    """The app, and one client of it with a key of each scope."""

    app: FastAPI
    client: TestClient
    keys: dict[Scope, str]

    def ask(self, method: str, path: str, *, scope: Scope | None = Scope.ADMIN, **words: Any) -> Any:
        """Send one request with the key of a scope, or with none. Returns the response."""
        headers = dict(words.pop("headers", {}))
        if scope is not None:
            headers["Authorization"] = f"Bearer {self.keys[scope]}"
        return self.client.request(method, path, headers=headers, **words)

    def get(self, path: str, **words: Any) -> Any:
        """Read something that must be there. Returns its JSON."""
        answer = self.ask("GET", path, **words)
        assert 200 == answer.status_code, answer.text
        return answer.json()


def known_of(backends: Backends, folder: Path) -> dict[str, list[str]]:
    """Put something of everything into the store. Returns names of it, by the parameters of paths."""
    cases = accept(backends, PLATFORMS, count=6)
    dead, (waits, reviewed, *_) = cases[:3], cases[3:]
    record(backends, PLATFORMS[0], dead, detail="=1+1")
    batch = wait(backends, PLATFORMS[0], [waits], due=NOON + timedelta(hours=1))
    record(backends, PLATFORMS[1], [reviewed], state=State.PENDING_REVIEW)
    record(backends, PLATFORMS[1], cases[:2], state=State.UNBOUND)
    backends.kept.bury_message("{", why="not JSON", queue="bulk", now=NOON)
    backends.heartbeats.beat("worker", facts={"since_s": 1.0, "running": 1, "platforms": ["alipay"], "batches": 3})
    backends.gates.pause("wechat", until=None, reason="a change there")
    desk = ReplayDesk(backends)
    replay = desk.ask([f"{dead[0]}.{PLATFORMS[0]}"], reason="mended", wanted=DeadFilter(), state=State.DEAD, canary=1)
    sweep = SweepFolder(folder)
    sweep.write([line_of(mobile) for mobile in mobiles(3, first=500)])
    day = DAY - timedelta(days=1)
    begun = backends.sweeps.begin(NAME, Night(day=day.isoformat(), run=new_id(), begun_ms=1), holder="w", now=NOON)
    assert not isinstance(begun, Denied)
    lease, night = begun
    backends.sweeps.give_back(lease, night)
    return {
        "case": cases, "platform": [*PLATFORMS], "run": list(backends.runs.newest_first()), "batch": [batch.id],
        "job": [f"{case}.{PLATFORMS[0]}" for case in cases], "replay": [replay], "name": [NAME],
        "day": [day.isoformat()],
    }  # fmt: skip


@pytest.fixture
def api(backends: Backends) -> Iterator[Api]:
    """The API of a catalogue of two platforms, with a key of each scope."""
    app = make_app(Door(backends=backends, catalogue=Catalogue.load().select(list(PLATFORMS))))
    now = backends.clock.now()
    keys = {scope: backends.api_keys.create(scope, scope, by="test", now=now)[1] for scope in Scope}
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Api(app=app, client=client, keys=keys)
