"""How long a person waits while a million bulk jobs are queued: from `submit` until the platform has the call.

The sample catalogue; its platforms are one fast server, which answers after 20 ms and notes when it was asked for whom.
Everything else is real: Valkey, `renewal up` with two workers, `renewal submit`, the limits of every platform.
"""

import asyncio
import contextlib
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import orjson
from typing_extensions import override

from backends.bootstrap import Backends, open_backends
from backends.settings import Settings
from backends.vault import new_key_file, write_key_file
from benchmarks.errors import Unmeasured
from platforms.catalogue import SAMPLE, Catalogue
from producers.rows import Row
from producers.submit import Submitter
from schemas.batch import Basis, Lane
from schemas.ids import case_id, job_id, new_id
from schemas.state import DISPATCHER_STATES
from simulator.sandbox import write_sandbox
from tests.command import CUTOFF, Renewal, free_port, wait_until
from tests.rig import ValkeyServer, run_of, said

SECONDS: Final = 60.0
EVERY_S: Final = 0.5
LATENCY_S: Final = 0.02
# Past the end of the measuring, for the last persons' jobs.
PATIENCE_S: Final = 60.0
_QUEUEING_S: Final = 3600.0


@dataclass(slots=True)
class Seen:
    """When a call with one item came, by the item's id; monotonic seconds, the same clock for every process."""

    file: Path
    _lines: list[str] = field(default_factory=list)

    def note(self, ident: str) -> None:
        """Note it now."""
        self._lines.append(f"{ident} {time.monotonic()}\n")

    async def write(self) -> None:
        """Hand on what was noted, again and again."""
        while True:
            await asyncio.sleep(0.2)
            lines, self._lines = self._lines, []
            with self.file.open("a", encoding="ascii") as file:
                file.writelines(lines)

    def read(self) -> dict[str, float]:
        """Return what was noted so far."""
        if not self.file.exists():
            return {}
        whole = [line for line in self.file.read_text("ascii").splitlines(keepends=True) if line.endswith("\n")]
        return {ident: float(at) for ident, _, at in (line.partition(" ") for line in reversed(whole))}


class PlatformServer(asyncio.Protocol):
    """Unbind protocol v1, as fast as it can be answered: nobody has a binding."""

    def __init__(self, seen: Seen) -> None:
        self._seen, self._held = seen, b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._held += data
        while b"\r\n\r\n" in self._held:
            head, _, rest = self._held.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            self._held = rest[length:]
            asyncio.get_running_loop().call_later(LATENCY_S, self._send, self._answer(orjson.loads(rest[:length])))

    def _answer(self, asked: dict[str, list[dict[str, str]]]) -> bytes:
        items = asked.get("items")
        if items is None:
            self._seen.note(str(asked["id"]))
            return b'{"code":"NO_BINDING"}'
        if len(items) == 1:
            self._seen.note(items[0]["id"])
        return orjson.dumps({"results": [{"id": item["id"], "code": "NO_BINDING"} for item in items]})

    def _send(self, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body)


def serve(port: int, seen: Path) -> None:
    """Be every platform, until ended."""

    async def run() -> None:
        noted = Seen(seen)
        server = await asyncio.get_running_loop().create_server(lambda: PlatformServer(noted), "127.0.0.1", port)
        async with server:
            await noted.write()

    asyncio.run(run())


@contextlib.contextmanager
def system(folder: Path) -> Iterator[tuple[Renewal, Backends, Catalogue, Seen]]:
    """Have a Valkey, the platforms and a catalogue that points at them; no worker yet."""
    valkey, port, seen = ValkeyServer(folder / "valkey"), free_port(), Seen(folder / "seen")
    platforms = multiprocessing.get_context("spawn").Process(target=serve, args=(port, seen.file), daemon=True)
    catalogue = write_sandbox(Catalogue.load(SAMPLE), folder / "catalogue", base_url=f"http://127.0.0.1:{port}")
    keys = folder / "number-keys"
    write_key_file(keys, new_key_file())
    renewal = Renewal(
        folder / "clean",
        RENEWAL_REDIS_URL=valkey.url,
        RENEWAL_NUMBER_KEYS_FILE=str(keys),
        RENEWAL_CATALOGUE=str(folder / "catalogue"),
        RENEWAL_PRIVATE_ENDPOINTS="allow",
        RENEWAL_QUEUE_HIGH_WATER="1000000",
    )
    valkey.start()
    platforms.start()
    settings = Settings(redis_url=valkey.url, number_keys_file=keys, data_dir=renewal.data)
    try:
        with contextlib.closing(open_backends(settings)) as backends:
            yield renewal, backends, catalogue, seen
    finally:
        renewal.kill_leftovers()
        platforms.kill()
        valkey.close()


