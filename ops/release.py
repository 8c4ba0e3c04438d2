"""Release: whether a number may be sold again, decided from what its case says, and what stands against it. Pure.

The verdict is that of `schemas.state` (requirement 24), taken of every job's own record, and never better than the
roll-up that the store keeps. It speaks of the platforms that were asked, and of no others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from schemas.state import STATES, State, Verdict, verdict

if TYPE_CHECKING:
    from backends.store import CaseView

LIST_FIELDS: Final = (
    "reference", "number", "case", "verdict", "may_be_sold", "jobs", "clean", "open", "exceptions", "against", "cycle",
    "cutoff_at", "run", "not_asked", "as_of",
)  # fmt: skip


class Level(StrEnum):
    """Which verdicts are good enough to sell a number."""

    CLEAN = "CLEAN"
    CLEAN_WITH_EXCEPTIONS = "CLEAN_WITH_EXCEPTIONS"


class Missing(StrEnum):
    """What a job lacks to be clean, or what else stands against a number."""

    OPEN = "open"  # the dispatcher has not got an answer yet
    WITH_PLATFORM = "with_platform"  # accepted, not answered
    FOR_REVIEW = "for_review"
    DEAD = "dead"
    REFUSED = "refused"
    NOT_SUPPORTED = "not_supported"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNCONFIRMED = "unconfirmed"
    DISPUTED = "disputed"  # two final answers that contradict each other
    NOTHING_ASKED = "nothing_asked"
    SUPERSEDED = "superseded"  # the number has been recycled again: its newer case counts
    UNREADABLE = "unreadable"  # no key opens the number, so nobody can tell whether there is a newer case
    UNCLEAR = "unclear"  # the roll-up says less than the records: see `renewal audit`


MISSING_OF_STATE: Final[Mapping[State, Missing]] = {
    State.QUEUED: Missing.OPEN,
    State.WAITING: Missing.OPEN,
    State.ACCEPTED: Missing.WITH_PLATFORM,
    State.PENDING_REVIEW: Missing.FOR_REVIEW,
    State.DEAD: Missing.DEAD,
    State.REFUSED: Missing.REFUSED,
    State.NOT_SUPPORTED: Missing.NOT_SUPPORTED,
    State.CANCELLED: Missing.CANCELLED,
    State.EXPIRED: Missing.EXPIRED,
    State.DELIVERED_UNCONFIRMED: Missing.UNCONFIRMED,
}
# What an operator may choose to live with: the job has ended, only not well.
_EXCEPTIONS: Final = frozenset(
    {*(missing for state, missing in MISSING_OF_STATE.items() if STATES[state].final), Missing.DISPUTED}
)
_BY_BADNESS: Final = (Verdict.CLEAN, Verdict.CLEAN_WITH_EXCEPTIONS, Verdict.INCOMPLETE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One thing that stands against a number, at one platform if it is a job."""

    missing: Missing
    platform: str | None = None
    state: State | None = None
    reason: str | None = None

    @property
    def text(self) -> str:
        """Say it in a cell of a table."""
        words = (self.platform, self.missing.value, f"({self.reason})" if self.reason else None)
        return " ".join(word for word in words if word)

    def row(self) -> dict[str, str | None]:
        """Return it as JSON says it."""
        return {"missing": self.missing, "platform": self.platform, "state": self.state, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What is known of one number and one cycle at one moment. `not_asked` are platforms of the catalogue."""

    case: "CaseView"
    verdict: Verdict
    level: Level
    clean: int
    open: int
    exceptions: int
    obstacles: tuple[Obstacle, ...]
    not_asked: tuple[str, ...]
    as_of: datetime

    @property
    def may_be_sold(self) -> bool:
        """Whether the verdict reaches the level, and nothing else stands against it."""
        if self.verdict is Verdict.INCOMPLETE:
            return False
        if self.level is Level.CLEAN:
            return not self.obstacles
        return all(obstacle.missing in _EXCEPTIONS for obstacle in self.obstacles)

    @property
    def badness(self) -> tuple[bool, int, int]:
        """Order by how far it is from a sale."""
        return not self.may_be_sold, _BY_BADNESS.index(self.verdict), len(self.obstacles)

    def row(self) -> dict[str, Any]:
        """Return it as a program reads it, see LIST_FIELDS."""
        return {
            "reference": self.case.reference,
            "number": self.case.mask,
            "case": self.case.id,
            "verdict": self.verdict,
            "may_be_sold": self.may_be_sold,
            "jobs": len(self.case.platforms),
            "clean": self.clean,
            "open": self.open,
            "exceptions": self.exceptions,
            "against": [obstacle.row() for obstacle in self.obstacles],
            "cycle": self.case.cycle,
            "cutoff_at": self.case.cutoff_at,
            "run": self.case.run,
            "not_asked": len(self.not_asked),
            "as_of": self.as_of.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def flat_row(self, *, obstacles_max: int | None = None) -> dict[str, Any]:
        """Return it as a line of a file or table holds it: what stands against it as words."""
        shown = self.obstacles[:obstacles_max]
        more = len(self.obstacles) - len(shown)
        words = [obstacle.text for obstacle in shown] + ([f"and {more} more"] if more else [])
        return self.row() | {"against": "; ".join(words), "may_be_sold": "yes" if self.may_be_sold else "no"}

    def answer(self) -> dict[str, Any]:
        """Return it as one answer to "may this number be sold?"."""
        row = self.row()
        return {
            "verdict": self.verdict,
            "may_be_sold": self.may_be_sold,
            "level": self.level,
            "why": row.pop("against"),
            **{name: value for name, value in row.items() if name not in {"verdict", "may_be_sold", "not_asked"}},
            "not_asked": list(self.not_asked),
        }


def judge(
    case: "CaseView",
    *,
    level: Level,
    catalogue: Sequence[str],
    as_of: datetime,
    superseded: bool = False,
    readable: bool = True,
) -> Release:
    """Decide about one case. `superseded` says that its number has a newer one, `readable` that this could be told."""
    clean, open_jobs, exceptions = 0, 0, 0
    obstacles: list[Obstacle] = []
    for platform in case.platforms:
        record = case.record(platform)
        missing = MISSING_OF_STATE.get(record.state)
        if missing is None:
            clean += 1
        else:
            final = STATES[record.state].final
            open_jobs, exceptions = open_jobs + (not final), exceptions + final
            obstacles.append(Obstacle(missing=missing, platform=platform, state=record.state, reason=record.reason))
        if record.disputed:
            obstacles.append(Obstacle(missing=Missing.DISPUTED, platform=platform, state=record.state))
    told = verdict(open_jobs=open_jobs, exceptions=exceptions)
    worst = max(told, case.verdict, key=_BY_BADNESS.index)
    beyond = {
        Missing.NOTHING_ASKED: not case.platforms,
        Missing.SUPERSEDED: superseded,
        Missing.UNREADABLE: not readable,
        Missing.UNCLEAR: told is not worst,
    }
    obstacles += [Obstacle(missing=missing) for missing, holds in beyond.items() if holds]
    return Release(
        case=case,
        verdict=worst if case.platforms else Verdict.INCOMPLETE,
        level=level,
        clean=clean,
        open=open_jobs,
        exceptions=exceptions,
        obstacles=tuple(obstacles),
        not_asked=tuple(sorted(set(catalogue) - set(case.platforms) - set(case.settled))),
        as_of=as_of,
    )
