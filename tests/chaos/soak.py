"""The soak: a storm of faults, processes that are killed and frozen, and files that come on and on.

`python -m tests.chaos.soak` runs for SOAK_SECONDS (default 1200) with SOAK_SEED, and then holds what is stored against
what the platforms did. Its last lines are a scorecard; it exits 0 only if nothing was lost and nothing came twice.
"""

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
from typing_extensions import override

from schemas.state import DISPATCHER_STATES, State
from tests.command import numbers, wait_until, write_input
from tests.rig import ROLES, Rig, small_catalogue
from tests.rig_jobs import PATIENCE_S, Away, asked

SECONDS: Final = 1200.0
FILE_NUMBERS: Final = 50
# Above this many open jobs no file is submitted: what is open must stay bounded, whatever is broken.
OPEN_MAX: Final = 2000
SETTLE_S: Final = 600.0
SHORT_S: Final = 60.0
FROZEN_S: Final = 3.0
_HURT_EVERY_S: Final = (2.0, 6.0)
_ORDER_EVERY_S: Final = (1.0, 4.0)
_ORDER_LASTS_S: Final = (1.0, 8.0)
_HURTS: Final = {"kill": 8, "freeze": 2, "kill valkey": 1, "freeze valkey": 1}
# So many files are told apart by a prefix that `numbers` stays within its digits.
_FILES_PER_PREFIX: Final = 200
_BEHAVIOURS: Final[tuple[tuple[str, dict[str, object]], ...]] = (
    ("away", {}),
    ("gone", {}),
    ("unauthorized", {"status": 401}),
    ("unauthorized", {"status": 403}),
    ("throttle", {"retry_after_s": 1}),
    ("reset", {}),
    ("lost", {}),
    ("hang", {"seconds": 30}),
    ("drip", {}),
    ("wrong_type", {}),
    ("broken_json", {}),
    ("huge", {}),
    ("left_out", {"share": 0.5}),
    ("invented", {}),
)


