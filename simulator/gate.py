"""Who may call a pretended platform: the three schemes of a catalogue entry, checked from the platform's side."""

import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from backends.signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, SignatureProblem, check_key, verify
from platforms.model import Bearer, Platform, StandardWebhooks
from schemas.errors import ConfigurationError

Headers = Mapping[bytes, bytes]  # names in lower case
# Returns whether a call with these headers and this body, at this instant in seconds since 1970, is let in.
Gate = Callable[[Headers, bytes, float], bool]

_SIGNING: Final = {name: name.encode() for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)}


def gate_of(platform: Platform, secrets: Callable[[str], str]) -> Gate:
    """Return the check that a platform makes of each call. Raises ConfigurationError for a malformed secret."""
    if isinstance(platform.auth, Bearer):
        return _bearer(secrets(platform.auth.token).encode())
    if isinstance(platform.auth, StandardWebhooks):
        return _signature([_key(secrets(ref), platform=platform.key) for ref in platform.auth.secrets])
    return _open


def _open(headers: Headers, body: bytes, now_s: float) -> bool:  # noqa: ARG001 - a gate that asks for nothing
    return True


def _bearer(token: bytes) -> Gate:
    expected = b"Bearer " + token

    def admits(headers: Headers, body: bytes, now_s: float) -> bool:  # noqa: ARG001 - only one header counts
        return hmac.compare_digest(expected, headers.get(b"authorization", b""))

    return admits


def _signature(keys: list[str]) -> Gate:
    """Standard Webhooks: while a key is rotated, a signature by either key is good."""

    def admits(headers: Headers, body: bytes, now_s: float) -> bool:
        given = {name: headers.get(raw, b"").decode("latin-1") for name, raw in _SIGNING.items()}
        try:
            verify(keys, given, body, now=datetime.fromtimestamp(now_s, UTC))
        except SignatureProblem:
            return False
        return True

    return admits


def _key(secret: str, *, platform: str) -> str:
    try:
        check_key(secret, signs=True)
    except ConfigurationError as error:
        raise ConfigurationError(f"{platform}: auth.secret: {error}") from None
    return secret
