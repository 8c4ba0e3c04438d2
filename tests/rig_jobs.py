"""What has become of the jobs of a running system: waited for, counted, and compared with what the platforms did."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import requests
from redis.exceptions import RedisError

from backends.admission import GateState
from backends.bootstrap import Backends
from backends.gates import Gates
from backends.store import CaseView
from ops.inspector import Inspector
from ops.ledger import compare
from platforms.catalogue import Catalogue
from schemas.errors import RenewalError
from schemas.record import JobRecord
from schemas.state import State
from schemas.summary import LedgerCheck
from tests.command import wait_until

T = TypeVar("T")
# A batch of a killed process comes back when a lease or a queue's patience has ended, and the machine is shared.
SETTLE_S: Final = 100.0
PATIENCE_S: Final = 5.0
# What a look at a server that is away ends in.
Away: Final = (RenewalError, RedisError, OSError)


def asked(look: Callable[[], T]) -> T | None:
    """Return what a look at the stores says, or None while they are away."""
    with contextlib.suppress(*Away):
        return look()
    return None


def world_stats(url: str) -> dict[str, Any]:
    """Return what a simulator counted."""
    with requests.Session() as session:
        session.trust_env = False
        found: dict[str, Any] = session.get(f"{url}/_stats", timeout=20).json()
        return found


class Jobs:
    """The jobs of all runs, as the status store has them."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, world_url: str) -> None:
        self._backends, self._catalogue, self._world_url = backends, catalogue, world_url
        self._inspector = Inspector(backends, catalogue)

    def open(self) -> int:
        """Return how many jobs of all runs the dispatcher still holds."""
        return self._inspector.open_jobs(list(self._inspector.runs()))

    def settle(self, *, seconds: float = SETTLE_S, patience_s: float = PATIENCE_S) -> None:
        """Wait until the dispatcher holds no job any more; `hurry` it when nothing has moved for `patience_s`."""
        seen, since_s = (-1, -1), time.monotonic()

        def settled() -> bool:
            nonlocal seen, since_s
            now_s, moved = time.monotonic(), (self.open(), world_stats(self._world_url)["requests"])
            if moved != seen or now_s - since_s > patience_s:
                if moved == seen:
                    self.hurry()
                seen, since_s = moved, now_s
            return not moved[0]

        with contextlib.suppress(AssertionError):
            wait_until(lambda: asked(settled), what="the end of every job", seconds=seconds)
        left = self.open()
        assert 0 == left, f"{left} jobs are open after {seconds:.0f} s: {dict(self.states())}; {self.held()}"

    def hurry(self) -> None:
        """Let what waits for a time be looked at now: the test cannot turn the clock of other processes.

        Only when it is looked at changes, never what is found then.
        """
        redis, keys = self._backends.redis, self._backends.keys
        now_ms = int(time.time() * 1000)
        for waiting in (keys.custody, keys.waiting):
            due = {member: now_ms for member, at_ms in redis.zscan_iter(waiting) if at_ms > now_ms}
            if due:
                redis.zadd(waiting, due, xx=True)
        gates = Gates(redis, keys)
        for view in gates.views([platform.key for platform in self._catalogue]):
            if view.state in {GateState.SUSPENDED, GateState.BROKEN}:
                gates.probe(view.platform)

    def held(self) -> str:
        """Say where what is open may be."""
        depths = self._backends.broker.depths()
        return f"{self._backends.waiting.count()} batches wait, queues {depths}"

    def cases(self) -> Iterator[CaseView]:
        """Yield every case of all runs, once."""
        seen: set[str] = set()
        for run in self._inspector.runs():
            for case in self._inspector.run_cases(run):
                if case.id not in seen:
                    seen.add(case.id)
                    yield case

    def records(self) -> Iterator[tuple[str, str, JobRecord]]:
        """Yield every job of all runs: case, platform, record."""
        for case in self.cases():
            for platform in case.platforms:
                yield case.id, platform, case.record(platform)

    def states(self, platform: str | None = None) -> Counter[State]:
        """Count the jobs of one platform or of all by state, from their records."""
        return Counter(record.state for _, key, record in self.records() if platform in {None, key})

    def comparison(self) -> LedgerCheck:
        """Compare every record with what the platforms wrote down."""
        cases = (case.id for case in self.cases())
        return compare(self._backends, self._catalogue, cases, base_url=self._world_url)

    def assert_told_truly(self, *, compared: int | None = None) -> LedgerCheck:
        """Every recorded outcome is the platform's, no effect came twice, none came unasked."""
        check = self.comparison()
        assert check.agrees, check.examples
        assert 0 == world_stats(self._world_url)["repeat_pairs"]
        assert compared is None or compared == check.compared, (check, dict(self.states()))
        return check