def write_bulk(path: Path, count: int) -> Path:
    """Write the file of the night: so many numbers."""
    rows = (f"138{index:08d},{CUTOFF}\n" for index in range(count))
    path.write_text("number,cutoff_at\n" + "".join(rows), encoding="utf-8")
    return path


def settled(backends: Backends, run: str) -> int:
    """Count the jobs of a run that are through."""
    states = backends.runs.counters(run).by_state()
    return sum(count for state, count in states.items() if state not in DISPATCHER_STATES)


def ask(backends: Backends, catalogue: Catalogue, platform: str, *, person: int) -> tuple[str, float]:
    """Submit one number at one platform for a person. Returns the job's id and when it was submitted."""
    number = f"+86139{person:08d}"
    cycle, operator = "2026-12-02", backends.settings.operator
    row = Row(
        line=1, number=number, cutoff_at=CUTOFF, reference="", basis=Basis.PLANNED_RELEASE, cycle=cycle,
        platforms=(platform,),
    )  # fmt: skip
    run, began_s = new_id(), time.monotonic()
    backends.runs.begin(run, file="person", now=backends.clock.now())
    submitter = Submitter(backends, catalogue, operator=operator, lane=Lane.INTERACTIVE)
    submitter.submit([row], run=run, on_rejected=lambda _: None)
    case = case_id(operator=operator, number_token=backends.vault.token(number), cycle=cycle)
    return job_id(case, platform), began_s


def ask_persons(
    backends: Backends, catalogue: Catalogue, seen: Seen, *, bulk: str, of: int, seed: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Ask for persons at an even pace; return how long each waited."""
    rng, asked = Random(seed), dict[str, float]()  # noqa: S311 - which platform is no secret
    keys = [platform.key for platform in catalogue]
    before, began_s = settled(backends, bulk), time.monotonic()
    while time.monotonic() - began_s < SECONDS and settled(backends, bulk) < of:
        job, at_s = ask(backends, catalogue, rng.choice(keys), person=len(asked))
        asked[job] = at_s
        time.sleep(max(0.0, began_s + len(asked) * EVERY_S - time.monotonic()))
    took_s, after = time.monotonic() - began_s, settled(backends, bulk)
    wait_until(lambda: asked.keys() <= seen.read().keys(), what="the last persons' calls", seconds=PATIENCE_S)
    came = seen.read()
    waits_s = sorted(came[job] - at_s for job, at_s in asked.items())
    say(f"{len(waits_s)} jobs of persons in {took_s:.0f} s, at random platforms of {len(keys)}")
    return {
        "sent_p50_s": statistics.median(waits_s),
        "sent_p99_s": waits_s[math.ceil(0.99 * len(waits_s)) - 1],
        "sent_max_s": waits_s[-1],
        "persons": len(waits_s),
        "bulk_jobs_per_s": (after - before) / took_s,
        "backlog_jobs": of - after,
    }


def measure(*, seed: int, backlog_jobs: int, say: Callable[[str], None]) -> dict[str, float]:
    """Queue the bulk jobs, start the system, and see how long persons wait. Raises Unmeasured."""
    with tempfile.TemporaryDirectory() as folder, system(Path(folder)) as (renewal, backends, catalogue, seen):
        count = -(-backlog_jobs // len(catalogue))
        submitted = renewal.run("submit", write_bulk(Path(folder) / "bulk.csv", count), seconds=_QUEUEING_S)
        if submitted.code:
            raise Unmeasured(f"the bulk jobs could not be queued: {submitted.err}")
        bulk, of = run_of(submitted), count * len(catalogue)
        depth = backends.broker.depths()[backends.broker.queues[Lane.BULK].name]
        say(f"{of:,} bulk jobs queued in {depth:,} batches")
        with renewal.started("up", "--workers", "2") as up:
            said(up, r"(up; logs in)")
            wait_until(lambda: settled(backends, bulk) > 0, what="the bulk lane is under way")
            return ask_persons(backends, catalogue, seen, bulk=bulk, of=of, seed=seed, say=say)
