"""Every reason for which a job may die has a next step."""

import pytest

from ops.advice import ADVICE, advice
from schemas.outcome import Fault, Hold, Reason, Refusal


def test_every_fault_and_hold_has_its_advice() -> None:
    """At night nobody should have to guess; a new reason without a next step fails here."""
    assert {*Fault, *Hold} == set(ADVICE)


@pytest.mark.parametrize("reason", [*ADVICE, None, Refusal.OTHER])
def test_advice_names_the_platform_and_never_a_placeholder(reason: Reason | None) -> None:
    """What it says to type must work when it is typed."""
    text = advice(reason, platform="acme")
    assert "{" not in text
    assert "--platform" not in text or f"--platform acme --cause {reason}" in text
