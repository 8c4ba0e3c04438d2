"""The end of an authorisation: it is withdrawn, or its time is over. Nothing more is sent under it (requirement 7).

What a platform has said it will do, it was asked to do while the authorisation held, so its answer is still awaited.
Where the owner has withdrawn, the platform is told so, if it can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from backends.actions import Action, What
from backends.bootstrap import Backends
from backends.store import CaseView
from backends.withdrawals import Cause
from producers.let_go import let_go
from schemas.errors import Refused
from schemas.ids import job_id
from schemas.outcome import Hold
from schemas.record import JobRecord
from schemas.state import FINAL_STATES, State

# Whatever might be sent, or sent again by a person.
STILL_OURS: Final = frozenset(State) - FINAL_STATES - {State.ACCEPTED}
_AT_ONCE: Final = 100
_WITHDRAWN: Final = "the owner has withdrawn the authorisation"
_RAN_OUT: Final = "the owner's authorisation has run out"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """What the end of an authorisation stopped: jobs that were cancelled, and platforms that are to be told."""

    cancelled: int
    withdrawals: int


class AuthorisationEnd:
    """Withdraws, and lets go of what is over. Done twice it changes nothing. Raises BackendUnavailable, RedisError."""

    def __init__(self, backends: Backends, *, who: str) -> None:
        self._backends, self._who = backends, who

    def withdraw(self, case: str, *, reason: str) -> LetGo:
        """Withdraw the authorisation of a case and stop what is unsent. Raises NotFound, Refused where it has none.

        Somebody who dies in the middle is completed by the scheduler.
        """
        view, now = self._backends.store.case(case), self._backends.clock.now()
        given = self._backends.authorisations.of(case)
        if given is None:
            raise Refused(f"case {case} does not rest on an authorisation; `renewal runs cancel` ends its run")
        if given.withdrawn_at is None:
            before = {"verdict": view.verdict.value, "open_jobs": _open_jobs(view)}
            self._backends.actions.append(
                Action(
                    what=What.AUTHORISATION_WITHDRAW, target=case, reason=reason, before=before,
                    after={"withdrawn": True}, who=self._who,
                )
            )  # fmt: skip
            self._backends.authorisations.withdraw(case, by=self._who, now=now)
        return self._stop([view])

    def step(self) -> LetGo:
        """Let go of what has run out since the last step, and look once more at what was withdrawn lately.

        A call that was under way when its authorisation was withdrawn is known only by its answer.
        """
        now = self._backends.clock.now()
        over = self._backends.authorisations.run_out(now=now, at_most=_AT_ONCE)
        cancelled = self._cancel(list(self._backends.store.cases(over)), Hold.EXPIRED_AUTHORISATION, _RAN_OUT)
        self._backends.authorisations.let_go(over)
        watched = self._backends.authorisations.withdrawn(now=now)
        found = [
            self._stop(list(self._backends.store.cases(watched[start : start + _AT_ONCE])))
            for start in range(0, len(watched), _AT_ONCE)
        ]
        return LetGo(
            cancelled=cancelled + sum(each.cancelled for each in found),
            withdrawals=sum(each.withdrawals for each in found),
        )

    def _stop(self, views: Sequence[CaseView]) -> LetGo:
        cancelled = self._cancel(views, Hold.WITHDRAWN, _WITHDRAWN)
        jobs = [
            job_id(view.id, platform)
            for view in self._backends.store.cases([view.id for view in views])
            for platform, record in view.records.items()
            if _may_still_act(record)
        ]
        now = self._backends.clock.now()
        asked = self._backends.withdrawals.request(jobs, now=now, cause=Cause.AUTHORISATION_WITHDRAWN)
        return LetGo(cancelled=cancelled, withdrawals=asked)

    def _cancel(self, views: Sequence[CaseView], why: Hold, detail: str) -> int:
        return let_go(self._backends, views, only_from=STILL_OURS, why=why, detail=detail, who=self._who)


def _may_still_act(record: JobRecord) -> bool:
    """Whether a platform has heard of the job and has not said what became of it."""
    stopped = record.state is State.CANCELLED and record.reason is Hold.WITHDRAWN
    return bool(record.first_sent_s) and (stopped or record.state is State.ACCEPTED)


def _open_jobs(view: CaseView) -> int:
    return sum(view.record(platform).state not in FINAL_STATES for platform in view.platforms)
