"""A file whose bytes are sealed at rest, written and read from its beginning in fixed memory.

Each block is bound to the file's name and to its place, so that none can be moved, left out or taken from elsewhere;
how many there are is known to who wrote it.
"""

import io
import struct
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from typing_extensions import override

from backends.vault import Vault
from schemas.errors import InputError

BLOCK_BYTES: Final = 256 * 1024
_LENGTH: Final = struct.Struct(">I")


class SealedWriter:
    """Writes; the file is whole only when `close` has returned."""

    def __init__(self, path: Path, vault: Vault, *, name: str) -> None:
        self._vault, self._name = vault, name
        path.touch(mode=0o600)
        self._file = path.open("wb")
        self._rest = bytearray()
        self.blocks = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        """Take some bytes more."""
        self._rest += data
        while len(self._rest) >= BLOCK_BYTES:
            self._put(bytes(self._rest[:BLOCK_BYTES]))
            del self._rest[:BLOCK_BYTES]

    def close(self) -> None:
        """Write what is left."""
        if self._rest:
            self._put(bytes(self._rest))
            self._rest.clear()
        self._file.close()

    def _put(self, block: bytes) -> None:
        sealed = self._vault.seal(block, context=_context(self._name, self.blocks))
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self.blocks += 1


class SealedReader(io.RawIOBase):
    """Reads. Raises InputError where blocks are missing, ContractError where one was changed or no key opens it."""

    def __init__(self, path: Path, vault: Vault, *, name: str, blocks: int) -> None:
        super().__init__()
        self._file, self._vault = path.open("rb"), vault
        self._name, self._blocks = name, blocks
        self._place, self._block = 0, memoryview(b"")

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]  # what a reader hands in
        while not self._block and self._place < self._blocks:
            self._block = memoryview(self._next())
        count = min(len(buffer), len(self._block))
        buffer[:count] = self._block[:count]
        self._block = self._block[count:]
        return count

    @override
    def close(self) -> None:
        self._file.close()
        super().close()

    def _next(self) -> bytes:
        head = self._file.read(_LENGTH.size)
        sealed = self._file.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
        if not sealed:
            raise InputError("the stored file is not whole; hand it in again")
        self._place += 1
        return self._vault.open(sealed, context=_context(self._name, self._place - 1))


def _context(name: str, place: int) -> bytes:
    return f"renewal/upload/{name}/{place}".encode()
