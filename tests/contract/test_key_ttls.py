"""Whatever a script leaves in Redis has an end, or is declared permanent; and no name in Redis holds a number."""

import inspect
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backends.actions import Action, What
from backends.admission import BulkTerms
from backends.api_keys import Scope
from backends.bootstrap import Backends
from backends.connect import text
from backends.idempotency import Answer
from backends.keys import (
    ADMISSION_TTL_S,
    CALLBACK_TTL_S,
    FORECAST_TTL_S,
    IDEMPOTENCY_TTL_S,
    OWNER_LINK_TTL_S,
    PACE_TTL_S,
    PERMANENT,
    QUOTA_TTL_S,
    RECLAIMED_TTL_S,
    REPLAY_LOCK_TTL_S,
    SEEN_TTL_S,
    SESSION_TTL_S,
    SUBSCRIBER_LEASE_TTL_S,
    TRAIL_TTL_S,
    Keys,
)
from backends.outbox import START, Outbox
from backends.pace import Pace
from backends.replays import Group
from backends.subscribers import Told
from backends.sweeps import Denied, Night
from backends.waiting import Why
from schemas.authorisation import Authorisation, Method
from schemas.batch import Basis, Batch, Job, Lane, seal_context
from schemas.case import Case
from schemas.ids import new_id
from schemas.instrument import Instrument
from schemas.notice import PlatformSuspended
from schemas.outcome import Fault, Hold, Reason, Refusal
from schemas.result import LATENCY_BOUNDS_MS, AttemptData, JobResult, ResultEvent
from schemas.state import State
from tests.fixtures_valkey import NOON

NUMBER = "+8613912345678"
CUTOFF = "2026-11-01T00:00:00+08:00"
TYPES = {
    "String": b"string", "Hash": b"hash", "Set": b"set", "Sorted set": b"zset", "List": b"list", "Stream": b"stream",
}  # fmt: skip


@pytest.fixture
def busy(backends: Backends) -> Backends:
    """Backends after a little of everything has happened once."""
    run, case = new_id(), new_id()
    backends.runs.begin(run, file="numbers.csv", now=NOON)
    accepted = Case(
        id=case, number=NUMBER, token=backends.vault.token(NUMBER), line=2, cutoff_at=CUTOFF,
        basis=Basis.PLANNED_RELEASE, cycle="2026-11-01", reference=f"row of {NUMBER}", platforms=("alpha", "beta"),
        settled=(("gamma", "alpha"),),
    )  # fmt: skip
    backends.store.accept(run, [accepted, replace(accepted, id=new_id(), line=3, reference="")], now=NOON)
    backends.store.mark_queued([case])
    backends.runs.note_intake(run, rejected=1, duplicate=0)
    answers: list[tuple[State, Reason | None]] = [
        (State.UNBOUND, None), (State.REFUSED, Refusal.OTHER), (State.DEAD, Fault.TIMEOUT), (State.ACCEPTED, None),
    ]  # fmt: skip
    for known, platform, answer in [(case, "alpha", a) for a in answers] + [(case, "beta", answers[2])]:
        backends.store.apply(event(run, known, platform, answer=answer))
    backends.store.apply(event(run, new_id(), "alpha", answer=answers[0]))
    answers_that_come_later(backends, run)
    backends.kept.bury_message("{", why="not JSON", queue="bulk", now=NOON)
    backends.admission.ask(
        "alpha", calls=2, calls_per_s=1, in_flight=4, hold_s=1, holder=new_id(), terms=BulkTerms(jobs_per_day=9)
    )
    backends.gates.pause("alpha", until=None, reason="a change there")
    backends.heartbeats.beat("worker", facts={})
    wait(backends, run, case)
    take_into_custody(backends, run, case)
    replay(backends, case)
    sweep(backends, case)
    tell(backends)
    come_in(backends)
    ask(backends, case)
    act = Action(what=What.DEAD_REPLAY, target="alpha", reason=f"for {NUMBER}", before={}, after={})
    backends.actions.append(act)
    return backends


def event(run: str, case: str, platform: str, *, answer: tuple[State, Reason | None]) -> ResultEvent:
    """One result about one job."""
    data = AttemptData(
        batch=new_id(), run=run, platform=platform, attempt=1, started_at=NOON, ended_at=NOON, worker="w", calls=1,
        latencies=(1,) + (0,) * len(LATENCY_BOUNDS_MS),
        jobs=(JobResult(case=case, state=answer[0], reason=answer[1], reference="R"),),
    )  # fmt: skip
    return ResultEvent(id=new_id(), time=NOON, subject=platform, data=data)


