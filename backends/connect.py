"""Connections to Redis, and the short patience we have with our own backends.

redis-py repeats commands by itself unless told not to; a repeated script could take effect twice, so that is off
and only callers whose command is idempotent use `patiently`.
"""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import tenacity
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from schemas.errors import BackendUnavailable, ConfigurationError

T = TypeVar("T")
_CONNECTIONS_MAX = 256
_TIMEOUT_S = 15
_TRIES = 6
_OLDEST = (7, 0)


def shown(url: str) -> str:
    """Return a URL that may be printed: without its password."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    netloc = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def connect(url: str) -> Redis:
    """Open a client. Raises BackendUnavailable or ConfigurationError that say what was tried and how to set it."""
    try:
        pool = ConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS_MAX,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=3,
            socket_keepalive=True,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 0),
        )
        client = Redis(connection_pool=pool)
        info = client.info("server")
    except AuthenticationError:
        raise ConfigurationError(f"Redis at {shown(url)} refused the password in RENEWAL_REDIS_URL") from None
    except (RedisError, OSError) as error:
        raise BackendUnavailable(
            f"Redis cannot be reached at {shown(url)} ({error}); start it, or set RENEWAL_REDIS_URL,"
            " or unset it to use the embedded Valkey"
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"RENEWAL_REDIS_URL: {error}") from None
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < _OLDEST:
        raise ConfigurationError(f"Redis {info['redis_version']} at {shown(url)}: 7.0 or newer is needed")
    return client


def ping(url: str, *, timeout_s: float) -> None:
    """Ask a server for a sign of life, on a connection of its own. Raises BackendUnavailable."""
    client = Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )
    try:
        client.ping()
    except (RedisError, OSError) as error:
        raise BackendUnavailable(f"Redis cannot be reached at {shown(url)} ({type(error).__name__})") from None
    finally:
        client.close()


def text(answer: Any) -> str:
    """Return a name that Redis answered; its client leaves every answer as bytes."""
    return str(answer, "utf-8")


def patiently(action: Callable[[], T]) -> T:
    """Run an idempotent command of ours, again for some seconds if Redis is away.

    Raises BackendUnavailable when it stays away.
    """
    try:
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((RedisConnectionError, RedisTimeoutError)),
            wait=tenacity.wait_exponential(multiplier=0.05, max=2),
            stop=tenacity.stop_after_attempt(_TRIES),
            reraise=True,
        ):
            with attempt:
                return action()
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise BackendUnavailable(f"Redis went away ({type(error).__name__})") from error
    raise AssertionError("tenacity either returns or raises")
