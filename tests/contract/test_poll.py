"""Asking platforms for answers that come later: when it is due, through admission, and without a number in it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from backends.bootstrap import Backends
from backends.clock import ManualClock
from platforms.catalogue import Catalogue
from platforms.model import Poll
from schemas.ids import job_id
from schemas.outcome import Refusal
from schemas.result import ResultEvent
from schemas.state import State
from tests.answers import POLL, catalogue_of
from tests.command import write_platform
from tests.fixtures_valkey import NOON
from tests.letters import accept, record, record_of
from workers.poll import Poller, next_poll
from workers.transport import Answer, Call, Transport

Said = Callable[[dict[str, Any]], tuple[int, Any]]


class Scripted(Transport):
    """Answers each call as it is told, and keeps what it was asked."""

    name = "test"

    def __init__(self, say: Said) -> None:
        self.say, self.calls = say, list[Call]()

    @override
    def send(
        self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0
    ) -> Iterator[Answer]:
        """Yield one answer for each call."""
        for call in calls:
            self.calls.append(call)
            status, content = self.say(orjson.loads(call.body))
            headers = {"content-type": "application/json", "retry-after": "7200"}
            kept = headers if status == 429 else {"content-type": "application/json"}
            yield Answer(call=call, status=status, headers=kept, body=orjson.dumps(content))

    @override
    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Beta is asked by lists, delta one by one."""
    write_platform(tmp_path, "delta", protocol="json", poll=POLL | {"endpoint": "https://delta.example/polls"})
    return catalogue_of(tmp_path)