def answers_that_come_later(backends: Backends, run: str) -> None:
    """One that is owed, one its owner holds, one that came too late; a callback that was taken, one that was not."""
    owed, held, ended = new_id(), new_id(), new_id()
    cases = [
        Case(
            id=case, number=NUMBER, token=backends.vault.token(NUMBER), line=line, cutoff_at=CUTOFF,
            basis=Basis.PLANNED_RELEASE, cycle=case, reference="", platforms=("alpha",),
        )
        for line, case in enumerate((owed, held, ended), start=4)
    ]  # fmt: skip
    backends.store.accept(run, cases, now=NOON)
    for case, state in ((owed, State.ACCEPTED), (ended, State.EXPIRED), (ended, State.UNBOUND)):
        backends.store.apply(event(run, case, "alpha", answer=(state, None)))
    backends.store.apply(event(run, held, "alpha", answer=(State.ACCEPTED, Hold.USER_ACTION)))
    assert backends.callbacks.begin("alpha", f"for {NUMBER}", b"{}") is None
    backends.callbacks.end("alpha", f"for {NUMBER}", status=202, content={"taken": 1}, taken=1)
    backends.callbacks.refuse("alpha", "signature", items=1, body=NUMBER.encode())


def take_into_custody(backends: Backends, run: str, case: str) -> None:
    """Let a worker begin a batch, and have it sent again."""
    batch = batch_of(backends, run, case, platform="alpha")
    backends.custody.enter([(batch, batch.model_dump_json().encode())], now=NOON)
    assert backends.custody.begin(batch, holder="w", lease_s=1, now=NOON)
    (entry,) = backends.custody.overdue(NOON + timedelta(minutes=1), at_most=5)
    assert backends.custody.redrive(entry, now=NOON, look_s=1)


def replay(backends: Backends, case: str) -> None:
    """Ask for a replay, and die while something of it is out."""
    ident = new_id()
    backends.replays.create(
        ident, jobs=[f"{case}.alpha"], who="somebody", reason="mended", wanted="all", state=State.DEAD, canary=1,
        now=NOON,
    )  # fmt: skip
    assert backends.replays.lock(ident, "t")
    (progress,) = backends.replays.get(ident).platforms
    out = Group(run=new_id(), generation=1, attempts=1, cases=(case,))
    assert backends.replays.write(ident, "t", progress=progress, sent=[out])


def sweep(backends: Backends, case: str) -> None:
    """Begin a night, and let a number of it be taken back."""
    begun = Night(day="2026-11-01", run=new_id(), begun_ms=1)
    assert not isinstance(backends.sweeps.begin("nightly", begun, holder="w", now=NOON), Denied)
    backends.sweeps.keep_forecast("nightly", NOON.date(), b"{}")
    backends.sweeps.tick(NOON)
    backends.withdrawals.note_reclaimed(backends.vault.token(NUMBER), at=NOON)
    backends.withdrawals.watch(case, now=NOON)
    assert 1 == backends.withdrawals.request([f"{case}.alpha"], now=NOON)


def tell(backends: Backends) -> None:
    """Let a platform's suspension be told to one subscriber, who did not want to hear of it."""
    outbox = Outbox(backends.redis, backends.keys, wanted=True)
    assert outbox.announce("gate:alpha", "suspended", PlatformSuspended(platform="alpha", reason="dns"))
    assert backends.subscribers.lease("crm", holder="w")
    posted = outbox.after(START, at_most=9)
    backends.subscribers.give_up("crm", posted, told=Told(problem="HTTP 500"), place=posted[-1].place)


def come_in(backends: Backends) -> None:
    """Make a key, begin a session, and ask for something once."""
    key, _ = backends.api_keys.create("pipeline", Scope.READ, by="somebody", now=NOON)
    backends.sessions.begin(key.id)
    backends.paces.take(Pace(name="key", per_s=1, burst=2), key.id)
    asked = backends.idempotency.begin(caller=key.id, key=NUMBER, request=NUMBER)
    backends.idempotency.finish(asked, Answer(status=200, headers={}, body=b"{}"))


