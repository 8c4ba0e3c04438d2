"""The benchmark's platform server speaks Unbind protocol v1, and its ledger shows whether all was done."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import requests
import yaml
from jsonschema import Draft202012Validator

from benchmarks.peers.job import jobs
from benchmarks.platform_server import LATER_AT, Ledger, Unreadable, code_of, ids_of
from benchmarks.platform_world import PlatformWorld

ROOT = Path(__file__).parents[2]
DOC: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "unbind-v1.openapi.yaml").read_text(encoding="utf-8"))
ITEMS = list(jobs(3000, seed=7))
BATCH = "vrfxjzy5oo6rdfgekiiphvgw64"


def bulk(items: list[dict[str, str]], *, compact: bool = True) -> bytes:
    """Return the body of a bulk call."""
    return json.dumps({"batch": BATCH, "items": items}, separators=(",", ":") if compact else None).encode()


def single(item: dict[str, str]) -> bytes:
    """Return the body of a single call."""
    return json.dumps(item, separators=(",", ":")).encode()


def mark(item: dict[str, str]) -> int:
    """Return the checksum by which a job is decided and counted."""
    return crc32(item["id"].encode())


def valid(name: str, content: object) -> bool:
    """Tell whether the published document allows it."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOC["components"]}
    return bool(Draft202012Validator(schema).is_valid(content))


@pytest.fixture(scope="module")
def world() -> Iterator[PlatformWorld]:
    """A server that answers at once."""
    with PlatformWorld(latency_ms=0) as server:
        yield server


def test_what_peers_send_is_what_a_platform_expects() -> None:
    """A comparison is fair only if both sides make the same call."""
    assert all(valid("Item", item) for item in ITEMS[:100])
    assert list(islice(jobs(5000, seed=7), 3000)) == ITEMS
    assert len(ITEMS) == len({item["id"] for item in ITEMS})


@pytest.mark.parametrize("compact", [True, False])
def test_a_bulk_call_is_answered_item_by_item(compact: bool) -> None:
    """Each id once, in its order, with its own code, however the JSON is spaced."""
    answer = json.loads(Ledger().decide_many(bulk(ITEMS, compact=compact)))
    assert valid("BulkAnswer", answer)
    assert [{"id": item["id"], "code": code_of(mark(item))} for item in ITEMS] == answer["results"]


def test_98_of_100_have_nothing_bound() -> None:
    """The mixture is that of the domain, so the cost of a result is too."""
    codes = Counter(code_of(mark(item)) for item in ITEMS)
    assert {"NO_BINDING", "UNBOUND"} == set(codes)
    assert 0.01 < codes["UNBOUND"] / len(ITEMS) < 0.03


def test_no_text_is_taken_for_an_id() -> None:
    """The body is searched and not parsed; a quote inside of a text is escaped there."""
    item = {**ITEMS[0], "basis": f'"id":"{ITEMS[1]["id"]}"'}
    assert [ITEMS[0]["id"].encode()] == ids_of(bulk([item]))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"items":7}', b'{"items":[{"case":"x"}]}', b'{"batch":"x"}'])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    """A client that sends nonsense must not be told that all is well."""
    with pytest.raises(Unreadable):
        Ledger().decide_many(body)
    with pytest.raises(Unreadable):
        Ledger().decide_one(body)


def test_one_of_100_single_calls_is_told_to_come_later_once() -> None:
    """Each of them exactly once, and the ledger counts both times."""
    ledger = Ledger()
    later = [item for item in ITEMS if ledger.decide_one(single(item)) is None]
    assert [item for item in ITEMS if mark(item) % 100 == LATER_AT] == later
    assert all(ledger.decide_one(single(item)) == b'{"code":"NO_BINDING"}' for item in later)
    told = json.loads(ledger.told())
    assert (len(ITEMS), len(later), len(ITEMS) + len(later)) == (told["decided"], told["told_later"], told["calls"])


def test_the_ledger_shows_a_job_that_is_missing_or_came_twice() -> None:
    """Count and sum together stand for the list of all jobs, in memory that does not grow with it."""
    whole = [mark(item) for item in ITEMS]

    def told(items: list[dict[str, str]]) -> tuple[int, int]:
        ledger = Ledger()
        ledger.decide_many(bulk(items))
        return ledger.decided, ledger.decided_sum

    assert (len(whole), sum(whole)) == told(ITEMS)
    assert (len(whole), sum(whole)) != told(ITEMS[1:])
    assert (len(whole), sum(whole)) != told([*ITEMS[1:], ITEMS[1]])
    assert (len(whole), sum(whole)) != told([*ITEMS, ITEMS[0]])


def test_it_answers_over_http(world: PlatformWorld) -> None:
    """Both protocols on one connection that stays open, and what it does not know is 404."""
    with requests.Session() as session:
        session.trust_env = False
        many = session.post(f"{world.url}/bulk/x", data=bulk(ITEMS[:500]), timeout=5)
        assert [item["id"] for item in ITEMS[:500]] == [result["id"] for result in many.json()["results"]]
        item = next(item for item in ITEMS if mark(item) % 100 == LATER_AT)
        first, second = (session.post(f"{world.url}/single/x", data=single(item), timeout=5) for _ in range(2))
        assert (503, 200, "application/json") == (
            first.status_code, second.status_code, second.headers["content-type"],
        )  # fmt: skip
        assert valid("Answer", second.json())
        assert 422 == session.post(f"{world.url}/bulk/x", data=b"nonsense", timeout=5).status_code
        assert 404 == session.get(f"{world.url}/elsewhere", timeout=5).status_code


def test_a_request_may_come_in_pieces(world: PlatformWorld) -> None:
    """A large body never comes at once; who asks first whether it may send one is told so."""
    body = bulk(ITEMS[:3])
    head = f"POST /bulk/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    host, _, port = world.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection, connection.makefile("rb") as answer:
        connection.sendall(head[:20])
        connection.sendall(head[20:])
        assert b"HTTP/1.1 100 Continue\r\n" == answer.readline()
        assert b"\r\n" == answer.readline()
        for piece in (body[:7], body[7:50], body[50:]):
            connection.sendall(piece)
        assert b"HTTP/1.1 200 OK\r\n" == answer.readline()


def test_its_ledger_can_be_read_from_outside(world: PlatformWorld) -> None:
    """The benchmark proves by it that no job is missing, and how much of the machine the server takes."""
    before = world.told()
    requests.post(f"{world.url}/bulk/x", data=bulk(ITEMS[:10]), timeout=5, proxies={"http": ""})
    after = world.told()
    assert (1, 10) == (after.calls - before.calls, after.decided - before.decided)
    assert sum(map(mark, ITEMS[:10])) == after.decided_sum - before.decided_sum
    assert after.cpu_s > 0
