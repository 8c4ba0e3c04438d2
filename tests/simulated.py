"""What the simulator's tests build on: a platform, a job, and the call that carries it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from platforms.model import Platform
from schemas.ids import derive, job_id
from simulator.desk import Call
from simulator.scenario import Fault, Scenario
from simulator.server import Simulator
from simulator.world import World

SEED = 7
SECRET = "czNjcmV0LXMzY3JldC1zM2NyZXQ="
CALM = Scenario(name="calm", latency_ratio=0.0)


def platform(key: str = "acme", **fields: object) -> Platform:
    """Return a valid catalogue entry; `fields` replace its own."""
    entry: dict[str, Any] = {
        "key": key,
        "name": {"zh": "示例", "en": "Example"},
        "category": "social",
        "account_domain": key,
        "protocol": "json",
        "endpoint": f"https://{key}.example/v1/renewals",
        "auth": {"scheme": "none"},
        "limits": {"timeout_s": 2},
    }
    return Platform.model_validate(entry | fields)


def always(fault: Fault) -> Scenario:
    """Return the plan in which every call meets this fault."""
    return Scenario(name=fault, fault_shares=((fault, 1.0),), latency_ratio=0.0)


def simulator(*platforms: Platform, scenario: Scenario = CALM, ledger_path: Path | None = None) -> Simulator:
    """Return a simulator without a network; all secrets are `SECRET`."""
    return Simulator(platforms, lambda _: SECRET, seed=SEED, scenario=scenario, ledger_path=ledger_path)


def number(index: int) -> str:
    """Return one of a billion mainland mobile numbers."""
    return f"+8613{index:09d}"


def numbers_where(entry: Platform, wanted: Callable[[Any], bool], *, count: int = 1) -> list[str]:
    """Return the first numbers whose answer at a platform is as wanted."""
    world = World(entry, seed=SEED)
    found = (number(index) for index in range(200_000) if wanted(world.truth(number(index)).outcome))
    return [next(found) for _ in range(count)]


def item(entry: Platform, of: str, *, case: str = "") -> dict[str, str]:
    """Return one item as the protocol writes it."""
    case = case or derive("case", of)
    return {
        "id": job_id(case, entry.key),
        "case": case,
        "number": of,
        "cutoff_at": "2026-11-01T00:00:00+08:00",
        "basis": "planned_release",
    }


def bulk(items: Sequence[dict[str, str]], *, batch: str = "") -> dict[str, object]:
    """Return the body of a bulk call."""
    return {"batch": batch or derive("batch", *(each["id"] for each in items)), "items": list(items)}


def call(
    entry: Platform, body: Mapping[str, object], *, method: bytes = b"POST", headers: Mapping[str, str] | None = None
) -> Call:
    """Return a well formed call; `headers` replace or add to its own."""
    sent = {"content-type": "application/json", "idempotency-key": str(body.get("id") or body.get("batch"))}
    sent |= headers or {}
    return Call(
        method=method,
        target=f"/{entry.key}/v1/renewals".encode(),
        headers={name.encode(): value.encode() for name, value in sent.items()},
        body=orjson.dumps(body),
    )


def answer(payload: bytes) -> tuple[int, Any]:
    """Return the status and the parsed body of a response."""
    head, _, body = payload.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), orjson.loads(body)
