"""The outbox holds what happened, once, in order, until every subscriber has it; without any it is empty."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.bootstrap import Backends, open_backends
from backends.clock import ManualClock
from backends.embedded import EmbeddedValkey
from backends.outbox import START, Outbox
from schemas.notice import CaseSettled, NoticeData, PlatformResumed, PlatformSuspended
from schemas.outcome import Refusal
from schemas.state import State, Verdict
from tests.fixtures_valkey import NOON, settings_of, stored
from tests.letters import accept, record

SUSPENDED = PlatformSuspended(platform="alpha", reason="unauthorized")
RESUMED = PlatformResumed(platform="alpha")


@pytest.fixture
def telling(valkey: EmbeddedValkey, tmp_path: Path) -> Iterator[Backends]:
    """Backends of an operator some of whose systems subscribe."""
    opened = open_backends(
        settings_of(valkey, tmp_path).model_copy(update={"subscribers": tmp_path / "subscribers.yaml"}),
        clock=ManualClock(NOON),
    )
    yield opened
    opened.close()


def told(backends: Backends, after: str = START) -> list[NoticeData]:
    """Return what is in the outbox."""
    return [posted.notice.data for posted in backends.outbox.after(after, at_most=1000)]


def verdicts(backends: Backends, case: str) -> list[Verdict]:
    """Return the verdicts of a case as they were told."""
    return [data.verdict for data in told(backends) if isinstance(data, CaseSettled) and data.case == case]


def test_a_case_is_told_of_when_its_last_job_has_its_end(telling: Backends) -> None:
    """Not sooner, and not once for each job."""
    first, second = accept(telling, ["alpha", "beta"], count=2)
    record(telling, "alpha", [first, second], state=State.UNBOUND)
    assert [] == told(telling)
    record(telling, "beta", [first], state=State.NO_BINDING)
    record(telling, "beta", [second], state=State.REFUSED, reason=Refusal.FUNDS_OR_DEBT)
    assert [Verdict.CLEAN] == verdicts(telling, first)
    assert [Verdict.CLEAN_WITH_EXCEPTIONS] == verdicts(telling, second)
    (notice, _) = [posted.notice for posted in telling.outbox.after(START, at_most=9)]
    view = telling.store.case(first)
    assert (first, view.run) == (notice.subject, notice.data.run if isinstance(notice.data, CaseSettled) else "")


def test_without_subscribers_nothing_is_written(backends: Backends) -> None:
    """What nobody reads would only fill the ledger."""
    record(backends, "alpha", accept(backends, ["alpha"]), state=State.UNBOUND)
    assert not backends.outbox.announce("gate:alpha", "suspended", SUSPENDED)
    assert 0 == backends.outbox.count()
    assert [] == [key for key in stored(backends) if key.endswith((":outbox", ":announced"))]


STATES = st.sampled_from([State.UNBOUND, State.NO_BINDING, State.REFUSED, State.DEAD, State.ACCEPTED, State.WAITING])
EVENTS = st.lists(st.tuples(st.sampled_from(["alpha", "beta"]), st.integers(0, 2), STATES), max_size=14)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_what_was_told_last_is_the_verdict_that_is_stored(
    telling: Backends, events: list[tuple[str, int, State]]
) -> None:
    """Whatever comes in whatever order: a verdict is told when it is reached or changes, and never otherwise."""
    cases = accept(telling, ["alpha", "beta"], count=3)
    reached: dict[str, list[Verdict]] = {case: [] for case in cases}
    for platform, place, state in events:
        record(telling, platform, [cases[place]], state=state)
        verdict = telling.store.case(cases[place]).verdict
        if verdict is not Verdict.INCOMPLETE and [verdict] != reached[cases[place]][-1:]:
            reached[cases[place]].append(verdict)
    assert reached == {case: verdicts(telling, case) for case in cases}


def test_a_change_is_told_once_whoever_sees_it(telling: Backends) -> None:
    """Every scheduler looks at the same gates."""
    others = replace(telling, outbox=Outbox(telling.redis, telling.keys, wanted=True))
    assert [True, False] == [each.outbox.announce("gate:alpha", "suspended", SUSPENDED) for each in (telling, others)]
    assert [True, False] == [each.outbox.announce("gate:alpha", "", RESUMED) for each in (others, telling)]
    assert [SUSPENDED, RESUMED] == told(telling)


def test_a_state_can_be_remembered_in_silence(telling: Backends) -> None:
    """Of what was so before anybody subscribed nobody wants to hear."""
    assert telling.outbox.announce("sweep:nightly", "2026-11-01", None)
    assert {"sweep:nightly": "2026-11-01"} == telling.outbox.announced()
    assert [] == told(telling)


def test_a_notice_has_one_id_and_the_time_of_the_store(telling: Backends) -> None:
    """A subscriber knows by the id what it has got before, and by the time what is older."""
    telling.outbox.announce("gate:alpha", "suspended", SUSPENDED)
    (first,), (again,) = (telling.outbox.after(START, at_most=5) for _ in range(2))
    assert first == again
    assert first.at == first.notice.time
    assert timedelta(0) == first.at.utcoffset()


def test_only_what_every_subscriber_has_is_forgotten(telling: Backends) -> None:
    """The slowest of them decides."""
    for state in ("a", "b", "c"):
        telling.outbox.announce("gate:alpha", state, SUSPENDED)
    places = [posted.place for posted in telling.outbox.after(START, at_most=5)]
    telling.subscribers.note("fast", place=places[2])
    telling.subscribers.forget_what_all_have(["fast", "new"], telling.outbox)
    assert 3 == telling.outbox.count()
    telling.subscribers.note("slow", place=places[0])
    telling.subscribers.forget_what_all_have(["fast", "slow"], telling.outbox)
    assert places[1:] == [posted.place for posted in telling.outbox.after(START, at_most=5)]
