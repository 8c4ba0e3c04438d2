"""The checks of what an endpoint says: outcomes, reasons, the cut-off, and the same id twice. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from ops.conformance.check import Checks
from ops.conformance.numbers import Role
from ops.conformance.plan import Asked, Step
from ops.conformance.played import NotTried, Played
from ops.conformance.reading import OK, good, results_of
from schemas.outcome import Outcome, Refusal
from workers.connector import Answered, Entry

MEANING: Final = Checks()
_CODES: Final = "codes-and-outcomes"
_CUTOFF: Final = "the-cut-off-strictly-before"
_TWICE: Final = "the-same-id-twice-one-effect"


@MEANING.add("known-codes", section=_CODES)
def _known_codes(played: Played) -> Iterator[str]:
    """Every code is in `outcomes` of the entry: another one is never success."""
    for step, answer in good(played):
        if answer.status != OK:
            continue
        codes = (result.get("code") for result in results_of(answer, single=played.platform.protocol == "json"))
        unknown = Counter(code for code in codes if isinstance(code, str) and code not in played.platform.outcomes)
        if unknown:
            yield f"{step}: {sum(unknown.values())} results with {len(unknown)} codes that the entry does not map"


@MEANING.add("refusal-reasons", section=_CODES)
def _refusal_reasons(played: Played) -> Iterator[str]:
    """A refusal has one of the listed reasons, by its code or beside REFUSED."""
    refused = [entry for entry in _outcomes(played.verdicts().values()) if entry.outcome is Outcome.REFUSED]
    if not refused:
        _with(played, Role.REFUSING)
        raise NotTried("nothing was refused")
    mapped = {code for code, meaning in played.platform.outcomes.items() if meaning is Outcome.REFUSED}
    for entry in refused:
        if mapped and entry.reason is Refusal.OTHER and not entry.detail and not _says_other(played):
            yield "REFUSED without a reason"
        elif entry.reason is Refusal.OTHER and entry.detail:
            yield "REFUSED with a reason outside the list"


@MEANING.add("old-binding", section=_CODES)
def _old_binding(played: Played) -> Iterator[str]:
    """What was bound before the cut-off is removed, and the answer says UNBOUND."""
    yield from _as_expected(played, [asked for asked in _with(played, Role.BOUND_BEFORE) if not asked.abroad])


@MEANING.add("nothing-bound", section=_CODES)
def _nothing_bound(played: Played) -> Iterator[str]:
    """A number to which nothing is bound is answered NO_BINDING, never 404."""
    yield from _as_expected(played, _with(played, Role.NOT_BOUND))


@MEANING.add("refusal", section=_CODES)
def _refusal(played: Played) -> Iterator[str]:
    """A binding that has to stay is answered REFUSED."""
    yield from _as_expected(played, _with(played, Role.REFUSING))


@MEANING.add("cutoff-strict", section=_CUTOFF)
def _cutoff_strict(played: Played) -> Iterator[str]:
    """A binding made at the cut-off itself is the new owner's: BOUND_AFTER_CUTOFF."""
    yield from _as_expected(played, [asked for asked in _with(played, Role.BOUND_AFTER) if not asked.abroad])


@MEANING.add("cutoff-instant", section=_CUTOFF)
def _cutoff_instant(played: Played) -> Iterator[str]:
    """Instants are compared, not texts: the same cut-off in another offset has the same answer."""
    dated = [asked for asked in played.asked if asked.role in {Role.BOUND_BEFORE, Role.BOUND_AFTER} and asked.abroad]
    if not dated:
        raise NotTried(f"lend a number with the role {Role.BOUND_AFTER}")
    yield from _as_expected(played, dated)


@MEANING.add("same-id-other-batch", section=_TWICE)
def _same_id_other_batch(played: Played) -> Iterator[str]:
    """The same id in another batch, beside others and in another order, has the same answer."""
    yield from _same(played, Step.AGAIN)


@MEANING.add("same-call-twice", section=_TWICE)
def _same_call_twice(played: Played) -> Iterator[str]:
    """The same call a second time has the same answers."""
    yield from _same(played, Step.SAME)


def _outcomes(entries: Iterable[Entry]) -> Iterator[Answered]:
    return (entry for entry in entries if isinstance(entry, Answered))


def _says_other(played: Played) -> bool:
    """Whether the platform named the reason `other` itself."""
    return any(
        result.get("reason") == Refusal.OTHER
        for _, answer in good(played)
        for result in results_of(answer, single=played.platform.protocol == "json")
    )


def _with(played: Played, role: Role) -> list[Asked]:
    found = [asked for asked in played.asked if asked.role is role]
    if not found:
        raise NotTried(f"lend a number with the role {role}")
    return found


def _as_expected(played: Played, asked: list[Asked]) -> Iterator[str]:
    if not asked:
        raise NotTried("lend a second number of this role")
    verdicts = played.verdicts()
    found = [(one, entry) for one in asked if isinstance(entry := verdicts.get(one.job), Answered)]
    wrong = [(one, entry) for one, entry in found if entry.outcome not in {one.expected, Outcome.ACCEPTED}]
    for one, entry in wrong:
        yield f"expected {one.expected} for a number that is {one.role}, found {entry.outcome}"
    if not wrong and sum(entry.outcome is one.expected for one, entry in found) < len(asked):
        raise NotTried("there was no outcome for it")


def _same(played: Played, step: Step) -> Iterator[str]:
    first, second = played.verdicts(), played.entries(step)
    for asked in played.asked:
        one, two = first.get(asked.job), second.get(asked.job)
        if not isinstance(one, Answered) or not isinstance(two, Answered):
            continue
        if (one.outcome, one.reason) != (two.outcome, two.reason) and two.outcome is not Outcome.ACCEPTED:
            yield f"{one.outcome} at first and {two.outcome} the second time ({asked.role})"
    if not any(isinstance(entry, Answered) for entry in second.values()):
        raise NotTried("the repeated call had no answer")
