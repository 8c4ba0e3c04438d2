"""Telling platforms that a number went back: once each, through admission, and with a record of how it ended."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from typing_extensions import override

from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.withdrawals import Stage, Withdrawal
from platforms.catalogue import Catalogue
from schemas.ids import derive, job_id
from schemas.outcome import Fault
from schemas.state import State
from simulator.desk import Call as Pretended
from tests.command import write_platform
from tests.fixtures_valkey import NOON
from tests.letters import accept, record
from tests.simulated import answer, platform, simulator
from workers.connector import build_withdrawal
from workers.transport import Answer, Call, Transport
from workers.withdrawal import Withdrawer, judge

WITHDRAW = "https://alpha.example/v1/withdrawals"
JOB = job_id(derive("case"), "alpha")
CALL = Call(url=WITHDRAW, headers={}, body=b"{}", timeout_s=1, keys=(JOB,))


class Scripted(Transport):
    """Answers with what it is told, and keeps what it was asked."""

    name = "test"

    def __init__(self, *statuses: int | Fault) -> None:
        self.statuses, self.calls = list(statuses), list[Call]()

    @override
    def send(
        self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0
    ) -> Iterator[Answer]:
        """Yield one answer for each call."""
        for call in calls:
            self.calls.append(call)
            status = self.statuses.pop(0)
            if isinstance(status, Fault):
                yield Answer(call=call, fault=status)
            else:
                yield Answer(call=call, status=status)

    @override
    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """One platform that offers withdrawal, and one that does not."""
    write_platform(tmp_path / "catalogue", "alpha", withdraw=WITHDRAW, retry={"delays_s": [5, 60], "attempts_max": 3})
    write_platform(tmp_path / "catalogue", "beta")
    return Catalogue.load(tmp_path / "catalogue")


def ask(backends: Backends, *platforms: str, reference: str = "") -> list[str]:
    """Ask for the withdrawal of one number's jobs. Returns them."""
    (case,) = accept(backends, platforms)
    for key in platforms:
        record(backends, key, [case], state=State.UNBOUND, detail=reference)
    jobs = [job_id(case, key) for key in platforms]
    backends.withdrawals.request(jobs, now=backends.clock.now())
    return jobs


def withdrawer(backends: Backends, catalogue: Catalogue, transport: Transport) -> Withdrawer:
    """Return what sends."""
    return Withdrawer(backends, catalogue, transport=lambda: transport, credentials=lambda _: (), pause=lambda _: None)


def found(backends: Backends) -> dict[str, Withdrawal]:
    """Return every withdrawal by its job."""
    return {each.job: each for each in backends.withdrawals.every()}


def later(backends: Backends, seconds: float) -> None:
    """Let time pass."""
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(backends.clock.now() + timedelta(seconds=seconds))


def test_a_platform_is_told_once_and_its_word_is_kept(backends: Backends, catalogue: Catalogue) -> None:
    """The record says that it knows; nobody tells it twice."""
    (job,) = ask(backends, "alpha")
    transport = Scripted(200)
    sender = withdrawer(backends, catalogue, transport)
    assert [1, 0] == [sender.step(), sender.step()]
    assert (Stage.ACKNOWLEDGED, 1) == (found(backends)[job].stage, found(backends)[job].attempts)
    (call,) = transport.calls
    assert (WITHDRAW, f"withdraw.{job}") == (call.url, call.headers["Idempotency-Key"])
    case = job.partition(".")[0]
    told = {"id": job, "case": case, "number": "+8613800000000", "reference": None, "cause": "number_returned"}
    assert told == orjson.loads(call.body)


def test_a_platform_without_such_a_way_is_left_to_a_person(backends: Backends, catalogue: Catalogue) -> None:
    """It must not be forgotten only because no program can tell it."""
    (job,) = ask(backends, "beta")
    withdrawer(backends, catalogue, Scripted()).step()
    assert Stage.NOT_SUPPORTED is found(backends)[job].stage


def test_a_call_that_failed_is_made_again_with_the_same_key(backends: Backends, catalogue: Catalogue) -> None:
    """A restart over there must not leave a returning owner unbound."""
    (job,) = ask(backends, "alpha")
    transport = Scripted(503, Fault.TIMEOUT, 202)
    sender = withdrawer(backends, catalogue, transport)
    sender.step()
    assert (Stage.SENT, "HTTP 503") == (found(backends)[job].stage, found(backends)[job].detail)
    assert 0 == sender.step()
    later(backends, 5)
    sender.step()
    later(backends, 60)
    sender.step()
    assert (Stage.ACKNOWLEDGED, 3) == (found(backends)[job].stage, found(backends)[job].attempts)
    assert 1 == len({call.headers["Idempotency-Key"] for call in transport.calls})


