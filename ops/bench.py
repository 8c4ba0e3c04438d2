"""`renewal bench`: what this machine does, end to end, on the real path: files in, verified results out.

Each load is a sandbox run without faults: sealing, admission, HTTP calls, results queue, recorder and the comparison
with the platforms' ledger are all in it. Nothing is asserted; the figures belong beside the machine they came from.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ops.run import Run
from ops.run_folder import RunOptions
from platforms.catalogue import SAMPLE, Catalogue
from schemas.errors import RenewalError
from schemas.summary import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One measured load: so many numbers at every sample platform of one protocol."""

    name: str
    protocol: str
    numbers: int


LOADS = (Load(name="bulk", protocol="bulk-json", numbers=2000), Load(name="single calls", protocol="json", numbers=300))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one load came to; times in seconds, from the command's start to the last settled job."""

    load: str
    platforms: int
    jobs: int
    calls: int
    duration_s: float
    jobs_per_s: float


def measure(*, seed: int, stop: threading.Event) -> Iterator[Figure]:
    """Run each load once in a folder of its own. Raises RenewalError if a ledger does not agree."""
    for load in LOADS:
        with tempfile.TemporaryDirectory(prefix="renewal-bench-") as folder:
            yield _figure(load, _run(load, Path(folder), seed=seed, stop=stop))


def _run(load: Load, folder: Path, *, seed: int, stop: threading.Event) -> Summary:
    file = folder / "numbers.csv"
    file.write_text("".join(_rows(load.numbers, seed=seed)), encoding="utf-8")
    keys = tuple(platform.key for platform in Catalogue.load(SAMPLE) if platform.protocol == load.protocol)
    options = RunOptions(
        file=str(file),
        catalogue=SAMPLE,
        platforms=keys,
        sandbox=True,
        faults="none",
        seed=seed,
        report=folder / "report",
    )
    end = Run(options, watch=lambda *_: None, stop=stop, data_dir=folder).execute()
    if end.summary.ledger is None or not end.summary.ledger.agrees:
        raise RenewalError(f"{load.name}: the platforms' ledger does not agree; the figure would mean nothing")
    return end.summary


def _rows(count: int, *, seed: int) -> Iterator[str]:
    rng = Random(seed)  # noqa: S311 - invented numbers, not secrets
    yield "number,cutoff_at\n"
    for number in rng.sample(range(10**8), count):
        yield f"138{number:08d},2026-11-01T00:00:00+08:00\n"


def _figure(load: Load, summary: Summary) -> Figure:
    return Figure(
        load=load.name,
        platforms=summary.jobs.total // max(1, summary.cases.accepted),
        jobs=summary.jobs.total,
        calls=summary.calls,
        duration_s=summary.duration_s,
        jobs_per_s=summary.jobs_per_s,
    )


def cores() -> int:
    """Return how many cores the figures were made on."""
    return os.cpu_count() or 1