def ask(backends: Backends, case: str) -> None:
    """Let an owner authorise, follow a link and withdraw, and the operator record an instrument."""
    ends = NOON + timedelta(days=1)
    said = Authorisation(
        platforms=("alpha",), notice_version="1", language="zh", method=Method.COUNTER, given_at=NOON, expires_at=ends
    )
    backends.authorisations.record(case, said, by="somebody", now=NOON)
    backends.authorisations.withdraw(case, by="somebody", now=NOON)
    backends.owner_links.make(case, now=NOON)
    made = Instrument(key="notice", title="T", document_number="7", approver="A", valid_from=NOON, valid_until=ends)
    backends.instruments.record(made, by="somebody", now=NOON)


def batch_of(backends: Backends, run: str, case: str, *, platform: str) -> Batch:
    """A batch of one job."""
    return Batch(
        id=new_id(), run=run, platform=platform, deadline=NOON + timedelta(days=1),
        jobs=(Job(case=case, cutoff_at=CUTOFF, basis=Basis.PLANNED_RELEASE),),
        sealed=backends.vault.seal_numbers([NUMBER], context=seal_context([case])),
    )  # fmt: skip


def wait(backends: Backends, run: str, case: str) -> None:
    """Let two batches wait, lease both, and finish none."""
    for platform, lane in (("alpha", Lane.BULK), ("beta", Lane.INTERACTIVE)):
        batch = batch_of(backends, run, case, platform=platform).model_copy(update={"lane": lane})
        backends.waiting.put(batch, due=NOON, why=Why.LIMIT)
    assert 2 == len(backends.waiting.lease(NOON, at_most=5).batches)


def names(backends: Backends) -> list[str]:
    """Return every key of the namespace."""
    return sorted(map(text, backends.redis.scan_iter(match=f"{backends.settings.namespace}*")))


def family(key: str) -> str:
    """Return the family of a key, as `PERMANENT` names it."""
    return key.split(":")[1]


def test_every_key_ends_or_is_declared_permanent(busy: Backends) -> None:
    """A key that nobody thought of would fill the store, a little every night."""
    redis: Any = busy.redis
    endless = [key for key in names(busy) if redis.ttl(key) == -1]
    assert [] == [key for key in endless if family(key) not in PERMANENT]
    assert [] == [key for key in names(busy) if family(key) in PERMANENT and key not in endless]


def test_the_sequence_makes_a_key_of_every_family(busy: Backends) -> None:
    """What is not made here would not be looked at above."""
    assert PERMANENT | {
        "seen",
        "rate",
        "slots",
        "quota",
        "trail",
        "replay-lock",
        "reclaimed",
        "sweep-forecast",
        "session",
        "pace",
        "idempotency",
        "owner-link",
        "owner-links",
        "callback",
        "subscriber-lease",
    } == {family(key) for key in names(busy)}


def test_a_key_is_of_the_type_that_its_file_says(busy: Backends) -> None:
    """Who reads `keys.py` knows which command to use."""
    redis: Any = busy.redis
    documented = {name.replace("_", "-"): (inspect.getdoc(member) or "") for name, member in vars(Keys).items()}
    assert [] == [key for key in names(busy) if redis.type(key) != TYPES[documented[family(key)].partition(":")[0]]]


def test_a_key_ends_when_its_file_says(busy: Backends) -> None:
    """An event is recognised for three days, a trail kept for thirty; an idle limiter is forgotten in ten minutes."""
    redis: Any = busy.redis
    ends = {"seen": SEEN_TTL_S, "rate": ADMISSION_TTL_S, "slots": ADMISSION_TTL_S, "quota": QUOTA_TTL_S,
            "trail": TRAIL_TTL_S,
            "replay-lock": REPLAY_LOCK_TTL_S, "reclaimed": RECLAIMED_TTL_S,
             "sweep-forecast": FORECAST_TTL_S, "session": SESSION_TTL_S, "pace": PACE_TTL_S,
             "idempotency": IDEMPOTENCY_TTL_S, "owner-link": OWNER_LINK_TTL_S,
             "owner-links": OWNER_LINK_TTL_S, "callback": CALLBACK_TTL_S,
             "subscriber-lease": SUBSCRIBER_LEASE_TTL_S}  # fmt: skip
    for key in names(busy):
        if family(key) in ends:
            assert ends[family(key)] == pytest.approx(redis.ttl(key), abs=5)


def test_no_name_and_no_field_holds_a_number(busy: Backends) -> None:
    """Names come up in logs, in slow-command lists and on screens (rule 8)."""
    redis: Any = busy.redis
    found = names(busy)
    for key in names(busy):
        if redis.type(key) == b"hash":
            found += map(text, redis.hkeys(key))
    assert [] == [name for name in found if re.search(r"(?<!\d)1[3-9]\d{9}(?!\d)", name)]
