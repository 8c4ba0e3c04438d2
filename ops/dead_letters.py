"""Dead letters, for people: by cause, one by one, and what a person may do about them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from backends.actions import Action, What, whoami
from backends.bootstrap import Backends
from backends.dead import DeadFilter, DeadJob, DeadLetter, Step
from backends.store import CaseView
from backends.waiting_view import WaitingFilter
from ops.advice import advice
from ops.when import iso
from platforms.catalogue import Catalogue
from producers.decision import JOBS_AT_ONCE, decision
from schemas.errors import InputError, NotFound
from schemas.ids import job_id, new_id, split_job_id
from schemas.outcome import Hold
from schemas.record import JobRecord
from schemas.state import STATES, Holder, State

GROUP_FIELDS: Final = ("platform", "reason", "count", "first_at", "last_at", "number", "job", "next_step")
ROW_FIELDS: Final = (
    "number", "case", "platform", "reason", "died_at", "attempts", "generation", "http_status", "detail", "run", "job",
)  # fmt: skip
STEP_FIELDS: Final = (
    "at", "ms", "attempt", "generation", "state", "reason", "http_status", "detail", "worker", "batch",
)  # fmt: skip


class DeadDesk:
    """Shows dead letters, gives them up, reveals a number."""

    def __init__(self, backends: Backends, catalogue: Catalogue, *, who: str = "") -> None:
        self._backends, self._catalogue, self._who = backends, catalogue, who or whoami()

    # -- look ------------------------------------------------------------------------------------------------------

    def groups(self, wanted: DeadFilter) -> list[dict[str, Any]]:
        """Return the causes, the largest first, each with a sample and what to do."""
        groups = self._backends.dead.groups(wanted)
        samples = {
            found.letter.job: found.mask
            for found in self._backends.dead.read(DeadJob(job=group.sample, died_ms=0) for group in groups)
        }
        return [
            {
                "platform": group.platform,
                "reason": group.reason,
                "count": group.count,
                "first_at": iso(group.first_ms),
                "last_at": iso(group.last_ms),
                "number": samples.get(group.sample),
                "job": group.sample,
                "next_step": advice(group.reason, platform=group.platform),
            }
            for group in groups
        ]

    @property
    def now(self) -> datetime:
        """The instant from which times are counted."""
        return self._backends.clock.now()

    def select(self, wanted: DeadFilter) -> list[DeadJob]:
        """Return the letters that fit, the newest first."""
        return self._backends.dead.select(wanted)

    def choose(self, wanted: DeadFilter, *, everything: bool) -> list[DeadJob]:
        """Return the letters that fit, for a change. Raises InputError if nothing says which, not even `everything`."""
        if wanted.is_empty and not everything:
            raise InputError("say which dead letters: by platform, cause, time, case or run; or all of them")
        return self.select(wanted)

    def rows(self, letters: Iterable[DeadJob]) -> Iterator[dict[str, Any]]:
        """Yield letters as a list shows them."""
        return (_row(found) for found in self._backends.dead.read(letters))

    def under_review(self, cases: Iterable[CaseView], *, platforms: frozenset[str]) -> list[str]:
        """Return the jobs of these cases that wait for a person's review."""
        return [
            job_id(case.id, platform)
            for case in cases
            for platform in case.platforms
            if case.record(platform).state is State.PENDING_REVIEW and (not platforms or platform in platforms)
        ]

    def show(self, job: str) -> dict[str, Any]:
        """Return everything that is known of one job, dead or not. Raises NotFound."""
        case, platform = self._case_of(job)
        record = case.record(platform)
        dead = record.state is State.DEAD
        return {
            "job": job,
            "number": case.mask,
            "case": case.id,
            "platform": platform,
            "run": case.run,
            "cutoff_at": case.cutoff_at,
            "state": record.state,
            "reason": record.reason,
            "attempts": record.attempts,
            "generation": record.generation,
            "held_by": self._holder(case.id, platform, record),
            "next_step": advice(record.reason, platform=platform) if dead else None,
            "steps": [_step(step) for step in self._backends.dead.trail(job)],
        }

    def _case_of(self, job: str) -> tuple[CaseView, str]:
        try:
            case_id, platform = split_job_id(job)
        except ValueError as error:
            raise NotFound(f"{job}: {error}") from None
        case = self._backends.store.case(case_id)
        if platform not in case.platforms:
            raise NotFound(f"case {case_id} is not renewed at {platform}")
        return case, platform

    def _holder(self, case: str, platform: str, record: JobRecord) -> str:
        holder = STATES[record.state].holder
        if holder is not Holder.DISPATCHER:
            return holder.value
        wanted = WaitingFilter(platforms=frozenset({platform}), cases=frozenset({case}))
        for waiting in self._backends.waiting_view.select(wanted, now=self._backends.clock.now()):
            return f"waiting set until {iso(waiting.due_ms)} ({waiting.why}), batch {waiting.batch}"
        for entry in self._backends.custody.every():
            body = self._backends.custody.bodies([entry.batch]).get(entry.batch)
            if body and _carries(orjson.loads(body), case=case, platform=platform):
                return f"{entry.note.phase}, batch {entry.batch}"
        return "between two hands; if that lasts, see `renewal audit`"

    # -- change ----------------------------------------------------------------------------------------------------

    def reveal(self, job: str, *, reason: str) -> str:
        """Return the number itself. It is on record who asked for it, before it is shown. Raises NotFound."""
        case, _ = self._case_of(job)
        self._backends.actions.append(
            Action(
                what=What.NUMBER_REVEAL, target=job, reason=reason, before={}, after={"number": case.mask},
                who=self._who,
            )
        )  # fmt: skip
        return self._backends.store.open_number(case)

    def discard(self, letters: Sequence[DeadJob], *, reason: str) -> int:
        """Give letters up: their jobs become CANCELLED, those that are still dead. Returns how many did."""
        self._backends.actions.append(
            Action(
                what=What.DEAD_DISCARD, target=target_of(letter.job for letter in letters), reason=reason,
                before={"dead": len(letters)}, after={}, who=self._who,
            )
        )  # fmt: skip
        batch, now, changed = new_id(), self._backends.clock.now(), 0
        for (platform, run), cases in self._together(letters).items():
            for start in range(0, len(cases), JOBS_AT_ONCE):
                event = decision(
                    cases[start : start + JOBS_AT_ONCE],
                    platform=platform,
                    run=run or batch,
                    batch=batch,
                    state=State.CANCELLED,
                    reason=Hold.DISCARDED,
                    detail=reason,
                    who="operator",
                    now=now,
                )
                changed += self._backends.store.decide(event, only_from=frozenset({State.DEAD})).changed
        return changed

    def _together(self, letters: Sequence[DeadJob]) -> dict[tuple[str, str], list[str]]:
        together: dict[tuple[str, str], list[str]] = defaultdict(list)
        for found in self._backends.dead.read(letters):
            together[found.letter.platform, found.run].append(found.letter.case)
        return together


