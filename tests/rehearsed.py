"""What the tests of the conformance kit build on: an endpoint here, numbers to lend, and a rehearsal of it."""

import asyncio
import atexit
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cache
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvloop

from backends.signature import new_secret
from ops.conformance.check import Finding, Verdict
from ops.conformance.ear import Ear
from ops.conformance.numbers import Lent, Role
from ops.conformance.plan import Plan
from ops.conformance.rehearsal import Rehearsal, judge
from platforms.catalogue import Catalogue
from platforms.model import Platform
from schemas.ids import derive, new_id
from simulator.behaviour import Behaviour
from simulator.server import listen, serve
from simulator.world import World
from tests.simulated import CALM, SEED, number
from workers.transport import RequestsTransport

ROOT = Path(__file__).parents[1]
SECRET = new_secret()
BOUND_AT = datetime(2019, 5, 1, tzinfo=UTC)


def entry(port: int, **fields: object) -> Platform:
    """Return a signed bulk entry at a port of this machine; `fields` replace its own."""
    said: dict[str, Any] = {
        "key": "acme",
        "name": {"zh": "示例", "en": "Acme"},
        "category": "social",
        "account_domain": "acme",
        "protocol": "bulk-json",
        "endpoint": f"http://127.0.0.1:{port}/v1/renewals",
        "auth": {"scheme": "standard-webhooks", "secret": "env:ACME_SECRET"},
        "limits": {"calls_per_s": 1000, "items_per_call": 50, "timeout_s": 5},
    }
    return Platform.model_validate(said | fields)


def rehearsed(
    platform: Platform,
    numbers: tuple[Lent, ...],
    *,
    credentials: tuple[str, ...] = (SECRET,),
    callback_keys: tuple[str, ...] = (),
    ear: Ear | None = None,
    wait_s: float = 5.0,
    run: str = "",
) -> tuple[Finding, ...]:
    """Play everything against an endpoint of this machine, and judge it."""
    plan = Plan(
        platform=platform, numbers=numbers, credentials=credentials, run=run or new_id(), begun_at=datetime.now(UTC)
    )
    played = Rehearsal(
        plan=plan,
        transport=_transport(),
        clock=lambda: datetime.now(UTC),
        pause=threading.Event().wait,
        wait_s=wait_s,
        ear=ear,
        callback_keys=callback_keys,
    ).play()
    return judge(played)


@cache
def _transport() -> RequestsTransport:
    """Return one client for all rehearsals of this process: reading the authorities takes longer than one of them."""
    transport = RequestsTransport(private_endpoints=True)
    atexit.register(transport.close)
    return transport


def broken(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Return what failed, each with what the kit says of it."""
    return {finding.check.name: finding.said for finding in findings if finding.verdict is Verdict.FAILED}


def not_holding(findings: tuple[Finding, ...]) -> list[str]:
    """Return the musts that do not hold, whether they failed or were not tried."""
    return [f"{finding.check.name}: {finding.verdict} {finding.said}" for finding in findings if not finding.holds]


# -- the example server ------------------------------------------------------------------------------------------------


def example() -> Any:
    """Return the example server as a module of its own."""
    spec = importlib.util.spec_from_file_location("platform_server", ROOT / "examples" / "platform_server.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def example_served(record: Path, *, spoil: Callable[[Any], None] = lambda _: None) -> Iterator[Platform]:
    """Serve the example, spoiled or as it is, and yield the entry that leads to it."""
    module = example()
    module.Handler.record, module.Handler.secret = module.Record(record), SECRET
    spoil(module)
    server = ThreadingHTTPServer(("127.0.0.1", 0), module.Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        outcomes = Catalogue.load(ROOT / "examples" / "catalogue").get("acme").outcomes
        yield entry(server.server_port, outcomes=outcomes)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        if module.Handler.later is not None:
            module.Handler.later.close()
        module.Handler.record._file.close()


@cache
def example_numbers() -> tuple[Lent, ...]:
    """Return numbers whose accounts at the example are what their roles say."""
    unbind, late = example().unbind, datetime.now(UTC)
    found = {
        code: [number(n) for n in range(400) if unbind(number(n), late) == code] for code in ("NONE", "HELD", "OK")
    }
    return (
        Lent(role=Role.BOUND_BEFORE, number=found["OK"][0], bound_at=BOUND_AT),
        Lent(role=Role.BOUND_BEFORE, number=found["OK"][1], bound_at=BOUND_AT),
        Lent(role=Role.BOUND_AFTER, number=found["OK"][2], bound_at=BOUND_AT),
        Lent(role=Role.NOT_BOUND, number=found["NONE"][0]),
        Lent(role=Role.REFUSING, number=found["HELD"][0]),
    )


# -- the simulator -----------------------------------------------------------------------------------------------------


@contextmanager
def simulated(
    *, behaviour: Behaviour | Mapping[str, object] | None = None, secret: str | None = SECRET, **fields: object
) -> Iterator[Platform]:
    """Serve the simulator in a thread and yield the entry that leads to it. `secret` None: it asks for none."""
    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    at = {
        "endpoint": f"http://127.0.0.1:{port}/acme/v1/renewals",
        "withdraw": f"http://127.0.0.1:{port}/acme/v1/withdrawals",
    }
    platform = entry(port, **(at | fields))
    pretended = platform if secret else entry(port, **(at | fields | {"auth": {"scheme": "none"}}))
    ready, ends = threading.Event(), ExitStack()

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.callback(lambda: loop.call_soon_threadsafe(stop.set))
        await serve(
            Catalogue([pretended], folder=Path()), lambda _: secret or "", seed=SEED, scenario=CALM, sock=sock,
            stop=stop, ready=ready.set,
        )  # fmt: skip

    thread = threading.Thread(target=lambda: uvloop.run(run()))
    thread.start()
    try:
        assert ready.wait(20)
        if behaviour is not None:
            order(port, behaviour)
        yield platform
    finally:
        ends.close()
        thread.join()


def order(port: int, behaviour: Behaviour | Mapping[str, object]) -> None:
    """Let the simulated platform misbehave from the next call on."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/_control", body=json.dumps({"platform": "acme", "behaviour": behaviour}))
    assert 200 == connection.getresponse().status
    connection.close()


def simulated_numbers(platform: Platform) -> tuple[Lent, ...]:
    """Return numbers whose truth at the simulated platform is what their roles say; it looks at no cut-off."""
    world = World(platform, seed=SEED)
    wanted = {"UNBOUND": 2, "BOUND_AFTER_CUTOFF": 1, "NO_BINDING": 1, "REFUSED": 1}
    found: dict[str, list[str]] = {outcome: [] for outcome in wanted}
    for index in range(200_000):
        outcome = str(world.truth(number(index)).outcome)
        if len(found.get(outcome, ())) < wanted.get(outcome, 0):
            found[outcome].append(number(index))
        if all(len(found[name]) == count for name, count in wanted.items()):
            break
    return (
        *(Lent(role=Role.BOUND_BEFORE, number=each, bound_at=BOUND_AT) for each in found["UNBOUND"]),
        Lent(role=Role.BOUND_AFTER, number=found["BOUND_AFTER_CUTOFF"][0], bound_at=BOUND_AT),
        Lent(role=Role.NOT_BOUND, number=found["NO_BINDING"][0]),
        Lent(role=Role.REFUSING, number=found["REFUSED"][0]),
    )


def case_of(run: str, label: str) -> str:
    """Return the case that the kit makes of a label in a run."""
    return derive("conformance", run, label)
