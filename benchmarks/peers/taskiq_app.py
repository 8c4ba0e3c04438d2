"""taskiq with aiohttp: the fastest that a user could pick. Redis streams, and retries through a schedule in Redis."""

import asyncio
from collections.abc import Iterable

import aiohttp
from taskiq import Context, SmartRetryMiddleware, TaskiqDepends, TaskiqEvents, TaskiqScheduler, TaskiqState
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from benchmarks.peers.job import (
    ATTEMPTS_MAX,
    BROKER_DB,
    CONNECTIONS_MAX,
    IN_FLIGHT,
    LATER,
    RETRY_S,
    endpoint,
    status,
    status_key,
    statuses_async,
    url,
)

_RETRIES = "_retries"
_schedule = ListRedisScheduleSource(url(BROKER_DB), max_connection_pool_size=CONNECTIONS_MAX)
# From the first message on: jobs are queued before the first worker makes the group.
_stream = RedisStreamBroker(url(BROKER_DB), consumer_id="0", max_connection_pool_size=CONNECTIONS_MAX)
broker = _stream.with_middlewares(
    SmartRetryMiddleware(
        default_retry_count=ATTEMPTS_MAX,
        default_delay=RETRY_S,
        use_jitter=False,
        use_delay_exponent=False,
        schedule_source=_schedule,
    )
)
scheduler = TaskiqScheduler(broker, [_schedule])
_endpoint = endpoint()


_CONTEXT: Context = TaskiqDepends()


class Later(Exception):
    """The platform asked to come again."""


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def begin(state: TaskiqState) -> None:
    """Open what all tasks of a process share."""
    state.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT))
    state.redis = statuses_async()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def end(state: TaskiqState) -> None:
    """Close it."""
    await state.http.close()
    await state.redis.aclose()


@broker.task(task_name="bench.call", retry_on_error=True)
async def call(body: dict[str, str], context: Context = _CONTEXT) -> None:
    """Make one call, and write down its end."""
    async with context.state.http.post(_endpoint, json=body, timeout=aiohttp.ClientTimeout(10)) as answer:
        if answer.status == LATER:
            raise Later
        await answer.json()
    retries = int(context.message.labels.get(_RETRIES, 0))
    await context.state.redis.hset(status_key(body), mapping=status(answer.status, retries + 1))


def send(bodies: Iterable[dict[str, str]]) -> None:
    """Queue one task for each."""

    async def run() -> None:
        await broker.startup()
        for body in bodies:
            await call.kiq(body)
        await broker.shutdown()

    asyncio.run(run())
