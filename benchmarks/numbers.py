"""Files of invented numbers, the same for the same seed."""

from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Final

CUTOFF: Final = "2026-11-01T00:00:00+08:00"
_PREFIXES: Final = ("138", "139", "150", "151", "188")
_EACH: Final = 10**8


def mobiles(count: int, *, seed: int) -> list[str]:
    """Return different mobile numbers."""
    found = Random(seed).sample(range(len(_PREFIXES) * _EACH), count)  # noqa: S311 - invented, not secret
    return [f"{_PREFIXES[number // _EACH]}{number % _EACH:08d}" for number in found]


def write_numbers(path: Path, count: int, *, seed: int) -> Path:
    """Write an input file of `count` rows."""
    return write_rows(path, mobiles(count, seed=seed))


def write_rows(path: Path, numbers: Iterable[str]) -> Path:
    """Write an input file of these numbers."""
    with path.open("w", encoding="utf-8") as file:
        file.write("number,cutoff_at\n")
        file.writelines(f"{mobile},{CUTOFF}\n" for mobile in numbers)
    return path
