"""The secrets of a catalogue, read once when a process starts: a process that lacks one does not start."""

from collections.abc import Callable

from backends.settings import resolve_secret
from backends.signature import check_key
from platforms.catalogue import Catalogue
from platforms.model import Platform
from schemas.errors import ConfigurationError

_PROBLEMS_SHOWN_MAX = 20


def credentials_of(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """Return what our calls to each platform need. Raises ConfigurationError that names each one missing."""
    return _resolved(catalogue, lambda platform: platform.call_refs)


def callback_keys_of(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """Return the keys with which each platform's callbacks are checked; only platforms that call back have any.

    Raises ConfigurationError that names each one missing, or that is no key.
    """
    found = _resolved(catalogue, lambda platform: platform.callback_refs)
    problems = []
    for key, secrets in found.items():
        try:
            for secret in secrets:
                check_key(secret, signs=False)
        except ConfigurationError as error:
            problems.append(f"{key}: callback.secret: {error}")
    _refuse(problems)
    return {key: secrets for key, secrets in found.items() if secrets}


def check_secrets(catalogue: Catalogue) -> None:
    """Raise ConfigurationError that names each secret that a process of the whole system would lack."""
    _resolved(catalogue, lambda platform: platform.secret_refs)
    callback_keys_of(catalogue)


def _resolved(catalogue: Catalogue, refs: Callable[[Platform], tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for platform in catalogue:
        try:
            found[platform.key] = tuple(resolve_secret(ref, folder=catalogue.folder) for ref in refs(platform))
        except ConfigurationError as error:
            problems.append(f"{platform.key}: {error}")
    _refuse(problems)
    return found


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError("\n".join(problems[:_PROBLEMS_SHOWN_MAX]))
