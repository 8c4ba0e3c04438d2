"""The audit: every accepted job is final, or somebody holds it (rule 1).

accepted = final + with the platform + for review + dead + waiting + queued + in flight. What is left over is in
nobody's hands: its ids are named, and can be sent again.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson

from backends.bootstrap import Backends
from backends.custody import Phase
from backends.store import CaseView
from schemas.errors import NotFound
from schemas.ids import job_id
from schemas.record import JobRecord
from schemas.state import STATES, Holder, State

ROW_FIELDS: Final = (
    "what", "name", "accepted", "final", "with_platform", "for_review", "dead", "waiting", "queued", "in_flight",
    "nobody",
)  # fmt: skip
# While the system works, a job passes from hand to hand between two looks.
_LOOKS: Final = 4
_PAUSE_S: Final = 0.5
_PAGE: Final = 500


class Hand(StrEnum):
    """Who has a job."""

    FINAL = "final"
    WITH_PLATFORM = "with_platform"
    FOR_REVIEW = "for_review"
    DEAD = "dead"
    WAITING = "waiting"
    QUEUED = "queued"
    IN_FLIGHT = "in_flight"
    NOBODY = "nobody"


_HAND_OF_STATE: Final = {
    State.ACCEPTED: Hand.WITH_PLATFORM,
    State.PENDING_REVIEW: Hand.FOR_REVIEW,
    State.DEAD: Hand.DEAD,
}
_HAND_OF_PHASE: Final = {Phase.QUEUED: Hand.QUEUED, Phase.BEGUN: Hand.IN_FLIGHT, Phase.ANSWERED: Hand.IN_FLIGHT}


@dataclass(slots=True)
class Audit:
    """What was found. `nobody` lists the jobs, as case and platform, that are open and in nobody's hands."""

    by_run: dict[str, Counter[Hand]] = field(default_factory=lambda: defaultdict(Counter))
    by_platform: dict[str, Counter[Hand]] = field(default_factory=lambda: defaultdict(Counter))
    nobody: list[tuple[str, str]] = field(default_factory=list)
    redriven: int = 0

    @property
    def total(self) -> Counter[Hand]:
        """All jobs by who has them."""
        return sum(self.by_run.values(), Counter[Hand]())

    @property
    def adds_up(self) -> bool:
        """Whether every accepted job is final or in somebody's hands."""
        return not self.nobody


def audit(backends: Backends, *, run: str | None = None, pause: Callable[[float], None] = time.sleep) -> Audit:
    """Look at every case of a run, or of all runs. Raises NotFound for an unknown run.

    A job that is between two hands is looked at again, so a working system may be audited too.
    """
    runs = [run] if run else list(backends.runs.newest_first())
    if not runs:
        raise NotFound("no run yet")
    found = Audit(redriven=backends.custody.counts()[1])
    held = _held(backends)
    unheld: list[tuple[str, str, str]] = []
    for each in runs:
        for case in _own_cases(backends, each):
            for platform in case.platforms:
                hand = _hand(case.record(platform), held.get(job_id(case.id, platform)))
                if hand is Hand.NOBODY:
                    unheld.append((each, case.id, platform))
                else:
                    _count(found, hand, run=each, platform=platform)
    for look in range(_LOOKS):
        if not unheld:
            break
        if look:
            pause(_PAUSE_S)
        unheld = list(_still_unheld(backends, unheld, found))
    for each, case_id, platform in unheld:
        _count(found, Hand.NOBODY, run=each, platform=platform)
        found.nobody.append((case_id, platform))
    return found


def audit_rows(found: Audit, *, every: bool = True) -> list[dict[str, Any]]:
    """Return who has how many jobs, in all, by run and by platform; unless `every`, no platform where none is lost."""
    rows = [_row("total", "", found.total)]
    rows += [_row("run", run, hands) for run, hands in found.by_run.items()]
    rows += [
        _row("platform", platform, hands)
        for platform, hands in sorted(found.by_platform.items())
        if every or hands[Hand.NOBODY]
    ]
    return rows


def _row(what: str, name: str, hands: Counter[Hand]) -> dict[str, Any]:
    return {"what": what, "name": name, "accepted": sum(hands.values())} | {
        hand.value: count for hand, count in hands.items()
    }


def _own_cases(backends: Backends, run: str) -> Iterator[CaseView]:
    """Yield the cases that a run accepted; its file may name cases of other runs too."""
    return (case for case in backends.store.cases(backends.runs.cases(run)) if case.run == run)


def _still_unheld(
    backends: Backends, unheld: Iterable[tuple[str, str, str]], found: Audit
) -> Iterator[tuple[str, str, str]]:
    """Look again: first at the hands, then at the records, for a job leaves a hand only when its record is written."""
    held = _held(backends)
    platforms_of: dict[tuple[str, str], list[str]] = defaultdict(list)
    for run, case_id, platform in unheld:
        platforms_of[run, case_id].append(platform)
    runs = {case_id: run for run, case_id in platforms_of}
    for case in backends.store.cases(runs):
        for platform in platforms_of[runs[case.id], case.id]:
            hand = _hand(case.record(platform), held.get(job_id(case.id, platform)))
            if hand is Hand.NOBODY:
                yield runs[case.id], case.id, platform
            else:
                _count(found, hand, run=runs[case.id], platform=platform)


def _count(found: Audit, hand: Hand, *, run: str, platform: str) -> None:
    found.by_run[run][hand] += 1
    found.by_platform[platform][hand] += 1


def _hand(record: JobRecord, holder: Hand | None) -> Hand:
    if STATES[record.state].holder is Holder.NOBODY:
        return Hand.FINAL
    return _HAND_OF_STATE.get(record.state) or holder or Hand.NOBODY


def _held(backends: Backends) -> dict[str, Hand]:
    """Return who holds each job that the waiting set or custody knows.

    The waiting set is read before and after custody: a batch enters the one before it leaves the other, in both
    directions, so one that passes over meanwhile is seen in one of them.
    """
    held = dict(_waiting_jobs(backends))
    held |= dict(_custody_jobs(backends))
    for job, hand in _waiting_jobs(backends):
        held.setdefault(job, hand)
    return held


def _custody_jobs(backends: Backends) -> Iterator[tuple[str, Hand]]:
    phases = {entry.batch: _HAND_OF_PHASE[entry.note.phase] for entry in backends.custody.every()}
    names = list(phases)
    for start in range(0, len(names), _PAGE):
        for name, body in backends.custody.bodies(names[start : start + _PAGE]).items():
            yield from ((job, phases[name]) for job in _jobs_of(backends, orjson.loads(body)))


def _waiting_jobs(backends: Backends) -> Iterator[tuple[str, Hand]]:
    for body in backends.waiting.bodies():
        yield from ((job, Hand.WAITING) for job in _jobs_of(backends, orjson.loads(body)["batch"]))


def _jobs_of(backends: Backends, batch: dict[str, object]) -> Iterator[str]:
    """Read the job ids only: an audit must not stumble over a batch that is wrong elsewhere."""
    return (job_id(case, str(batch["platform"])) for case in backends.manifests.cases_of(batch))
