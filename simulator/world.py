"""The truth that a platform would tell: which numbers hang on which accounts, and what becomes of a request. Pure."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from platforms.model import Platform, Refused
from schemas.errors import CatalogueError
from schemas.outcome import Outcome, Refusal
from simulator.chance import Chance, bound_of

BOUND_SHARE: Final = 0.017
_SHARE_OF_BOUND: Final = {
    Outcome.UNBOUND: 0.78,
    Outcome.REFUSED: 0.14,
    Outcome.BOUND_AFTER_CUTOFF: 0.06,
    Outcome.NOT_SUPPORTED: 0.02,
}
_MONEY_CATEGORIES: Final = frozenset({"payment", "bank", "invest"})
_REASON_WEIGHTS: Final = {
    Refusal.FUNDS_OR_DEBT: 10,
    Refusal.OPEN_ORDER_OR_DISPUTE: 20,
    Refusal.REALNAME_LOCKED: 15,
    Refusal.BANNED_ACCOUNT: 10,
    Refusal.LEGAL_HOLD: 2,
    Refusal.RISK_CONTROL: 14,
    Refusal.ENTERPRISE_ACCOUNT: 5,
    Refusal.ONLY_LOGIN_METHOD: 12,
    Refusal.MANUAL_IDENTITY_CHECK: 6,
    Refusal.RECORD_MISMATCH: 4,
    Refusal.OTHER: 14,
}
_FUNDS_WEIGHT_WITH_MONEY: Final = 150
# What to say where a platform has no code for the truth: the earlier, the less it claims to have done.
_FALLBACKS: Final = (
    Outcome.NO_BINDING,
    Outcome.NOT_SUPPORTED,
    Outcome.BOUND_AFTER_CUTOFF,
    Outcome.REFUSED,
    Outcome.PENDING_REVIEW,
    Outcome.UNBOUND,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One thing a platform can say: its own code, and what that code means (None: nobody knows)."""

    code: str
    outcome: Outcome | None
    reason: Refusal | None = None


class World:
    """One platform's share of the world: for every number the same answer, whenever it is asked.

    Only the platform's own codes are used, and only codes that its catalogue entry maps to the intended outcome.
    Raises CatalogueError for an entry whose codes can all mean nothing but ACCEPTED.
    """

    def __init__(self, platform: Platform, *, seed: int) -> None:
        self._chance = Chance(seed=seed, use="world", platform=platform.key)
        spoken = list(_answers(platform))
        if not spoken:
            raise CatalogueError(f"{platform.key}: outcomes: the simulator needs a code that is not ACCEPTED")
        shares = _shares(spoken, money=platform.category in _MONEY_CATEGORIES)
        self.answers: tuple[Answer, ...] = tuple(shares)
        self._bounds = [bound_of(share) for share in accumulate(shares.values())][:-1]
        self.place_of_nothing = 0

    def pair(self, number: str) -> int:
        """Return the name of an E.164 number at this platform: 64 bits that do not show the number."""
        return self._chance.roll(number)

    def place_of(self, pair: int) -> int:
        """Return what the platform answers about a pair, as a place in `answers`."""
        return bisect_right(self._bounds, pair)

    def truth(self, number: str) -> Answer:
        """Return what the platform answers about an E.164 number when it is asked for the first time."""
        return self.answers[self.place_of(self.pair(number))]


def _answers(platform: Platform) -> Iterator[Answer]:
    """Yield everything the platform has a code for; a bare REFUSED can carry each reason."""
    for code, meaning in platform.outcomes.items():
        if isinstance(meaning, Refused):
            yield Answer(code=code, outcome=Outcome.REFUSED, reason=meaning.REFUSED)
        elif meaning is Outcome.REFUSED:
            yield from (Answer(code=code, outcome=meaning, reason=reason) for reason in Refusal)
        elif meaning is not Outcome.ACCEPTED:
            yield Answer(code=code, outcome=meaning)


def _shares(spoken: list[Answer], *, money: bool) -> dict[Answer, float]:
    """Return the share of all numbers that gets each answer, what is said of an unbound number first."""
    fallback = next([a for a in spoken if a.outcome is o] for o in _FALLBACKS if any(a.outcome is o for a in spoken))
    shares = dict.fromkeys(fallback, (1 - BOUND_SHARE) / len(fallback))
    for outcome, share in _SHARE_OF_BOUND.items():
        fitting = [answer for answer in spoken if answer.outcome is outcome] or fallback
        weights = [_weight(answer, money=money) for answer in fitting]
        for answer, weight in zip(fitting, weights, strict=True):
            shares[answer] = shares.get(answer, 0.0) + BOUND_SHARE * share * weight / sum(weights)
    return shares


def _weight(answer: Answer, *, money: bool) -> int:
    if answer.reason is None:
        return 1
    if money and answer.reason is Refusal.FUNDS_OR_DEBT:
        return _FUNDS_WEIGHT_WITH_MONEY
    return _REASON_WEIGHTS[answer.reason]
