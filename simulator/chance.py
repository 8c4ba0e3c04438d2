"""Chance that repeats: the same words under the same seed always give the same roll."""

from hashlib import blake2b
from typing import Final

ROLL_BITS: Final = 64
HALF_BITS: Final = 32
_HALF: Final = 1 << HALF_BITS


class Chance:
    """One use of chance at one platform, independent of every other use, platform and seed."""

    def __init__(self, *, seed: int, use: str, platform: str) -> None:
        # Not crc32: it is linear, so two platforms would hold bindings of numbers in the same pattern.
        self._salted = blake2b(f"{seed}|{use}|{platform}|".encode(), digest_size=ROLL_BITS // 8)

    def roll(self, text: str) -> int:
        """Return 64 evenly spread bits, the same for the same text."""
        digest = self._salted.copy()
        digest.update(text.encode())
        return int.from_bytes(digest.digest(), "big")


def bound_of(share: float) -> int:
    """Return the number under which `share` of all rolls lie."""
    return int(share * (1 << ROLL_BITS))


def high_share(bits: int) -> float:
    """Return the upper half of a roll as a share in [0, 1)."""
    return (bits >> HALF_BITS) / _HALF


def low_half(bits: int) -> int:
    """Return the lower half of a roll, 32 bits that say nothing about the upper half."""
    return bits & (_HALF - 1)
