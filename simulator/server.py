"""Every platform of a catalogue on one port, with doors to look behind the scenes and one to stir them.

`POST /<platform key>/…` is that platform's endpoint. `GET /_ledger[?platform=key]` tells what it really did,
`GET /_stats` what was counted, `GET /_health` that it is up. `POST /_control` makes a platform misbehave (see
`simulator.behaviour`), `GET /_control` tells which do.
"""

import asyncio
import gc
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import orjson
import uvloop

from platforms.catalogue import Catalogue
from platforms.model import Platform
from schemas.errors import BackendUnavailable
from simulator.behaviour import EVERY_PLATFORM, read_order
from simulator.caller import call_back
from simulator.connection import Connection
from simulator.desk import Call, Desk, answers_of
from simulator.gate import gate_of
from simulator.later import Letter
from simulator.ledger import Ledger
from simulator.reply import Reply, json_response, problem_response, stream_head
from simulator.request import Rejected
from simulator.scenario import Fortune, Scenario
from simulator.world import World

FLUSH_INTERVAL_S: Final = 0.2
_BACKLOG: Final = 1024
_GOODBYE_S: Final = 1.0
_ROWS_PER_CHUNK: Final = 500
_GC_THRESHOLD: Final = 100_000
_JSON_LINES: Final = b"application/x-ndjson"
_SUMMED: Final = ("requests", "items", "auth_failures", "rejected", "in_flight")


class Simulator:
    """The pretended platforms behind their desks, without the network.

    Raises CatalogueError for a catalogue it cannot speak for, ConfigurationError for a secret or ledger it cannot use.
    """

    def __init__(
        self,
        catalogue: Iterable[Platform],
        secrets: Callable[[str], str],
        *,
        seed: int,
        scenario: Scenario,
        ledger_path: Path | None = None,
    ) -> None:
        self._about = {"seed": seed, "scenario": scenario.name}
        self._started_s = time.monotonic()
        parts = [(p, World(p, seed=seed), Fortune(scenario, p, seed=seed), gate_of(p, secrets)) for p in catalogue]
        self.ledger = Ledger(
            {p.key: answers_of(world, fortune) for p, world, fortune, _ in parts}, seed=seed, path=ledger_path
        )
        self._desks = {
            p.key.encode(): Desk(
                p,
                world=world,
                fortune=fortune,
                ledger=self.ledger,
                gate=gate,
                callback_secrets=tuple(map(secrets, p.callback_refs)),
            )
            for p, world, fortune, gate in parts
        }

    def handle(self, call: Call) -> Reply:
        """Return the reply to any request; it never raises for what a client sent."""
        path, _, query = call.target.partition(b"?")
        name = path[1:].partition(b"/")[0]
        desk = self._desks.get(name)
        if desk is not None:
            return desk.handle(call)
        if name == b"_control" and call.method == b"POST":
            return self._obey(call.body)
        if call.method != b"GET":
            return Reply(payload=problem_response(404, "no such platform"))
        return self._page(name, query)

    def letters(self) -> list[Letter]:
        """Return the callbacks of all platforms that are due now."""
        return [letter for desk in self._desks.values() for letter in desk.letters()]

    def _page(self, name: bytes, query: bytes) -> Reply:
        if name == b"_control":
            return self._misbehaving()
        if name == b"_health":
            return Reply(payload=json_response(200, {"status": "ok", "platforms": len(self._desks), **self._about}))
        if name == b"_stats":
            return Reply(payload=json_response(200, self.stats()))
        if name == b"_ledger":
            return self._ledger_reply(parse_qs(query.decode("latin-1")).get("platform", [None])[0])
        return Reply(payload=problem_response(404, "no such page; there are _health, _stats, _ledger and _control"))

    def stats(self) -> dict[str, object]:
        """Return the counts of all platforms together, and of each that was called."""
        meters = {key.decode(): desk.meter for key, desk in self._desks.items() if desk.meter.requests}
        faults: Counter[str] = Counter()
        for meter in meters.values():
            faults += meter.faults
        return {
            **self._about,
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            **{name: sum(getattr(meter, name) for meter in meters.values()) for name in _SUMMED},
            "faults": dict(faults),
            "jobs": len(self.ledger),
            "effects": self.ledger.effects,
            "repeat_pairs": self.ledger.repeat_pairs,
            "platforms": {
                key: {
                    **meter.summary(),
                    "effects": self.ledger.books[key].effects,
                    "withdrawals": len(self._desks[key.encode()].withdrawn),
                }
                for key, meter in meters.items()
            },
        }

    def _obey(self, body: bytes) -> Reply:
        """Let platforms misbehave, or no longer, from the next call on."""
        try:
            order = read_order(body)
        except Rejected as rejected:
            return Reply(payload=problem_response(rejected.status, rejected.problem))
        chosen = [desk for key, desk in self._desks.items() if order.platform in {EVERY_PLATFORM, key.decode()}]
        if not chosen:
            return Reply(payload=problem_response(404, "no such platform"))
        for desk in chosen:
            desk.behaviour = order.behaviour
        return self._misbehaving()

    def _misbehaving(self) -> Reply:
        shown = {
            key.decode(): desk.behaviour.model_dump(mode="json")
            for key, desk in self._desks.items()
            if desk.behaviour is not None
        }
        return Reply(payload=json_response(200, {"platforms": shown}))

    def _ledger_reply(self, platform: str | None) -> Reply:
        if platform is not None and platform not in self.ledger.books:
            return Reply(payload=problem_response(404, "no such platform"))
        return Reply(payload=stream_head(_JSON_LINES), rest=_chunks(self.ledger.rows(platform)))


