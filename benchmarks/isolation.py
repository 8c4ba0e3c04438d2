"""What one platform that hangs costs the others: the same file with it well and with it hanging, in turn.

`python -m benchmarks.isolation [PAIRS]` from the project's folder, in its virtual environment.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.command import numbers, wait_until, write_input, write_platform
from tests.rig import Rig

NUMBERS = 9000
HANG_S = 30.0
HANGING = "many0"
PLATFORMS = 12
PATIENCE_S = 300.0


def catalogue(folder: Path) -> Path:
    """Write platforms whose limits are high: what is measured is what workers can do, not what platforms allow."""
    for index in range(PLATFORMS):
        limits = {"calls_per_s": 50, "in_flight": 8, "items_per_call": 20, "timeout_s": HANG_S}
        write_platform(folder, f"many{index}", limits=limits)
    return folder


def seconds_of_the_others(*, hangs: bool) -> float:
    """Return how long it took until every job of the other platforms was settled."""
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), catalogue=catalogue) as rig:
        if hangs:
            rig.world.order(HANGING, "hang", seconds=HANG_S)
        wanted = NUMBERS * (PLATFORMS - 1)
        keys = [platform.key for platform in rig.catalogue if platform.key != HANGING]

        def settled() -> bool:
            counters = rig.backends.runs.platform_counters(keys).values()
            return sum(sum(each.by_state().values()) for each in counters) >= wanted

        rig.up(workers=2)
        file = write_input(Path(folder) / "input.csv", numbers(NUMBERS))
        began_s = time.monotonic()
        rig.submit(file)
        wait_until(settled, what="the others' end", seconds=PATIENCE_S)
        return time.monotonic() - began_s


def main() -> None:
    """Measure in turn, so that what else the machine does falls on both alike."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    well: list[float] = []
    hanging: list[float] = []
    for _ in range(pairs):
        well.append(seconds_of_the_others(hangs=False))
        hanging.append(seconds_of_the_others(hangs=True))
        print(f"well {well[-1]:.1f} s, hanging {hanging[-1]:.1f} s, ratio {hanging[-1] / well[-1]:.3f}", flush=True)
    ratio = statistics.median(hanging) / statistics.median(well)
    print(
        f"{PLATFORMS - 1} platforms, {NUMBERS} numbers: the others take {ratio:.3f} times as long (medians of {pairs})"
    )


if __name__ == "__main__":
    main()
