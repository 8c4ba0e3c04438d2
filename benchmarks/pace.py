"""How fast this machine computes at this moment: one piece of work, done again and again beside a load.

A machine that shares its processor with others computes faster now and slower then, by a fifth within minutes. What is
held against something that was measured at another time is therefore divided by the pace that held meanwhile.
"""

import hashlib
import json
import subprocess
import sys
import time
from statistics import median
from types import TracebackType
from typing import Final, Self

from benchmarks.errors import Unmeasured

# The pace to which figures are brought: a piece of work in so many milliseconds of processor time.
STANDARD_MS: Final = 10.0
_EACH_S: Final = 0.5
_ROWS: Final = 400
_ROUNDS: Final = 6


def piece_of_work() -> int:
    """Do what a worker does most of: make small objects, write and read JSON, look things up, hash."""
    found = 0
    for turn in range(_ROUNDS):
        rows = [{"id": f"{turn}-{place}", "place": place, "code": "NO_BINDING"} for place in range(_ROWS)]
        read = json.loads(json.dumps(rows))
        by_id = {row["id"]: row["place"] for row in read}
        digest = hashlib.sha256("".join(by_id).encode()).digest()
        found += sum(by_id.values()) + digest[0]
    return found


class Pace:
    """Does the work twice a second in a process of its own while the context lasts; then `ms` is what it took."""

    def __init__(self) -> None:
        self.ms = 0.0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pace"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told, _ = self._process.communicate()
        if kind is None:
            self.ms = paced(told)


def paced(told: str) -> float:
    """Return the median of the lines of milliseconds. Raises Unmeasured where there is none."""
    times = [float(line) for line in told.splitlines()]
    if not times:
        raise Unmeasured("the pace of the machine was not measured")
    return median(times)


def _serve() -> None:
    """Work until nobody holds the other end of standard input."""
    import select

    while True:
        begun_s = time.process_time()
        piece_of_work()
        print(1000 * (time.process_time() - begun_s), flush=True)
        if select.select([sys.stdin], [], [], _EACH_S)[0]:
            return


if __name__ == "__main__":
    _serve()