def _chunks(rows: Iterator[dict[str, object]]) -> Iterator[bytes]:
    """Yield JSON lines, some hundred at a time: a chunk must not hold up the calls beside it."""
    lines: list[bytes] = []
    for row in rows:
        lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        if len(lines) == _ROWS_PER_CHUNK:
            yield b"".join(lines)
            lines.clear()
    if lines:
        yield b"".join(lines)


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 takes any free one. Raises BackendUnavailable where the port is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise BackendUnavailable(f"the simulator cannot listen on {host}:{port}: {error.strerror}") from None
    return sock


async def serve(
    catalogue: Catalogue,
    secrets: Callable[[str], str],
    *,
    seed: int,
    scenario: Scenario,
    sock: socket.socket,
    ledger_path: Path | None = None,
    callbacks: str | None = None,
    stop: asyncio.Event | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve on a bound socket until `stop` is set; `ready` is called once calls are taken.

    `callbacks` is the address of the dispatcher that answers which come later are sent to; none are without it.

    At the end every reply that is planned is sent, the ledger is flushed and closed. Raises as `Simulator` does.
    """
    loop = asyncio.get_running_loop()
    simulator = Simulator(catalogue, secrets, seed=seed, scenario=scenario, ledger_path=ledger_path)
    connections: set[Connection] = set()
    with simulator.ledger as ledger:
        server = await loop.create_server(
            # Flushed before each reply: an effect that a client knows of is never forgotten, not even by kill -9.
            lambda: Connection(simulator.handle, before_send=ledger.flush, open_connections=connections),
            sock=sock,
            backlog=_BACKLOG,
        )
        tasks = [loop.create_task(_flush_now_and_then(ledger))]
        if callbacks is not None:
            tasks.append(loop.create_task(call_back(simulator.letters, url=callbacks)))
        try:
            if ready is not None:
                ready()
            await (stop or asyncio.Event()).wait()
        finally:
            for task in tasks:
                task.cancel()
            server.close()
            await _say_goodbye(server, connections)


async def _flush_now_and_then(ledger: Ledger) -> None:
    while True:
        await asyncio.sleep(FLUSH_INTERVAL_S)
        ledger.flush()


async def _say_goodbye(server: asyncio.Server, connections: set[Connection]) -> None:
    """Send what is planned and close all; who does not take it within a moment is cut off."""
    for connection in list(connections):
        connection.hurry()
    try:
        await asyncio.wait_for(server.wait_closed(), _GOODBYE_S)
    except TimeoutError:
        for connection in list(connections):
            connection.abort()


def run_simulator(
    catalogue: Catalogue,
    secrets: Callable[[str], str],
    *,
    seed: int,
    scenario: Scenario,
    sock: socket.socket,
    ledger_path: Path | None = None,
    callbacks: str | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve in this process, which is for nothing else, until SIGTERM or SIGINT. Raises as `serve` does."""

    async def until_signalled() -> None:
        stop = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
        await serve(
            catalogue,
            secrets,
            seed=seed,
            scenario=scenario,
            sock=sock,
            ledger_path=ledger_path,
            callbacks=callbacks,
            stop=stop,
            ready=ready,
        )

    # The ledger grows without cycles: looking through it for some would cost a quarter of the time.
    gc.set_threshold(_GC_THRESHOLD)
    uvloop.run(until_signalled())
