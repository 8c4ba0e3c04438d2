"""An operator turns gates: at once, on record, and after a dry run only as was foretold."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from backends.actions import What, whoami
from backends.admission import GateState, NotNow, Permit, Stop
from backends.bootstrap import Backends
from backends.waiting import Why
from backends.waiting_view import WaitingFilter
from ops.operator import Operator, Turned
from platforms.catalogue import Catalogue
from schemas.errors import InputError, NotFound
from schemas.ids import new_id
from tests.fixtures_valkey import NOON, stored
from tests.letters import accept, wait
from tests.snapshots import catalogue_of

# The server's own clock tells when a pause ends.
FAR = NOON + timedelta(days=3650)
NUMBER = "13812345678"
Change = Callable[[Operator], list[Turned]]
CHANGES: dict[str, tuple[What, Change]] = {
    "pause": (What.PLATFORM_PAUSE, lambda hand: hand.pause(["alpha"], reason="their wish")),
    "pause for": (What.PLATFORM_PAUSE, lambda hand: hand.pause(["alpha"], reason="their wish", until=FAR)),
    "resume": (What.PLATFORM_RESUME, lambda hand: hand.resume(["alpha"], reason="mended")),
    "suspend": (What.PLATFORM_SUSPEND, lambda hand: hand.suspend(["alpha"], reason="key leaked")),
    "probe": (What.PLATFORM_PROBE, lambda hand: hand.probe(["alpha"])),
    "limit": (What.PLATFORM_LIMIT, lambda hand: hand.limit(["alpha"], reason="slow", calls_per_s=2, in_flight=1)),
    "clear": (What.PLATFORM_LIMIT, lambda hand: hand.clear_limits(["alpha"], reason="well again")),
}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Two platforms of 10 calls a second."""
    return catalogue_of(tmp_path / "catalogue", limits={"calls_per_s": 10, "in_flight": 4})


@pytest.fixture
def hand(backends: Backends, catalogue: Catalogue) -> Operator:
    """An operator."""
    return Operator(backends, catalogue)


def ask(backends: Backends) -> Permit | NotNow:
    """Ask leave for one call, as a worker does."""
    return backends.admission.ask("alpha", calls=1, calls_per_s=10, in_flight=4, hold_s=1, holder=new_id())


def state(backends: Backends, platform: str = "alpha") -> GateState:
    """Return where a gate stands."""
    return backends.gates.views([platform])[0].state


def test_a_pause_holds_from_the_next_call_and_ends_when_resumed(backends: Backends, hand: Operator) -> None:
    """Running workers need no message: they ask before each batch."""
    assert isinstance(ask(backends), Permit)
    hand.pause(["alpha"], reason="their wish")
    refused = ask(backends)
    assert isinstance(refused, NotNow)
    assert Stop.PAUSED is refused.why
    hand.resume(["alpha"], reason="they are ready")
    assert isinstance(ask(backends), Permit)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_on_record_with_before_and_after(backends: Backends, hand: Operator, name: str) -> None:
    """Who comes in the morning must see what was done at night."""
    what, change = CHANGES[name]
    (turned,) = change(hand)
    (found,) = backends.actions.list()
    assert (what, "alpha", whoami()) == (found.action.what, found.action.target, found.action.who)
    assert (turned.before, turned.after) == (found.action.before, found.action.after)


