"""One contender's turn: its own Valkey and platform server, its jobs, its processes, and the proof of it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from redis import Redis

from backends.embedded import EmbeddedValkey
from benchmarks.contenders import Contender
from benchmarks.course import Course
from benchmarks.errors import Unmeasured
from benchmarks.peers.job import STATUS_DB, jobs
from benchmarks.platform_server import LATER_AT
from benchmarks.platform_world import PlatformWorld, Told
from benchmarks.system import children_cpu_s
from benchmarks.usage import Usage

_POLL_S: Final = 0.02
_STUCK_S: Final = 60.0
_STOP_S: Final = 10.0
_OK: Final = b"200"
_FIRST_TIME: Final = b"1"
_SECOND_TIME: Final = b"2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a contender did; processor time in seconds."""

    course: Course
    worker_cpu_s: float
    store_cpu_s: float
    server_cpu_s: float
    held_mb: tuple[float, float]  # RSS, and PSS that counts once what is shared
    enqueue_per_s: float
    calls: int


def take_turn(contender: Contender, folder: Path, *, count: int, seed: int) -> Turn:
    """Let a contender do all jobs. Raises Unmeasured if a single one is missing or was called too often."""
    with PlatformWorld() as world, EmbeddedValkey(folder / "valkey") as server:
        environment = {
            **os.environ,
            "BENCH_REDIS": server.url.removesuffix("/0"),
            "BENCH_ENDPOINT": f"{world.url}/single/peer",
            "BENCH_COUNT": str(count),
            "BENCH_SEED": str(seed),
        }
        log = folder / f"{contender.name}.log"
        enqueue_s = _enqueue(contender, environment, log=log) if contender.queues else 0.0
        with contextlib.closing(Redis.from_url(f"{environment['BENCH_REDIS']}/{STATUS_DB}")) as statuses:
            began_s, dead_cpu_s, server_before_s = time.monotonic(), children_cpu_s(), world.told().cpu_s
            with _started(contender, environment, log=log) as processes:
                roots = {str(process.pid): process.pid for process in processes}
                with Usage(lambda: {**roots, "valkey": server.pid}) as usage:
                    follow = _follow_statuses if contender.queues else _follow_calls
                    course = follow(processes, world, statuses, count=count, began_s=began_s, log=log)
                    used = usage.cpu_s()
                    held = usage.held_mb(but="valkey")
            told = world.told()
            _prove(told, count=count, seed=seed)
            if contender.queues:
                _prove_statuses(statuses, count=count, seed=seed)
        store_s = used.pop("valkey")
        # Bare clients have ended by now: what they used is among the children that have ended.
        ended_s = children_cpu_s() - dead_cpu_s if not contender.queues else 0.0
    return Turn(
        course=course,
        worker_cpu_s=sum(used.values()) + ended_s,
        store_cpu_s=store_s,
        server_cpu_s=told.cpu_s - server_before_s,
        held_mb=held,
        enqueue_per_s=count / enqueue_s if enqueue_s else 0.0,
        calls=told.calls,
    )


def _enqueue(contender: Contender, environment: dict[str, str], *, log: Path) -> float:
    began_s = time.monotonic()
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peers.enqueue", contender.module],
            env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
        )  # fmt: skip
    if done.returncode:
        raise Unmeasured(f"{contender.name}: its jobs could not be queued:\n{_tail(log)}")
    return time.monotonic() - began_s


@contextlib.contextmanager
def _started(
    contender: Contender, environment: dict[str, str], *, log: Path
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start all processes of a contender; at the end none of its sessions lives."""
    processes = []
    try:
        with log.open("ab") as output:
            for index, command in enumerate(contender.commands):
                processes.append(
                    subprocess.Popen(
                        command,
                        env={**environment, "BENCH_SHARE": f"{index}/{len(contender.commands)}"},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                )
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            # Whatever it had started itself goes with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _follow_statuses(
    processes: list["subprocess.Popen[bytes]"],
    _: PlatformWorld,
    statuses: Redis,
    *,
    count: int,
    began_s: float,
    log: Path,
) -> Course:
    points: list[tuple[float, int]] = []
    moved_s = began_s
    while not points or points[-1][1] < count:
        now_s, done = time.monotonic(), int(statuses.dbsize())
        if not points or done > points[-1][1]:
            points.append((now_s - began_s, done))
            moved_s = now_s
        if now_s - moved_s > _STUCK_S or any(process.poll() is not None for process in processes):
            raise Unmeasured(f"{log.stem}: stopped at {done} of {count} jobs:\n{_tail(log)}")
        time.sleep(_POLL_S)
    return Course(jobs=count, points=points)


def _follow_calls(
    processes: list["subprocess.Popen[bytes]"], world: PlatformWorld, _: Redis, *, count: int, began_s: float, log: Path
) -> Course:
    points: list[tuple[float, int]] = []
    while any(process.poll() is None for process in processes):
        points.append((time.monotonic() - began_s, world.told().decided))
        if time.monotonic() - began_s > _STUCK_S:
            raise Unmeasured(f"{log.stem}: not done within {_STUCK_S:.0f} s:\n{_tail(log)}")
        time.sleep(_POLL_S)
    points.append((time.monotonic() - began_s, world.told().decided))
    if any(process.returncode for process in processes):
        raise Unmeasured(f"{log.stem}: failed:\n{_tail(log)}")
    return Course(jobs=count, points=points)


def _prove(told: Told, *, count: int, seed: int) -> None:
    """Each job was decided exactly once, and exactly those that were told to come later were asked twice."""
    marks = [crc32(body["id"].encode()) for body in jobs(count, seed=seed)]
    later = sum(1 for mark in marks if mark % 100 == LATER_AT)
    wanted = (count, sum(marks), later, count + later)
    found = (told.decided, told.decided_sum, told.told_later, told.calls)
    if found != wanted:
        raise Unmeasured(f"decided, their sum, told later, calls: expected {wanted}, the platform had {found}")


def _prove_statuses(statuses: Redis, *, count: int, seed: int) -> None:
    """Each job has its final status, with the attempts that it took."""
    pipe = statuses.pipeline(transaction=False)
    ids = [body["id"] for body in jobs(count, seed=seed)]
    for name in ids:
        pipe.hmget(f"status:{name}", "code", "attempts")
    for name, found in zip(ids, pipe.execute(), strict=True):
        attempts = _SECOND_TIME if crc32(name.encode()) % 100 == LATER_AT else _FIRST_TIME
        if found != [_OK, attempts]:
            raise Unmeasured(f"{name}: expected status 200 after {attempts!r} attempts, found {found}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-1500:].strip()
