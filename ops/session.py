"""A short visit of a command to the stores: connected, embedded where needed, closed at the end."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from redis.exceptions import RedisError

from backends import failpoint
from backends.bootstrap import Backends, embedded_if_needed, open_backends
from backends.log import configure_logging
from backends.settings import Settings
from backends.vault import new_key_file, write_key_file
from platforms.catalogue import SAMPLE, Catalogue
from schemas.errors import BackendUnavailable


@contextlib.contextmanager
def opened(*, sandbox: bool = False, catalogue: Path | None = None) -> Iterator[tuple[Backends, Catalogue]]:
    """Yield the backends and the catalogue of the environment; with `sandbox`, those of sandbox runs."""
    settings = Settings.load()
    # What a command prints is data, and what it did it says in words: only trouble is logged.
    configure_logging(level=logging.WARNING)
    failpoint.arm(settings.failpoint or "")
    loaded = Catalogue.load(catalogue or settings.catalogue or SAMPLE)
    with contextlib.ExitStack() as stack:
        settings, _ = stack.enter_context(embedded_if_needed(with_sandbox_keys(settings) if sandbox else settings))
        backends = open_backends(in_sandbox(settings) if sandbox else settings)
        stack.callback(backends.close)
        try:
            yield backends, loaded
        except RedisError as error:
            raise BackendUnavailable(f"Redis went away during the command ({type(error).__name__})") from error


def in_sandbox(settings: Settings) -> Settings:
    """Return the settings of sandbox runs: names of their own in Redis and broker, so that nothing mixes."""
    return settings.model_copy(update={"namespace": f"{settings.namespace}-sandbox", "private_endpoints": "allow",
                                       "sweeps": None, "subscribers": None})  # fmt: skip


def with_sandbox_keys(settings: Settings) -> Settings:
    """Give sandbox runs on somebody's Redis number keys of their own, so that they need none of theirs."""
    if settings.embedded or settings.number_keys or settings.number_keys_file:
        return settings
    path = settings.data_dir.resolve() / "sandbox-number-keys"
    if not path.exists():
        write_key_file(path, new_key_file())
    return settings.model_copy(update={"number_keys_file": path})
