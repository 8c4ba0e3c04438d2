"""`renewal bench`: the door to the benchmark, which lies beside the packages in `benchmarks/` and not in them.

It measures the product from outside, against peers that the product does not depend on, so it is not installed with
it: it is there where the project was checked out.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from schemas.errors import Refused

CHECKOUT: Final = Path(__file__).parents[1]


def become_bench(arguments: Sequence[str], *, checkout: Path = CHECKOUT) -> NoReturn:
    """Let this process become the benchmark. Raises Refused where the project is installed without it."""
    if not (checkout / "benchmarks" / "__main__.py").is_file():
        raise Refused(
            "the benchmark is not installed with the product: check the project out, and run `make bench` there"
        )
    os.chdir(checkout)
    # Signals, output and exit code are then its own.
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *arguments])  # noqa: S606 - ourselves, no shell
