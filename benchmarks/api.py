"""How long the HTTP API takes to show a case with 240 jobs, with very many cases stored."""

import socket
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from random import Random
from typing import Final, TypeVar

import psutil
import requests

from backends.api_keys import Scope
from benchmarks.catalogue import write_platforms
from benchmarks.errors import Unmeasured
from benchmarks.numbers import CUTOFF, mobiles
from benchmarks.scenario import Round, Scenario, Setting
from benchmarks.system import System
from benchmarks.wants import Want
from schemas.batch import Basis
from schemas.case import Case
from schemas.ids import derive, new_id
from schemas.manifest import MANIFEST_JOBS_MAX
from schemas.outcome import Outcome, Refusal
from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import State

T = TypeVar("T")
_PLATFORMS: Final = 240
_CASES: Final = 100_000
_FULL_CASES: Final = 1_000_000
_QUICK_CASES: Final = 1_000
# So many have an answer of every platform; the others are as large, and nothing is known of their jobs yet.
_ANSWERED: Final = 1_000
_REQUESTS: Final = 1_000
_QUICK_REQUESTS: Final = 50
# More than one, so that no key goes faster than it may.
_KEYS: Final = 8
_START_S: Final = 60.0
_NOT_CLEAN_EACH: Final = 50


def measure(setting: Setting) -> Round:
    """Store the cases, let the first of them be answered, and ask for some of both, one after the other."""
    count = _FULL_CASES if setting.full else setting.size(_CASES, quick=_QUICK_CASES)
    with setting.folder() as folder:
        catalogue = write_platforms(folder / "catalogue", _PLATFORMS, url="http://127.0.0.1:9")
        with System(folder, catalogue) as system:
            cases = _store(system, count, seed=setting.seed)
            answered = cases[:_ANSWERED]
            _answer(system, answered)
            url = _serve(system)
            setting.turn("api")
            busy = {name: psutil.Process(system.pids()[name]) for name in ("console", "valkey")}
            before_s = {name: _cpu_s(process) for name, process in busy.items()}
            taken = {
                name: _ask(system, url, chosen, times=setting.size(_REQUESTS, quick=_QUICK_REQUESTS))
                for name, chosen in (("answered", answered), ("untried", cases[_ANSWERED:] or cases))
            }
            cpu_s = {name: _cpu_s(process) - before_s[name] for name, process in busy.items()}
    worst = max(taken.values(), key=lambda times: _quantile(times, 0.95))
    asked = sum(map(len, taken.values()))
    figures = {"cases": float(count), "p95_ms": _quantile(worst, 0.95)}
    # What others do to a latency they do not do to this.
    figures |= {f"{name}_cpu/ms_a_request": 1000 * used_s / asked for name, used_s in cpu_s.items()}
    for name, times in taken.items():
        figures |= {f"{name}/p50_ms": _quantile(times, 0.5), f"{name}/p95_ms": _quantile(times, 0.95),
                    f"{name}/max_ms": times[-1]}  # fmt: skip
    return Round(figures=figures)


def _store(system: System, count: int, *, seed: int) -> list[str]:
    backends, run, now = system.backends, new_id(), datetime.now(UTC)
    platforms = tuple(platform.key for platform in system.catalogue)
    backends.runs.begin(run, file="numbers.csv", now=now)
    found: list[str] = []
    for together in _pages(enumerate(mobiles(count, seed=seed))):
        cases = [
            Case(
                id=derive(run, mobile), number=f"+86{mobile}", token=backends.vault.token(f"+86{mobile}"),
                line=index + 2, cutoff_at=CUTOFF, basis=Basis.PLANNED_RELEASE, cycle=CUTOFF[:10], reference="",
                platforms=platforms,
            )
            for index, mobile in together
        ]  # fmt: skip
        backends.store.accept(run, cases, now=now)
        backends.store.mark_queued(case.id for case in cases)
        found += [case.id for case in cases]
    return found


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while page := list(islice(rest, MANIFEST_JOBS_MAX)):
        yield page


def _answer(system: System, cases: list[str]) -> None:
    """Let every platform have answered: nearly always that it knew nothing, as in a real night."""
    now = datetime.now(UTC)
    for together in _pages(cases):
        for number, platform in enumerate(system.catalogue):
            data = AttemptData(
                batch=new_id(), run=new_id(), platform=platform.key, attempt=1, started_at=now, ended_at=now,
                worker="bench", calls=1, latencies=(1,) + (0,) * len(LATENCY_BOUNDS_MS),
                jobs=tuple(_jobs(together, number)),
            )  # fmt: skip
            system.backends.store.apply(ResultEvent(id=new_id(), time=now, subject=platform.key, data=data))


def _jobs(cases: list[str], number: int) -> Iterator[JobResult]:
    for index, case in enumerate(cases):
        if (index + number) % _NOT_CLEAN_EACH:
            yield JobResult(case=case, state=State.NO_BINDING, outcome=Outcome.NO_BINDING)
        else:
            yield JobResult(
                case=case,
                state=State.REFUSED,
                outcome=Outcome.REFUSED,
                reason=Refusal.OTHER,
                detail="a reason of theirs",
            )


def _serve(system: System) -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    system.supervisor.settings = system.settings.model_copy(update={"console": address})
    system.supervisor.start("console")
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        try:
            requests.get(f"http://{address}/readyz", timeout=5).raise_for_status()
        except requests.RequestException:
            time.sleep(0.1)
        else:
            return f"http://{address}"
    raise Unmeasured(f"the console did not come up within {_START_S:.0f} s")


def _ask(system: System, url: str, cases: list[str], *, times: int) -> list[float]:
    """Return how long each answer took, ms, the shortest first."""
    now, random = datetime.now(UTC), Random(1)  # noqa: S311 - a choice, not a secret
    keys = [system.backends.api_keys.create("bench", Scope.READ, by="bench", now=now)[1] for _ in range(_KEYS)]
    taken: list[float] = []
    with requests.Session() as session:
        for index in range(times):
            headers = {"Authorization": f"Bearer {keys[index % _KEYS]}"}
            began_s = time.perf_counter()
            answer = session.get(f"{url}/v1/cases/{random.choice(cases)}", headers=headers, timeout=30)
            shown = answer.json()
            taken.append(1000 * (time.perf_counter() - began_s))
            if len(shown.get("jobs", ())) != _PLATFORMS:
                raise Unmeasured(f"a case was answered with {answer.status_code} and not with {_PLATFORMS} jobs")
    return sorted(taken)


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _quantile(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


API: Final = Scenario(
    name="api",
    about=f"a case with {_PLATFORMS} jobs over HTTP, {_CASES:,} cases stored (--full: {_FULL_CASES:,})",
    measure=measure,
    wants=(Want(figure="p95_ms", text="95 of 100 answers within", unit="ms", must=50, at_most=True),),
)
