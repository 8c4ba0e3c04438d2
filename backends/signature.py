"""Standard Webhooks signatures, made and checked: v1 (HMAC-SHA256) and v1a (Ed25519).

Source: the Standard Webhooks specification 1.0 and requirement 19. What is signed is `id.timestamp.body`, on the bytes
as they travel. Keys are texts: `whsec_…` signs and checks v1, `whsk_…` signs v1a, `whpk_…` checks it; without a prefix
a key is taken for v1. During a rotation there are two, and one that fits is enough.
"""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
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
_SEED_BYTES: Final = 32
_SIGNATURES_MAX: Final = 10
_ID_CHARS_MAX: Final = 256


class SignatureProblem(Exception):
    """Why a message is not taken for what it says it is; repeats nothing of it."""


def sign(secrets: Sequence[str], *, message_id: str, timestamp: datetime, body: bytes) -> str:
    """Return the value of `webhook-signature`, one signature for each secret. Raises ConfigurationError."""
    signed = _signed(message_id, str(int(timestamp.timestamp())), body)
    return " ".join(_signature(secret, signed) for secret in secrets)


def verify(keys: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: datetime) -> str:
    """Return the id of a message that one of the keys has signed within five minutes of `now`.

    `headers` have names in lower case. Raises SignatureProblem, and ConfigurationError for a key that is none.
    """
    ident, stamp, given = (headers.get(name, "") for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))
    if not ident or not stamp or not given:
        raise SignatureProblem(f"expected the headers {ID_HEADER}, {TIMESTAMP_HEADER} and {SIGNATURE_HEADER}")
    if len(ident) > _ID_CHARS_MAX or not (stamp.isascii() and stamp.isdigit() and len(stamp) <= len("9999999999")):
        raise SignatureProblem(f"{ID_HEADER} is too long, or {TIMESTAMP_HEADER} is not in whole seconds since 1970")
    if abs(now.timestamp() - int(stamp)) > TOLERANCE_S:
        raise SignatureProblem(f"{TIMESTAMP_HEADER} is more than {TOLERANCE_S} seconds from now")
    signed = _signed(ident, stamp, body)
    passed = [part.partition(",") for part in given.split(" ")[:_SIGNATURES_MAX]]
    # All are tried, also behind one that fits: the time this takes says nothing about the keys.
    fits = [_fits(key, version, signature, signed=signed) for key in keys for version, _, signature in passed]
    if not any(fits):
        raise SignatureProblem("no signature fits")
    return ident


def check_key(key: str, *, signs: bool) -> None:
    """Raise ConfigurationError, which never repeats the key, if it cannot sign, or else check."""
    if signs and key.startswith(_PUBLIC):
        raise ConfigurationError("a public key (whpk_…) cannot sign; expected whsec_… or whsk_…")
    _material(key)


def _signed(ident: str, stamp: str, body: bytes) -> bytes:
    return f"{ident}.{stamp}.".encode() + body


def _signature(secret: str, signed: bytes) -> str:
    check_key(secret, signs=True)
    material = _material(secret)
    if secret.startswith(_PRIVATE):
        return "v1a," + b64encode(Ed25519PrivateKey.from_private_bytes(material[:_SEED_BYTES]).sign(signed)).decode()
    return "v1," + b64encode(hmac.digest(material, signed, hashlib.sha256)).decode()


def _fits(key: str, version: str, signature: str, *, signed: bytes) -> bool:
    try:
        given = b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    material = _material(key)
    if version == "v1a" and key.startswith((_PUBLIC, _PRIVATE)):
        return _fits_ed25519(key, material, given, signed=signed)
    if version == "v1" and not key.startswith((_PUBLIC, _PRIVATE)):
        return hmac.compare_digest(hmac.digest(material, signed, hashlib.sha256), given)
    return False


def _fits_ed25519(key: str, material: bytes, given: bytes, *, signed: bytes) -> bool:
    if key.startswith(_PRIVATE):
        public = Ed25519PrivateKey.from_private_bytes(material[:_SEED_BYTES]).public_key()
    else:
        public = Ed25519PublicKey.from_public_bytes(material)
    try:
        public.verify(given, signed)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=2048)
def _material(key: str) -> bytes:
    prefix = next((each for each in (_SHARED, _PRIVATE, _PUBLIC) if key.startswith(each)), "")
    text = key.removeprefix(prefix)
    try:
        # The specification's own library takes keys without their padding.
        material = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError("a webhook key is not base64 behind its prefix") from None
    expected = {_PRIVATE: (_SEED_BYTES, 2 * _SEED_BYTES), _PUBLIC: (_SEED_BYTES,)}.get(prefix)
    if not material or (expected is not None and len(material) not in expected):
        raise ConfigurationError("a webhook key is empty or of a wrong length")
    return material