@dataclass(slots=True, kw_only=True)
class Score:
    """What the soak brought."""

    injected: Counter[str] = field(default_factory=Counter)
    states: Counter[State] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    duration_s: float = 0.0
    accepted: int = 0
    missing_cases: int = 0
    second_effects: int = 0
    redriven: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Jobs that nobody knows, or that have no end when all had time to come to one."""
        return self.missing_cases + sum(n for state, n in self.states.items() if state in DISPATCHER_STATES)

    @property
    def clean(self) -> bool:
        """Whether the system passed."""
        return not (self.lost or self.second_effects or self.problems) and self.accepted > 0

    def lines(self) -> list[str]:
        """Return the scorecard."""
        through = self.states.total() - sum(n for state, n in self.states.items() if state in DISPATCHER_STATES)
        return [
            *(f"problem          {problem}" for problem in self.problems),
            f"faults injected  {self.injected.total()}: {_listed(self.injected)}",
            f"jobs through     {through}: {_listed(Counter({s.value: n for s, n in self.states.items()}))}",
            f"dead letters     {self.dead.total()}: {_listed(self.dead)}",
            f"lost             {self.lost}",
            f"second effects   {self.second_effects}",
            f"re-driven        {self.redriven} batches",
            f"duration         {self.duration_s:.0f} s",
            "PASS" if self.clean else "FAIL",
        ]


class Feeder(threading.Thread):
    """Submits one file after the other while there is room; a file that was not taken is submitted again."""

    def __init__(self, rig: Rig, stop: threading.Event, *, open_max: int) -> None:
        super().__init__(daemon=True)
        self._rig, self._stopped, self._open_max = rig, stop, open_max
        self.accepted = 0

    @property
    def _mobiles(self) -> list[str]:
        prefix, index = divmod(self.accepted // FILE_NUMBERS, _FILES_PER_PREFIX)
        return [f"13{prefix % 10}{mobile[3:]}" for mobile in numbers(FILE_NUMBERS, first=index * FILE_NUMBERS)]

    @override
    def run(self) -> None:
        """Go on until told to stop; the file that is being taken then is taken whole."""
        file = self._rig.folder / "soak.csv"
        while not self._stopped.is_set():
            held = asked(self._rig.jobs.open)
            if held is None or held > self._open_max:
                self._stopped.wait(0.5)
                continue
            self._take(write_input(file, self._mobiles))

    def _take(self, file: Path) -> None:
        # While the stores are away intake refuses; the same file again completes what was left.
        while self._rig.renewal.run("submit", file).code:
            threading.Event().wait(0.2)
        self.accepted += FILE_NUMBERS


class Storm:
    """Hurts the system until told to stop; everything is drawn from the rig's seed."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._orders: dict[str, float] = {}
        self._hurt_at = self._order_at = time.monotonic()

    def blow(self, *, seconds: float) -> None:
        """Go on for this long, then let every platform behave."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now_s = time.monotonic()
            self._end_orders(now_s)
            if now_s >= self._order_at:
                self._order(now_s)
            if now_s >= self._hurt_at:
                self._hurt()
                self._hurt_at = time.monotonic() + self._rig.random.uniform(*_HURT_EVERY_S)
            threading.Event().wait(0.1)
        self._rig.world.order("*", None)

    def _order(self, now_s: float) -> None:
        random = self._rig.random
        platform = random.choice([platform.key for platform in self._rig.catalogue])
        kind, words = random.choice(_BEHAVIOURS)
        self._rig.world.order(platform, kind, **words)
        self._orders[platform] = now_s + random.uniform(*_ORDER_LASTS_S)
        self._order_at = now_s + random.uniform(*_ORDER_EVERY_S)

    def _end_orders(self, now_s: float) -> None:
        for platform in [key for key, end_s in self._orders.items() if end_s <= now_s]:
            self._rig.world.order(platform, None)
            del self._orders[platform]

    def _hurt(self) -> None:
        rig = self._rig
        how = rig.random.choices([*_HURTS], weights=[*_HURTS.values()])[0]
        role = rig.random.choice(ROLES)
        if how == "kill":
            rig.kill(role)
        elif how == "kill valkey":
            rig.restart_valkey()
        elif how == "freeze valkey":
            with rig.frozen_valkey():
                threading.Event().wait(FROZEN_S)
        else:
            pid = rig.send(role, signal.SIGSTOP)
            threading.Event().wait(FROZEN_S)
            with contextlib.suppress(psutil.Error):
                if pid is not None:
                    psutil.Process(pid).resume()


def soak(
    folder: Path, *, seconds: float = SECONDS, seed: int = 7, open_max: int = OPEN_MAX, settle_s: float = SETTLE_S
) -> Score:
    """Run it, and return what it brought. A short one is not patient: what waits for a time is looked at sooner."""
    score, started_s, stop = Score(), time.monotonic(), threading.Event()
    with Rig(folder, catalogue=partial(small_catalogue, haste=5), faults="storm", seed=seed) as rig:
        up = rig.up(workers=2)
        feeder = Feeder(rig, stop, open_max=open_max)
        feeder.start()
        Storm(rig).blow(seconds=seconds)
        stop.set()
        feeder.join(settle_s)
        if up.process.poll() is not None:
            score.problems.append(f"the supervisor gave up: {up.err[-500:]}")
        try:
            rig.jobs.settle(seconds=settle_s, patience_s=PATIENCE_S if seconds < SHORT_S else settle_s)
        except (AssertionError, *Away) as error:
            score.problems.append(str(error))
        score.accepted = feeder.accepted
        _judge(rig, score)
    score.duration_s = time.monotonic() - started_s
    return score


def _judge(rig: Rig, score: Score) -> None:
    """Hold records, ledger and audit against each other."""
    wait_until(lambda: asked(lambda: [rig.jobs.open()]), what="the stores")
    score.states = rig.jobs.states()
    score.dead = Counter(str(record.reason) for *_, record in rig.jobs.records() if record.state is State.DEAD)
    score.missing_cases = score.accepted - len(list(rig.jobs.cases()))
    check = rig.jobs.comparison()
    stats: dict[str, Any] = rig.world.stats()
    score.second_effects = check.second_effects + check.unknown_effects + stats["repeat_pairs"]
    if not check.agrees:
        score.problems.append(f"ledger: {check.disagreements} disagreements, e.g. {check.examples}")
    score.redriven = rig.backends.custody.counts()[1]
    score.injected = rig.injected + Counter(stats["faults"])
    audit = rig.renewal.run("audit", "-o", "json")
    if audit.code:
        score.problems.append(f"audit: exit code {audit.code}: {(audit.out + audit.err)[-500:]}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def main() -> None:
    """Read SOAK_SECONDS and SOAK_SEED, run, print the scorecard."""
    seconds, seed = float(os.environ.get("SOAK_SECONDS", SECONDS)), int(os.environ.get("SOAK_SEED", "7"))
    sys.stdout.write(f"soak: {seconds:.0f} s, seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="renewal-soak-") as folder:
        score = soak(Path(folder), seconds=seconds, seed=seed)
    sys.stdout.write("\n".join(score.lines()) + "\n")
    sys.exit(0 if score.clean else 1)


if __name__ == "__main__":
    main()
