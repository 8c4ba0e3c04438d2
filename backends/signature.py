"""Standard Webhooks signatures, made and checked: v1 (HMAC-SHA256) and v1a (Ed25519).

Source: the Standard Webhooks specification 1.0 and requirement 19. What is signed is `id.timestamp.body`, on the bytes
as they travel. Keys are texts: `whsec_…` signs and checks v1, `whsk_…` signs v1a, `whpk_…` checks it; without a prefix
a key is taken for v1. During a rotation there are two, and one that fits is enough.
"""

import binascii
import hashlib
import hmac
import os
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.errors import ConfigurationError

TOLERANCE_S: Final = 300
ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
_SHARED: Final = "whsec_"
_PRIVATE: Final = "whsk_"
_PUBLIC: Final = "whpk_"
_SECRET_BYTES: Final = 32
_HALF_BYTES: Final = 32
_KEYS_CACHED_MAX: Final = 2048
_SIGNATURES_MAX: Final = 10
_ID_CHARS_MAX: Final = 256
_STAMP_CHARS_MAX: Final = 10


class SignatureProblem(Exception):
    """Why a message is not taken for what it says it is; repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that was read once: to read it for each call would cost more than to sign with it."""

    version: str
    fits: Callable[[bytes, bytes], bool]  # a signature, and what it shall be of
    sign: Callable[[bytes], bytes] | None  # None for a key that only checks


def sign(secrets: Sequence[str], *, message_id: str, timestamp: datetime, body: bytes) -> str:
    """Return the value of `webhook-signature`, one signature for each secret. Raises ConfigurationError."""
    signed = _signed(message_id, str(int(timestamp.timestamp())), body)
    return " ".join([_signature(secret, signed) for secret in secrets])


def verify(keys: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: datetime) -> str:
    """Return the id of a message that one of the keys has signed within five minutes of `now`.

    `headers` have names in lower case. Raises SignatureProblem, and ConfigurationError for a key that is none.
    """
    ident, stamp, given = (headers.get(name, "") for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))
    if not ident or not stamp or not given:
        raise SignatureProblem(f"expected the headers {ID_HEADER}, {TIMESTAMP_HEADER} and {SIGNATURE_HEADER}")
    if len(ident) > _ID_CHARS_MAX or not (ident.isascii() and ident.isprintable()):
        raise SignatureProblem(f"{ID_HEADER}: expected at most {_ID_CHARS_MAX} printable ASCII characters")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= _STAMP_CHARS_MAX):
        raise SignatureProblem(f"{TIMESTAMP_HEADER}: expected whole seconds since 1970")
    if abs(now.timestamp() - int(stamp)) > TOLERANCE_S:
        raise SignatureProblem(f"{TIMESTAMP_HEADER} is more than {TOLERANCE_S} seconds from now")
    signed = _signed(ident, stamp, body)
    parts = [part.partition(",") for part in given.split(" ")[:_SIGNATURES_MAX]]
    # All are tried, also behind one that fits: the time this takes says nothing about the keys.
    fits = [_fits(_read(key), version, text, signed=signed) for key in keys for version, _, text in parts]
    if not any(fits):
        raise SignatureProblem("no signature fits")
    return ident


def check_key(key: str, *, signs: bool) -> None:
    """Raise ConfigurationError, which never repeats the key, if it cannot sign, or else check."""
    if _read(key).sign is None and signs:
        raise ConfigurationError("a public key (whpk_…) cannot sign; expected whsec_… or whsk_…")


def new_secret() -> str:
    """Make a key for v1, which both sides hold."""
    return _SHARED + _base64(os.urandom(_SECRET_BYTES))


def new_pair() -> tuple[str, str]:
    """Make the two keys of v1a: the private one, which signs and stays, and the public one, which checks."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    return _PRIVATE + _base64(private.private_bytes_raw() + public), _PUBLIC + _base64(public)


def _signed(ident: str, stamp: str, body: bytes) -> bytes:
    return b"%b.%b.%b" % (ident.encode(), stamp.encode(), body)


def _signature(secret: str, signed: bytes) -> str:
    key = _read(secret)
    if key.sign is None:
        raise ConfigurationError("a public key (whpk_…) cannot sign; expected whsec_… or whsk_…")
    return f"{key.version},{_base64(key.sign(signed))}"


def _fits(key: _Key, version: str, text: str, *, signed: bytes) -> bool:
    if version != key.version:
        return False
    try:
        return key.fits(b64decode(text, validate=True), signed)
    except ValueError:  # not base64
        return False


@lru_cache(_KEYS_CACHED_MAX)
def _read(text: str) -> _Key:
    """Read a key. Raises ConfigurationError."""
    if text.startswith(_PRIVATE):
        return _private(_material(text.removeprefix(_PRIVATE)))
    if text.startswith(_PUBLIC):
        material = _material(text.removeprefix(_PUBLIC))
        if len(material) != _HALF_BYTES:
            raise ConfigurationError(f"a public key (whpk_…) has {_HALF_BYTES} bytes")
        return _Key("v1a", _checks(Ed25519PublicKey.from_public_bytes(material)), None)
    material = _material(text.removeprefix(_SHARED))
    if not material:
        raise ConfigurationError("a secret (whsec_…) is not empty")
    return _Key(
        "v1",
        lambda signature, signed: hmac.compare_digest(hmac.digest(material, signed, hashlib.sha256), signature),
        lambda signed: hmac.digest(material, signed, hashlib.sha256),
    )


def _private(material: bytes) -> _Key:
    """Read a seed, alone or, as the specification writes it, with its public key behind it."""
    if len(material) not in {_HALF_BYTES, 2 * _HALF_BYTES}:
        raise ConfigurationError(f"a private key (whsk_…) has {_HALF_BYTES} or {2 * _HALF_BYTES} bytes")
    private = Ed25519PrivateKey.from_private_bytes(material[:_HALF_BYTES])
    public = private.public_key()
    if material[_HALF_BYTES:] not in {b"", public.public_bytes_raw()}:
        raise ConfigurationError("the two halves of a private key (whsk_…) do not belong together")
    return _Key("v1a", _checks(public), private.sign)


def _checks(public: Ed25519PublicKey) -> Callable[[bytes, bytes], bool]:
    def fits(signature: bytes, signed: bytes) -> bool:
        try:
            public.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return fits


def _material(text: str) -> bytes:
    try:
        # The specification's own library takes keys without their padding.
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ConfigurationError("a key is base64 behind whsec_, whsk_ or whpk_") from None


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
