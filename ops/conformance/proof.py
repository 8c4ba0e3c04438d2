"""The checks of authentication: who cannot prove that he is the operator is turned away. Pure."""

from collections.abc import Iterator
from typing import Final

from ops.conformance.check import Checks
from ops.conformance.plan import STALE_S, Step
from ops.conformance.played import NotNeeded, Played
from ops.conformance.reading import GOOD, said_of
from platforms.model import NoAuth, StandardWebhooks
from workers.transport import Answer

PROOF: Final = Checks()
_AUTH: Final = "authentication"
_BACK: Final = "a-number-goes-back"
_REFUSED: Final = frozenset({401, 403})
_OK: Final = range(200, 300)


@PROOF.add("wrong-key", section=_AUTH)
def _wrong_key(played: Played) -> Iterator[str]:
    """A call that somebody else has signed, or that has another token, is refused with 401 or 403."""
    if isinstance(played.platform.auth, NoAuth):
        raise NotNeeded("the entry has auth: none")
    yield from _refused(played, Step.WRONG_KEY)


@PROOF.add("no-proof", section=_AUTH)
def _no_proof(played: Played) -> Iterator[str]:
    """A call without a signature, or without a token, is refused with 401 or 403."""
    if isinstance(played.platform.auth, NoAuth):
        raise NotNeeded("the entry has auth: none")
    yield from _refused(played, Step.UNSIGNED)


@PROOF.add("old-call", section=_AUTH)
def _old_call(played: Played) -> Iterator[str]:
    """A call whose timestamp is more than 300 seconds off, before or after, is refused with 401 or 403."""
    _only_signed(played)
    for when, answer in zip(("old", "early"), played.of(Step.STALE), strict=True):
        if answer.status not in _REFUSED:
            yield f"{STALE_S} seconds too {when}: {_instead(played, answer)}"


@PROOF.add("raw-body", section=_AUTH)
def _raw_body(played: Played) -> Iterator[str]:
    """The signature is checked on the bytes as they came: the same JSON written in another way is refused."""
    _only_signed(played)
    yield from _refused(played, Step.ALTERED)


@PROOF.add("signed-id", section=_AUTH)
def _signed_id(played: Played) -> Iterator[str]:
    """The signature is of the webhook-id too: with another one the call is refused."""
    _only_signed(played)
    yield from _refused(played, Step.OTHER_ID)


@PROOF.add("several-signatures", section=_AUTH)
def _several_signatures(played: Played) -> Iterator[str]:
    """Where several signatures stand in the header, one that fits is enough, wherever it stands."""
    _only_signed(played)
    for answer in played.of(Step.ROTATED):
        if answer.status not in GOOD:
            yield f"behind two signatures that do not fit: {said_of(played, answer)}"


@PROOF.add("withdrawal", section=_BACK)
def _withdrawal(played: Played) -> Iterator[str]:
    """A withdrawal is answered with any 2xx, and so is the same one again."""
    if played.platform.withdraw is None:
        raise NotNeeded("the entry has no withdraw")
    for step in (Step.WITHDRAWN, Step.WITHDRAWN_AGAIN):
        for answer in played.of(step):
            if answer.status not in _OK:
                yield f"{step}: {said_of(played, answer)}"


@PROOF.add("withdrawal-proof", section=_BACK)
def _withdrawal_proof(played: Played) -> Iterator[str]:
    """A withdrawal that nobody has signed is refused with 401 or 403."""
    if played.platform.withdraw is None:
        raise NotNeeded("the entry has no withdraw")
    if isinstance(played.platform.auth, NoAuth):
        raise NotNeeded("the entry has auth: none")
    yield from _refused(played, Step.WITHDRAWN_UNSIGNED)


def _only_signed(played: Played) -> None:
    if not isinstance(played.platform.auth, StandardWebhooks):
        raise NotNeeded(f"the entry has auth: {played.platform.auth.scheme}")


def _refused(played: Played, step: Step) -> Iterator[str]:
    for answer in played.of(step):
        if answer.status not in _REFUSED:
            yield _instead(played, answer)


def _instead(played: Played, answer: Answer) -> str:
    if answer.status in _OK:
        return f"it was let in (HTTP {answer.status})"
    return f"expected 401 or 403, found: {said_of(played, answer)}"