@pytest.mark.parametrize("first", [None, "pause", "suspend", "limit"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_dry_run_changes_nothing_and_foretells_the_change(
    backends: Backends, catalogue: Catalogue, name: str, first: str | None
) -> None:
    """A foretelling that is wrong is worse than none; only times to come cannot be known to the second."""
    if first:
        CHANGES[first][1](Operator(backends, catalogue))
    before, count = stored(backends), len(backends.actions.list())
    change = CHANGES[name][1]
    (foretold,) = change(Operator(backends, catalogue, dry_run=True))
    assert before == stored(backends)
    assert count == len(backends.actions.list())
    (done,) = change(Operator(backends, catalogue))
    assert foretold.before == done.before
    told, became = ({**turned.after, "until": None} for turned in (foretold, done))
    if (name, first) == ("resume", "pause"):
        # What lies under a pause is not known before it ends.
        assert became["state"] in told.pop("state")
        assert "flowing" == became.pop("state")
        told["reason"] = became["reason"]
    assert became == told


def test_an_unknown_platform_among_several_leaves_all_as_they_were(backends: Backends, hand: Operator) -> None:
    """A typing error in the last name must not leave the first ones changed."""
    with pytest.raises(NotFound, match="gamma"):
        hand.pause(["alpha", "beta", "gamma"], reason="why")
    assert (GateState.FLOWING, []) == (state(backends), backends.actions.list())


def test_several_platforms_are_turned_each_once(backends: Backends, hand: Operator) -> None:
    """A name given twice is meant once."""
    turned = hand.pause(["beta", "alpha", "beta"], reason="why")
    assert ["beta", "alpha"] == [each.platform for each in turned]
    assert [GateState.PAUSED] * 2 == [state(backends, key) for key in ("alpha", "beta")]
    assert 2 == len(backends.actions.list())


def test_a_limit_that_is_not_given_stays(backends: Backends, hand: Operator) -> None:
    """Who lowers the rate does not mean to give back the slots."""
    hand.limit(["alpha"], reason="slow", in_flight=2)
    hand.limit(["alpha"], reason="slower", calls_per_s=1.5)
    (view,) = backends.gates.views(["alpha"])
    assert (1.5, 2) == (view.limit_calls_per_s, view.limit_in_flight)
    hand.clear_limits(["alpha"], reason="well again")
    (view,) = backends.gates.views(["alpha"])
    assert (None, None) == (view.limit_calls_per_s, view.limit_in_flight)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(backends: Backends, hand: Operator, rate: float) -> None:
    """Such a rate would come out of the script as any number, or as none."""
    with pytest.raises(InputError, match="calls-per-s"):
        hand.limit(["alpha"], reason="why", calls_per_s=rate)
    with pytest.raises(InputError, match="in-flight"):
        hand.limit(["alpha"], reason="why", in_flight=0)
    with pytest.raises(InputError, match="--clear"):
        hand.limit(["alpha"], reason="why")
    assert [] == backends.actions.list()


def test_a_pause_that_is_over_already_is_refused(backends: Backends, hand: Operator) -> None:
    """It would pause nothing and look as if it did."""
    with pytest.raises(InputError, match="ahead"):
        hand.pause(["alpha"], reason="why", until=NOON)
    assert GateState.FLOWING is state(backends)


def test_a_number_in_a_reason_is_masked_in_gate_and_log(backends: Backends, hand: Operator) -> None:
    """A gate's reason is on every screen (rule 8)."""
    hand.pause(["alpha"], reason=f"owner of {NUMBER} called")
    hand.suspend(["beta"], reason=f"owner of {NUMBER} called")
    assert NUMBER.encode() not in b"".join(body for _, body in stored(backends).values())
    assert "138****78" in backends.gates.views(["alpha"])[0].reason


def test_who_turns_a_gate_is_named_as_given(backends: Backends, catalogue: Catalogue) -> None:
    """Whoever stands at the door says it: an account of a machine, or the name of a key."""
    Operator(backends, catalogue, who="li").pause(["alpha"], reason="why")
    assert "li" == backends.actions.list()[0].action.who


def test_a_probe_asked_for_goes_at_once_and_its_success_resumes(backends: Backends, hand: Operator) -> None:
    """Who has mended the connection does not wait ten minutes for the next look."""
    hand.suspend(["alpha"], reason="key leaked")
    assert isinstance(ask(backends), NotNow)
    hand.probe(["alpha"])
    permit = ask(backends)
    assert isinstance(permit, Permit)
    assert permit.probe


def let_wait(backends: Backends, platform: str, why: Why, *, count: int = 1) -> None:
    """Let batches wait until far away, as those do that were refused at a closed gate."""
    for index in range(count):
        first = 10 * list(Why).index(why) + index
        wait(backends, platform, accept(backends, [platform], first=first), due=FAR, why=why)


def due_now(backends: Backends) -> list[tuple[str, str]]:
    """Return platform and why of the batches that are due."""
    wanted = WaitingFilter(due_before=NOON + timedelta(seconds=1))
    return sorted((found.platform, found.why) for found in backends.waiting_view.select(wanted, now=NOON))


def test_who_was_refused_at_the_gate_looks_again_when_it_is_opened(backends: Backends, hand: Operator) -> None:
    """A batch that was told to come back in two hours would wait two hours though the pause is over."""
    for why in Why:
        let_wait(backends, "alpha", why)
    let_wait(backends, "beta", Why.PAUSED)
    hand.pause(["alpha"], reason="their wish", until=FAR)
    assert [] == due_now(backends)
    (turned,) = hand.resume(["alpha"], reason="they are ready")
    expected = [("alpha", why.value) for why in (Why.BREAKER, Why.PAUSED, Why.SUSPENDED)]
    assert (3, expected) == (turned.hurried, due_now(backends))


def test_a_probe_brings_a_few_batches_and_not_all(backends: Backends, hand: Operator) -> None:
    """Without a batch that asks there is no probe; with all of them most would come for nothing."""
    let_wait(backends, "alpha", Why.SUSPENDED, count=8)
    hand.suspend(["alpha"], reason="key leaked")
    (turned,) = hand.probe(["alpha"])
    assert 3 == turned.hurried == len(due_now(backends))


def test_those_who_were_spread_by_a_lower_limit_look_again_when_it_is_gone(backends: Backends, hand: Operator) -> None:
    """Their turns were given out at the lower rate; the platform would idle until then."""
    hand.limit(["alpha"], reason="slow", calls_per_s=0.1)
    let_wait(backends, "alpha", Why.LIMIT, count=2)
    let_wait(backends, "alpha", Why.RETRY)
    (turned,) = hand.clear_limits(["alpha"], reason="well again")
    assert (2, [("alpha", "limit")] * 2) == (turned.hurried, due_now(backends))


def test_a_platform_for_which_nothing_waits_hurries_nobody_else(backends: Backends, hand: Operator) -> None:
    """An empty list of batches must not mean every batch."""
    let_wait(backends, "beta", Why.PAUSED)
    (turned,) = hand.resume(["alpha"], reason="mended")
    assert (0, []) == (turned.hurried, due_now(backends))


def test_a_dry_run_hurries_nobody(backends: Backends, catalogue: Catalogue) -> None:
    """It shows, and leaves every due time as it is."""
    let_wait(backends, "alpha", Why.PAUSED)
    before = stored(backends)
    Operator(backends, catalogue, dry_run=True).resume(["alpha"], reason="mended")
    assert before == stored(backends)
