"""dramatiq on threads: one message for each call, `requests`, `Retry`."""

import threading
from collections.abc import Iterable

import dramatiq
import requests
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import Retry
from dramatiq.middleware import CurrentMessage

from benchmarks.peers.job import (
    ATTEMPTS_MAX,
    BROKER_DB,
    LATER,
    RETRY_S,
    endpoint,
    status,
    status_key,
    statuses,
    url,
)

broker = RedisBroker(url=url(BROKER_DB))  # type: ignore[no-untyped-call]  # its types end here
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)
_redis = statuses()
_endpoint = endpoint()
_of_thread = threading.local()


def _http() -> requests.Session:
    if not hasattr(_of_thread, "session"):
        _of_thread.session = requests.Session()
    session: requests.Session = _of_thread.session
    return session


@dramatiq.actor(max_retries=ATTEMPTS_MAX)
def call(body: dict[str, str]) -> None:
    """Make one call, and write down its end."""
    answer = _http().post(_endpoint, json=body, timeout=10)
    if answer.status_code == LATER:
        raise Retry(delay=RETRY_S * 1000)
    answer.json()
    message = CurrentMessage.get_current_message()
    retries = int(message.options.get("retries", 0)) if message is not None else 0
    _redis.hset(status_key(body), mapping=status(answer.status_code, retries + 1))


def send(bodies: Iterable[dict[str, str]]) -> None:
    """Queue one message for each."""
    for body in bodies:
        call.send(body)
