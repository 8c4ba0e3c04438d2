"""Numbers at rest and in the broker: sealed, found by token, never in the clear (requirement 22).

AES-256-GCM-SIV (RFC 8452): a repeated nonce reveals only that two texts are equal. What is sealed is bound to its
place by the context, so that a blob cannot be moved to another case or batch.
"""

import hmac
import os
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from schemas.errors import ConfigurationError, ContractError
from schemas.ids import derive

_KEY_BYTES = 32
_NONCE_BYTES = 12
_LINE = re.compile(r"(seal|token) ([a-z0-9]{4}) ([A-Za-z0-9+/]{43}=)")
_FILE_MODE = 0o600


class Vault:
    """Seals with the first `seal` key, opens with any; tokens come from the one `token` key."""

    def __init__(self, *, seal_keys: dict[str, bytes], token_key: bytes) -> None:
        self._ciphers = {ident.encode(): AESGCMSIV(key) for ident, key in seal_keys.items()}
        self._newest = next(iter(self._ciphers))
        self._token_key = token_key

    @classmethod
    def parse(cls, text: str, *, source: str) -> "Vault":
        """Read keys: one a line, `seal <4 letters> <base64>` newest first, and one `token` line.

        Raises ConfigurationError that names `source` and line, never a key.
        """
        seal_keys: dict[str, bytes] = {}
        token_keys: list[bytes] = []
        for position, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if not found:
                raise ConfigurationError(
                    f"{source}: line {position}: expected `seal|token <4 letters or digits> <base64 of 32 bytes>`"
                )
            use, ident, key = found[1], found[2], b64decode(found[3])
            if use == "token":
                token_keys.append(key)
            elif ident in seal_keys:
                raise ConfigurationError(f"{source}: line {position}: key id {ident} appears twice")
            else:
                seal_keys[ident] = key
        if not seal_keys or len(token_keys) != 1:
            raise ConfigurationError(f"{source}: expected at least one `seal` line and exactly one `token` line")
        return cls(seal_keys=seal_keys, token_key=token_keys[0])

    def seal(self, text: bytes, *, context: bytes) -> bytes:
        """Return key id, nonce and ciphertext; only the same `context` opens it."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, text, context)

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """Return the text. Raises ContractError if the key is unknown or anything was changed."""
        ident, nonce, rest = sealed[:4], sealed[4 : 4 + _NONCE_BYTES], sealed[4 + _NONCE_BYTES :]
        cipher = self._ciphers.get(ident)
        if cipher is None:
            raise ContractError("sealed with a key that is not in the key file")
        try:
            return cipher.decrypt(nonce, rest, context)
        except (InvalidTag, ValueError):
            raise ContractError("the sealed numbers do not belong to these cases, or were changed") from None

    def seal_numbers(self, numbers: list[str] | tuple[str, ...], *, context: bytes) -> str:
        """Seal the numbers of one batch as one text."""
        return urlsafe_b64encode(self.seal("\n".join(numbers).encode(), context=context)).decode()

    def open_numbers(self, sealed: str, *, context: bytes) -> list[str]:
        """Return the numbers of a batch in order. Raises ContractError."""
        try:
            blob = urlsafe_b64decode(sealed)
        except ValueError:
            raise ContractError("the sealed numbers are not base64") from None
        return self.open(blob, context=context).decode().split("\n")

    def token(self, text: str) -> str:
        """Return the keyed token by which a number or reference is found: equal texts, equal tokens."""
        return derive(hmac.digest(self._token_key, text.encode(), "sha256").hex())


def new_key_file() -> str:
    """Return the text of a fresh key file."""
    return f"{_new_line('seal')}\n{_new_line('token')}\n"


def rotate(text: str) -> str:
    """Return the key file with a new key to seal with; the older ones still open."""
    return f"{_new_line('seal')}\n{text}"


def write_key_file(path: Path, text: str) -> None:
    """Write a key file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _new_line(use: str) -> str:
    ident = derive(os.urandom(16).hex())[:4]
    return f"{use} {ident} {b64encode(os.urandom(_KEY_BYTES)).decode()}"
