"""A callback over HTTP: through the app, the broker and the recorder into the status store."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import orjson
import pytest

from backends.bootstrap import Backends, open_backends
from backends.clock import SystemClock
from backends.embedded import EmbeddedValkey
from ops.api.app import make_app
from ops.api.door import Door
from ops.callback_desk import BODY_BYTES_MAX
from schemas.ids import job_id
from schemas.state import State
from tests.answers import SECRET, STRANGERS, catalogue_of, results, signed
from tests.command import wait_until
from tests.fixtures_valkey import settings_of
from tests.letters import accept, record, record_of
from workers.recorder import Recorder


@pytest.fixture
def live(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[Backends]:
    """Backends of a running clock, and a recorder at work on them."""
    opened = open_backends(settings_of(valkey, tmp_path), clock=SystemClock())
    opened.broker.declare()
    stop = threading.Event()
    recorder = threading.Thread(target=Recorder(opened, stop).run)
    recorder.start()
    yield opened
    stop.set()
    recorder.join()
    opened.close()


Post = Callable[[str, bytes, Mapping[str, str]], httpx.Response]


@pytest.fixture
def post(live: Backends, tmp_path: Path) -> Post:
    """Whoever calls back."""
    catalogue = catalogue_of(tmp_path / "catalogue")
    app = make_app(Door(backends=live, catalogue=catalogue, callback_keys={"alpha": (SECRET,)}))

    async def send(path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://door.example") as client:
            return await client.post(path, content=body, headers=dict(headers))

    return lambda platform, body, headers: asyncio.run(send(f"/v1/callbacks/{platform}", body, headers))


def test_a_callback_is_recorded_and_a_forged_one_is_not(live: Backends, post: Post) -> None:
    """202 once the broker has it; 401, 404, 413 and 422 are problems, and change nothing."""
    one, two = accept(live, ["alpha", "beta"], count=2)
    record(live, "alpha", [one, two], state=State.ACCEPTED)
    body, now = results({"id": job_id(one, "alpha"), "code": "OK"}), live.clock.now()
    forged = post("alpha", body, signed(body, at=now, secrets=(STRANGERS,)))
    assert (401, "application/problem+json") == (forged.status_code, forged.headers["content-type"])
    headers = signed(body, at=now)
    assert 404 == post("gamma", body, headers).status_code
    assert 413 == post("alpha", b" " * (BODY_BYTES_MAX + 1), {}).status_code
    for _ in range(2):
        answer = post("alpha", body, headers)
        assert (202, {"taken": 1}) == (answer.status_code, answer.json())
    wait_until(lambda: record_of(live, one, "alpha").state is State.UNBOUND, what="the answer", seconds=20)

    bad = orjson.dumps({"id": job_id(two, "alpha"), "code": "NO"})
    problem = post("alpha", bad, signed(bad, at=now))
    assert (422, "reason") == (problem.status_code, problem.json()["errors"][0]["field"])
    assert State.ACCEPTED is record_of(live, two, "alpha").state
    whys = [(each.platform, each.why) for each in live.callbacks.newest(at_most=9)]
    assert [("alpha", "signature"), ("", "no_channel"), ("alpha", "too_large"), ("alpha", "no_reason")] == whys
