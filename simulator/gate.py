"""Who may call a pretended platform: the three schemes of a catalogue entry, checked from the platform's side."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Final

from platforms.model import Bearer, Platform, StandardWebhooks
from schemas.errors import ConfigurationError

Headers = Mapping[bytes, bytes]  # names in lower case
# Returns whether a call with these headers and this body, at this instant in seconds since 1970, is let in.
Gate = Callable[[Headers, bytes, float], bool]

_TOLERANCE_S: Final = 300
_PREFIX: Final = "whsec_"


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


def _signature(keys: list[bytes]) -> Gate:
    """Standard Webhooks v1: while a key is rotated, a signature by either key is good."""

    def admits(headers: Headers, body: bytes, now_s: float) -> bool:
        ident, stamp = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        if not ident or not stamp.isdigit() or abs(now_s - int(stamp)) > _TOLERANCE_S:
            return False
        signed = b".".join((ident, stamp, body))
        good = [b"v1," + b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
        given = headers.get(b"webhook-signature", b"").split(b" ")
        return any(hmac.compare_digest(one, other) for one in good for other in given)

    return admits


def _key(secret: str, *, platform: str) -> bytes:
    try:
        # Padding that is too long is ignored, so unpadded secrets are read as well.
        key = b64decode(secret.removeprefix(_PREFIX) + "==")
    except ValueError:
        key = b""
    if not key:
        raise ConfigurationError(f"{platform}: auth.secret: expected whsec_ and base64")
    return key
