"""Celery as most people use it: one task for each call, `requests`, `self.retry`.

Started as `celery -A benchmarks.peers.celery_app worker -P threads | gevent`; the command line patches for gevent.
"""

import threading
from collections.abc import Iterable
from typing import Any

import requests
from celery import Celery
from requests.adapters import HTTPAdapter

from benchmarks.peers.job import (
    ATTEMPTS_MAX,
    BROKER_DB,
    IN_FLIGHT,
    LATER,
    RETRY_S,
    endpoint,
    status,
    status_key,
    statuses,
    url,
)

app = Celery("bench", broker=url(BROKER_DB))
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
_redis = statuses()
_endpoint = endpoint()
_of_thread = threading.local()
# What gevent has patched is one thread with many greenlets: they share one session, and its pool of connections.
_GREENLETS = threading.local.__module__.startswith("gevent")


def _http() -> requests.Session:
    """Return the session of all greenlets of a process, or of this thread."""
    if _GREENLETS:
        return _shared
    if not hasattr(_of_thread, "session"):
        _of_thread.session = _new()
    session: requests.Session = _of_thread.session
    return session


def _new() -> requests.Session:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=IN_FLIGHT))
    return session


_shared = _new()


@app.task(bind=True, name="bench.call", max_retries=ATTEMPTS_MAX)
def call(self: Any, body: dict[str, str]) -> None:
    """Make one call, and write down its end."""
    answer = _http().post(_endpoint, json=body, timeout=10)
    if answer.status_code == LATER:
        raise self.retry(countdown=RETRY_S)
    answer.json()
    _redis.hset(status_key(body), mapping=status(answer.status_code, self.request.retries + 1))


def send(bodies: Iterable[dict[str, str]]) -> None:
    """Queue one task for each."""
    for body in bodies:
        call.apply_async((body,))
