"""One load through the running product, from `renewal submit` to the last settled job, with what it cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.course import Course
from benchmarks.numbers import write_numbers
from benchmarks.platform_world import PlatformWorld
from benchmarks.system import System, settled
from benchmarks.usage import Usage

# Far from the seed of any load: what is handed in twice is no job.
_FIRST_SEED: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A load and what it took; processor time in seconds, that of `renewal submit` included."""

    course: Course
    cpu_s: float
    valkey_cpu_s: float
    server_share: float  # cores that the platform server used meanwhile
    submit_s: float


def run_load(system: System, world: PlatformWorld, numbers: Path, *, rows: int, usage: Usage) -> Cost:
    """Submit a file to a product that is up, and follow it to its end. Raises Unmeasured."""
    jobs = rows * len(system.catalogue)
    before, server_before_s = usage.cpu_s(), world.told().cpu_s
    submitting = system.submit(numbers)
    course = system.follow(submitting, jobs, count=settled)
    submitted = submitting.wait()
    after, server_s = usage.cpu_s(), world.told().cpu_s - server_before_s
    used = {name: after[name] - before.get(name, 0.0) for name in after}
    return Cost(
        course=course,
        cpu_s=sum(used.values()) + submitted.cpu_s,
        valkey_cpu_s=used["valkey"],
        server_share=server_s / course.seconds,
        submit_s=submitted.seconds,
    )


def warm_up(system: System, world: PlatformWorld, *, usage: Usage) -> None:
    """Let every process do its first jobs: one row."""
    file = write_numbers(system.folder / "first.csv", 1, seed=_FIRST_SEED)
    system.follow(system.submit(file), len(system.catalogue), count=settled)
    usage.look()
    world.told()
