"""The life of a job: its states, who holds it in each, and which transitions are allowed.

This table is the only one. `record.lua` receives it as data, `docs/lifecycle.md` draws it, and tests hold all
three equal.

Order does not matter (rule 3) because every change carries a place in one total order, and the store keeps the
greatest: a final state beats all others, then the higher generation wins, then the higher rank, then (while
WAITING) the higher attempt. Attempt numbers go on across generations. Two different final states do not compete: the
recorded one stays, the other is kept as a contradiction, or as late where the recorded one was for want of an answer.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "QUEUED"
    WAITING = "WAITING"
    DEAD = "DEAD"
    ACCEPTED = "ACCEPTED"
    PENDING_REVIEW = "PENDING_REVIEW"
    UNBOUND = "UNBOUND"
    NO_BINDING = "NO_BINDING"
    BOUND_AFTER_CUTOFF = "BOUND_AFTER_CUTOFF"
    REFUSED = "REFUSED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    DELIVERED_UNCONFIRMED = "DELIVERED_UNCONFIRMED"


class Holder(StrEnum):
    """Who has to act next (requirement 14)."""

    DISPATCHER = "dispatcher"
    PLATFORM = "platform"
    OPERATOR = "operator"
    USER = "user"  # the number's owner; no state says so, but a turn may
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRule:
    """What the house knows about one state."""

    code: int  # the byte in a packed record: never reused
    holder: Holder
    rank: int  # among states that are not final: the greater wins within one generation
    clean: bool = False  # a final state that leaves nothing of the old owner
    unanswered: bool = False  # a final state for want of an answer: one that comes later is late, and no contradiction

    @property
    def final(self) -> bool:
        """Whether nothing may follow."""
        return self.holder is Holder.NOBODY


_FINAL_RANK = 9
STATES: dict[State, StateRule] = {
    State.QUEUED: StateRule(code=1, holder=Holder.DISPATCHER, rank=0),
    State.WAITING: StateRule(code=2, holder=Holder.DISPATCHER, rank=1),
    State.DEAD: StateRule(code=3, holder=Holder.OPERATOR, rank=2),
    State.ACCEPTED: StateRule(code=4, holder=Holder.PLATFORM, rank=3),
    State.PENDING_REVIEW: StateRule(code=5, holder=Holder.OPERATOR, rank=4),
    State.UNBOUND: StateRule(code=6, holder=Holder.NOBODY, rank=_FINAL_RANK, clean=True),
    State.NO_BINDING: StateRule(code=7, holder=Holder.NOBODY, rank=_FINAL_RANK, clean=True),
    State.BOUND_AFTER_CUTOFF: StateRule(code=8, holder=Holder.NOBODY, rank=_FINAL_RANK, clean=True),
    State.REFUSED: StateRule(code=9, holder=Holder.NOBODY, rank=_FINAL_RANK),
    State.NOT_SUPPORTED: StateRule(code=10, holder=Holder.NOBODY, rank=_FINAL_RANK),
    State.CANCELLED: StateRule(code=11, holder=Holder.NOBODY, rank=_FINAL_RANK),
    State.EXPIRED: StateRule(code=12, holder=Holder.NOBODY, rank=_FINAL_RANK, unanswered=True),
    State.DELIVERED_UNCONFIRMED: StateRule(code=13, holder=Holder.NOBODY, rank=_FINAL_RANK, unanswered=True),
}
STATE_OF_CODE: dict[int, State] = {rule.code: state for state, rule in STATES.items()}
FINAL_STATES: frozenset[State] = frozenset(state for state, rule in STATES.items() if rule.final)
DISPATCHER_STATES: frozenset[State] = frozenset(
    state for state, rule in STATES.items() if rule.holder is Holder.DISPATCHER
)

# Which state may follow which within one generation. A replay raises the generation and starts again at QUEUED:
# that is the only way back, and only from a state that a person holds.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.WAITING, State.DEAD, State.ACCEPTED, State.PENDING_REVIEW, *FINAL_STATES}),
    State.WAITING: frozenset({State.WAITING, State.DEAD, State.ACCEPTED, State.PENDING_REVIEW, *FINAL_STATES}),
    State.DEAD: frozenset({State.ACCEPTED, State.PENDING_REVIEW, *FINAL_STATES}),
    State.ACCEPTED: frozenset({State.PENDING_REVIEW, *FINAL_STATES}),
    State.PENDING_REVIEW: frozenset(FINAL_STATES),
    **{state: frozenset() for state in FINAL_STATES},
}
REPLAYABLE: frozenset[State] = frozenset({State.DEAD, State.PENDING_REVIEW})


class Verdict(StrEnum):
    """What all jobs of a case add up to (requirement 24)."""

    CLEAN = "CLEAN"
    CLEAN_WITH_EXCEPTIONS = "CLEAN_WITH_EXCEPTIONS"
    INCOMPLETE = "INCOMPLETE"


def verdict(*, open_jobs: int, exceptions: int) -> Verdict:
    """Roll a case up: never CLEAN while a job is open or ended other than clean."""
    if open_jobs > 0:
        return Verdict.INCOMPLETE
    return Verdict.CLEAN_WITH_EXCEPTIONS if exceptions > 0 else Verdict.CLEAN
