"""What every peer is given and has to leave behind: the same requests, the same final status in Redis.

The environment says where: BENCH_REDIS (without its database), BENCH_ENDPOINT, BENCH_COUNT, BENCH_SEED.
"""

import hashlib
import os
import time
from base64 import b32encode
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

BROKER_DB: Final = 1
STATUS_DB: Final = 2
LATER: Final = 503
RETRY_S: Final = 1
ATTEMPTS_MAX: Final = 10
IN_FLIGHT: Final = 200
# redis-py gives a pool 100 connections and raises above that; a job that meets it would be lost.
CONNECTIONS_MAX: Final = 1000


def endpoint() -> str:
    """Return where the platform listens."""
    return os.environ["BENCH_ENDPOINT"]


def url(database: int) -> str:
    """Return the URL of one database of the benchmark's Redis."""
    return f"{os.environ['BENCH_REDIS'].rstrip('/')}/{database}"


def jobs(count: int, *, seed: int) -> Iterator[dict[str, str]]:
    """Yield request bodies of Unbind protocol v1, the same for the same seed."""
    rng = Random(seed)  # noqa: S311 - invented numbers
    for index in range(count):
        case = b32encode(hashlib.sha256(f"{seed} {index}".encode()).digest()[:16]).decode().rstrip("=").lower()
        yield {
            "id": f"{case}.peer",
            "case": case,
            "number": f"+86138{rng.randrange(10**8):08d}",
            "cutoff_at": "2026-11-01T00:00:00+08:00",
            "basis": "planned_release",
        }


def status(code: int, attempts: int) -> dict[Any, Any]:
    """Return what is written of a job when it is final."""
    return {"state": "done", "code": code, "attempts": attempts, "ts": time.time()}


def status_key(body: dict[str, str]) -> str:
    """Return where it is written."""
    return f"status:{body['id']}"


def statuses() -> Redis:
    """Connect to where statuses are written."""
    return Redis.from_url(url(STATUS_DB), max_connections=CONNECTIONS_MAX)


def statuses_async() -> AsyncRedis:
    """Connect to where statuses are written."""
    return AsyncRedis.from_url(url(STATUS_DB), max_connections=CONNECTIONS_MAX)