def target_of(jobs: Iterable[str]) -> str:
    """Name what was acted on: the one job, or the platforms."""
    found = list(jobs)
    return found[0] if len(found) == 1 else ", ".join(sorted({split_job_id(job)[1] for job in found})[:10])


def instant_ms(instant: datetime | None) -> int | None:
    """Return an instant as indexes keep it."""
    return None if instant is None else int(instant.timestamp() * 1000)


def _row(found: DeadLetter) -> dict[str, Any]:
    return {
        "number": found.mask or None,
        "case": found.letter.case,
        "platform": found.letter.platform,
        "reason": found.record.reason,
        "died_at": iso(found.letter.died_ms),
        "attempts": found.record.attempts,
        "generation": found.record.generation,
        "http_status": found.about.get("http_status"),
        "detail": found.about.get("detail"),
        "run": found.run or None,
        "job": found.letter.job,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "at": step.at,
        "ms": step.ms,
        "attempt": step.attempt,
        "generation": step.generation,
        "state": step.state,
        "reason": step.reason,
        "http_status": step.said.get("http_status"),
        "detail": step.said.get("detail"),
        "worker": step.worker,
        "batch": step.batch,
    }


def _carries(batch: dict[str, Any], *, case: str, platform: str) -> bool:
    return batch.get("platform") == platform and any(job.get("case") == case for job in batch.get("jobs", ()))