@pytest.fixture
def recorded(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> Backends:
    """Backends that record an event at once instead of by way of the broker."""

    def publish(event: ResultEvent) -> None:
        backends.store.apply(event)

    monkeypatch.setattr(backends.broker, "publish_event", publish)
    return backends


def poller(backends: Backends, catalogue: Catalogue, say: Said) -> tuple[Poller, Scripted]:
    """Return what asks, and what it asks."""
    transport = Scripted(say)
    made = Poller(backends, catalogue, transport=lambda: transport, credentials=lambda _: (), pause=lambda _: None)
    return made, transport


def later(backends: Backends, seconds: float) -> None:
    """Let time pass."""
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(backends.clock.now() + timedelta(seconds=seconds))


def accepted(backends: Backends, platform: str, *, count: int = 1) -> list[str]:
    """Let a platform have accepted jobs."""
    cases = accept(backends, [platform], count=count)
    record(backends, platform, cases, state=State.ACCEPTED)
    return cases


def all_say(code: str) -> Said:
    """Answer every item with one code."""

    def say(body: dict[str, Any]) -> tuple[int, Any]:
        if "items" not in body:
            return 200, {"code": code}
        return 200, {"results": [{"id": item["id"], "code": code} for item in body["items"]]}

    return say


def test_a_platform_is_asked_when_it_is_due_and_its_answer_ends_the_job(
    recorded: Backends, catalogue: Catalogue
) -> None:
    """After the first delay and not before; no number is in it, and the answer is no attempt."""
    cases = accepted(recorded, "beta", count=2)
    asking, transport = poller(recorded, catalogue, all_say("OK"))
    assert 0 == asking.step()
    later(recorded, 59)
    assert 0 == asking.step()
    later(recorded, 1)
    assert 2 == asking.step()
    (call,) = transport.calls
    assert POLL["endpoint"] == call.url
    asked = orjson.loads(call.body)
    assert {"items"} == set(asked)
    assert [{"id": job_id(c, "beta"), "reference": None} for c in sorted(cases)] == sorted(
        asked["items"], key=lambda item: str(item["id"])
    )
    found = [record_of(recorded, case, "beta") for case in cases]
    assert [(State.UNBOUND, 1)] * 2 == [(each.state, each.attempts) for each in found]
    later(recorded, 10_000)
    assert 0 == asking.step()
    assert 0 == recorded.redis.zcard(recorded.keys.polls("beta"))


def test_what_is_not_decided_yet_is_asked_about_again(recorded: Backends, catalogue: Catalogue) -> None:
    """Still accepted, left out, or an error: the next delay counts from the first call, and the last one repeats."""
    (case,) = accepted(recorded, "beta")
    answers = iter([all_say("TAKEN"), lambda _: (200, {"results": []}), lambda _: (503, {}), all_say("HELD")])

    def say(body: dict[str, Any]) -> tuple[int, Any]:
        return next(answers)(body)

    asking, _ = poller(recorded, catalogue, say)
    at = []
    for _ in range(40):
        if asking.step():
            at.append((recorded.clock.now() - NOON).total_seconds())
        later(recorded, 60)
    assert [60, 660, 1260, 1860] == at
    assert (State.REFUSED, Refusal.FUNDS_OR_DEBT) == (
        record_of(recorded, case, "beta").state, record_of(recorded, case, "beta").reason
    )  # fmt: skip


def test_single_items_are_asked_about_one_by_one(recorded: Backends, catalogue: Catalogue) -> None:
    """A platform of the protocol json is asked as it is called; each asking has a name of its own."""
    cases = accepted(recorded, "delta", count=3)
    asking, transport = poller(recorded, catalogue, all_say("NO_BINDING"))
    asking.step()
    later(recorded, 60)
    for _ in range(4):
        asking.step()
    assert {job_id(case, "delta") for case in cases} == {orjson.loads(call.body)["id"] for call in transport.calls}
    assert 3 == len({call.headers["Idempotency-Key"] for call in transport.calls}) == len(transport.calls)
    assert {State.NO_BINDING} == {record_of(recorded, case, "delta").state for case in cases}


def test_the_reference_that_the_platform_gave_goes_with_it(recorded: Backends, catalogue: Catalogue) -> None:
    """Many platforms find their own work only by their own name for it."""
    (case,) = accept(recorded, ["beta"])
    call_beta(recorded, case, reference="N-77")
    asking, transport = poller(recorded, catalogue, all_say("OK"))
    asking.step()
    later(recorded, 60)
    asking.step()
    assert "N-77" == orjson.loads(transport.calls[0].body)["items"][0]["reference"]


def call_beta(backends: Backends, case: str, *, reference: str) -> None:
    """Let beta answer 202 with a reference."""
    from schemas.ids import new_id
    from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult

    data = AttemptData(
        batch=new_id(), run=new_id(), platform="beta", attempt=1, started_at=NOON, ended_at=NOON, worker="w", calls=1,
        latencies=(1,) + (0,) * len(LATENCY_BOUNDS_MS),
        jobs=(JobResult(case=case, state=State.ACCEPTED, reference=reference),),
    )  # fmt: skip
    backends.store.apply(ResultEvent(id=new_id(), time=NOON, subject="beta", data=data))


def test_a_paused_platform_is_asked_when_it_may_be_called(recorded: Backends, catalogue: Catalogue) -> None:
    """A poll is a call like any other: it asks for leave, and waiting loses nothing."""
    accepted(recorded, "beta")
    recorded.gates.pause("beta", until=None, reason="a change there")
    asking, transport = poller(recorded, catalogue, all_say("OK"))
    asking.step()
    later(recorded, 60)
    assert 0 == asking.step()
    assert [] == transport.calls
    recorded.gates.resume("beta")
    later(recorded, 60)
    assert 1 == asking.step()


def test_a_platform_that_asks_for_rest_gets_it(recorded: Backends, catalogue: Catalogue) -> None:
    """Retry-After counts for polls too."""
    accepted(recorded, "beta")
    asking, transport = poller(recorded, catalogue, lambda _: (429, {}))
    asking.step()
    later(recorded, 60)
    asking.step()
    later(recorded, 7199)
    assert 0 == asking.step()
    later(recorded, 1)
    assert 1 == asking.step()
    assert 2 == len(transport.calls)


def test_who_died_while_asking_is_replaced(recorded: Backends, catalogue: Catalogue) -> None:
    """A worker that took a job and was killed has asked about it or not: it is asked about again."""
    accepted(recorded, "beta")
    later(recorded, 60)
    now = recorded.clock.now()
    assert recorded.expected.take("beta", now=now, until=now + timedelta(minutes=5), at_most=5)
    asking, _ = poller(recorded, catalogue, all_say("OK"))
    assert 0 == asking.step()
    later(recorded, 300)
    assert 1 == asking.step()


@given(delays_s=st.lists(st.integers(1, 5000), min_size=1, max_size=4), passed_s=st.integers(0, 50_000))
def test_the_next_poll_lies_ahead_and_never_farther_than_a_delay(delays_s: list[int], passed_s: int) -> None:
    """Whenever a worker looks, the beat is the same: it counts from the first call."""
    poll = Poll(endpoint="https://beta.example/polls", delays_s=tuple(map(float, delays_s)))
    now = NOON + timedelta(seconds=passed_s)
    due = next_poll(poll, NOON, now)
    assert timedelta(0) < due - now <= timedelta(seconds=max(delays_s))
    assert due == next_poll(poll, NOON, due - timedelta(milliseconds=1))