def test_who_died_with_a_withdrawal_is_replaced(backends: Backends, catalogue: Catalogue) -> None:
    """A worker that took it and was killed has told nobody, or somebody knows it: in both cases it is sent again."""
    (job,) = ask(backends, "alpha")
    now = backends.clock.now()
    (taken,) = backends.withdrawals.take(now=now, until=now + timedelta(seconds=9), at_most=5)
    assert job == taken.job
    sender = withdrawer(backends, catalogue, Scripted(200))
    assert 0 == sender.step()
    later(backends, 9)
    assert 1 == sender.step()
    assert Stage.ACKNOWLEDGED is found(backends)[job].stage


def test_a_paused_platform_is_told_when_it_may_be_called(backends: Backends, catalogue: Catalogue) -> None:
    """A withdrawal is a call like any other: it asks for leave, and waiting spends nothing."""
    (job,) = ask(backends, "alpha")
    backends.gates.pause("alpha", until=None, reason="a change there")
    sender = withdrawer(backends, catalogue, Scripted(200))
    sender.step()
    assert (Stage.REQUESTED, 0) == (found(backends)[job].stage, found(backends)[job].attempts)
    backends.gates.resume("alpha")
    later(backends, 60)
    sender.step()
    assert Stage.ACKNOWLEDGED is found(backends)[job].stage


@pytest.mark.parametrize(
    ("given", "attempts", "stage"),
    [
        (Answer(call=CALL, status=200), 0, Stage.ACKNOWLEDGED),
        (Answer(call=CALL, status=204), 0, Stage.ACKNOWLEDGED),
        (Answer(call=CALL, status=422), 0, Stage.REJECTED),
        (Answer(call=CALL, status=401), 0, Stage.SENT),
        (Answer(call=CALL, status=404), 0, Stage.SENT),
        (Answer(call=CALL, status=302), 0, Stage.SENT),
        (Answer(call=CALL, status=503), 1, Stage.SENT),
        (Answer(call=CALL, status=503), 2, Stage.REJECTED),
        (Answer(call=CALL, fault=Fault.DNS), 0, Stage.SENT),
        (Answer(call=CALL), 0, Stage.SENT),
        (Answer(call=CALL, status=503, headers={"retry-after": "9999999"}), 0, Stage.REJECTED),
    ],
)
def test_what_an_answer_means(catalogue: Catalogue, given: Answer, attempts: int, stage: Stage) -> None:
    """Nothing but a 2xx is an acknowledgement, and nothing is tried for ever."""
    now_ms = int(NOON.timestamp() * 1000)
    asked = Withdrawal(job=JOB, requested_ms=now_ms, changed_ms=now_ms, attempts=attempts)
    judged, again_at, said = judge(catalogue.get("alpha"), asked, given, now=NOON)
    assert stage is judged
    assert (again_at is not None) is (stage is Stage.SENT)
    assert bool(said) is (stage is not Stage.ACKNOWLEDGED)


def test_a_withdrawal_is_signed_like_every_call(tmp_path: Path) -> None:
    """A platform must be able to tell that it is the operator who says so."""
    auth = {"scheme": "bearer", "token": "env:ALPHA"}
    write_platform(tmp_path, "alpha", withdraw=WITHDRAW, auth=auth)
    call = build_withdrawal(
        Catalogue.load(tmp_path).get("alpha"), job=JOB, number="+8613800000000", reference="R-1",
        credentials=("secret",), now=datetime.now(UTC),
    )  # fmt: skip
    assert "Bearer secret" == call.headers["Authorization"]


def test_the_simulator_takes_what_is_sent_and_counts_it_once() -> None:
    """Both sides of the protocol read it the same way."""
    entry = platform("alpha", withdraw="https://alpha.example/v1/withdrawals")
    pretended = simulator(entry)
    sent = build_withdrawal(
        entry, job=JOB, number="+8613800000000", reference=None, credentials=(), now=datetime.now(UTC)
    )
    headers = {name.lower().encode(): value.encode() for name, value in sent.headers.items()}
    for body in (sent.body, sent.body, b"{}"):
        reply = pretended.handle(Pretended(method=b"POST", target=b"/alpha/v1/withdrawals", headers=headers, body=body))
        status, said = answer(reply.payload)
        assert (200, "WITHDRAWN") == (status, said["code"]) if body != b"{}" else status == 422
    platforms: Any = pretended.stats()["platforms"]
    assert 1 == platforms["alpha"]["withdrawals"]
