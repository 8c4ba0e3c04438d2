"""Callbacks: whatever comes in whatever order, the store ends as the model says, and what is refused is seen."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.kept import Kind
from ops.alerts import alerts
from ops.callback_desk import BODY_BYTES_MAX, CallbackDesk, Reply
from ops.snapshot import take
from platforms.catalogue import Catalogue
from schemas.ids import job_id, new_id
from schemas.outcome import Hold, Reason, Refusal
from schemas.record import JobRecord, contradicts, is_late, merge
from schemas.state import STATES, State
from tests.answers import OLD_SECRET, SECRET, STRANGERS, catalogue_of, desk_of, results, signed
from tests.fixtures_valkey import NOON, ONE_NAMESPACE, stored
from tests.letters import accept, record, record_of
from workers.deadline import passed

MEANS: dict[str, tuple[State, Reason | None]] = {
    "OK": (State.UNBOUND, None),
    "NONE": (State.NO_BINDING, None),
    "HELD": (State.REFUSED, Refusal.FUNDS_OR_DEBT),
    "LOOK": (State.PENDING_REVIEW, None),
    "TAKEN": (State.ACCEPTED, None),
    "NEVER_HEARD_OF": (State.PENDING_REVIEW, Hold.UNKNOWN_CODE),
}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Alpha calls back, beta and gamma do not."""
    return catalogue_of(tmp_path_factory.mktemp("catalogue"))


@pytest.fixture
def desk(backends: Backends, catalogue: Catalogue) -> CallbackDesk:
    """The desk of these platforms."""
    return desk_of(backends, catalogue)


def call(desk: CallbackDesk, backends: Backends, *items: dict[str, Any], **how: Any) -> Reply:
    """Let alpha call back about these items."""
    body = results(*items)
    return desk.take("alpha", signed(body, at=backends.clock.now(), **how), body)


def accepted(backends: Backends, *, count: int = 1) -> list[str]:
    """Let alpha have accepted jobs of new cases."""
    cases = accept(backends, ["alpha", "beta"], count=count)
    record(backends, "alpha", cases, state=State.ACCEPTED)
    return cases


def refused(backends: Backends) -> list[tuple[str, str, int]]:
    """Everything that was refused: platform, why, items."""
    return [(each.platform, each.why, each.items) for each in backends.callbacks.newest(at_most=10**6)]


# -- one callback ------------------------------------------------------------------------------------------------------


def test_a_callback_ends_jobs_that_were_accepted(backends: Backends, desk: CallbackDesk) -> None:
    """202, then the answer: it counts no attempt and no call, and nothing is owed any more."""
    one, two = accepted(backends, count=2)
    before = backends.runs.platform_counters(["alpha"])["alpha"]
    reply = call(
        desk, backends, {"id": job_id(one, "alpha"), "code": "OK", "reference": "R-1"},
        {"id": job_id(two, "alpha"), "code": "NO", "reason": "legal_hold"},
    )  # fmt: skip
    assert (202, {"taken": 2}) == (reply.status, reply.content)
    found = [record_of(backends, case, "alpha") for case in (one, two)]
    assert [(State.UNBOUND, None, 1), (State.REFUSED, Refusal.LEGAL_HOLD, 1)] == [
        (each.state, each.reason, each.attempts) for each in found
    ]
    assert "R-1" == backends.store.details(one)["alpha"]["reference"]
    after = backends.runs.platform_counters(["alpha"])["alpha"]
    assert (before.get("attempts"), before.get("calls")) == (after.get("attempts"), after.get("calls"))
    assert (0, 2) == (backends.expected.count("alpha"), after.get("callback_taken"))
    assert "callback" == backends.dead.trail(job_id(one, "alpha"))[-1].worker


def test_one_result_alone_needs_no_list(backends: Backends, desk: CallbackDesk) -> None:
    """The smallest callback that there is."""
    (case,) = accepted(backends)
    body = orjson.dumps({"id": job_id(case, "alpha"), "code": "NONE"})
    assert 202 == desk.take("alpha", signed(body, at=NOON), body).status
    assert State.NO_BINDING is record_of(backends, case, "alpha").state


@pytest.mark.parametrize("secrets", [(SECRET,), (OLD_SECRET,), (STRANGERS, OLD_SECRET), (STRANGERS, SECRET)])
def test_either_key_is_good_while_one_is_rotated(backends: Backends, desk: CallbackDesk, secrets: tuple[str]) -> None:
    """No callback fails in between."""
    (case,) = accepted(backends)
    assert 202 == call(desk, backends, {"id": job_id(case, "alpha"), "code": "OK"}, secrets=secrets).status


Forge = Callable[[bytes, dict[str, str]], tuple[bytes, dict[str, str]]]
FORGERIES: dict[str, Forge] = {
    "no signature": lambda body, headers: (body, {}),
    "another key": lambda body, headers: (body, dict(signed(body, at=NOON, secrets=(STRANGERS,)))),
    "written again": lambda body, headers: (orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2), headers),
    "another id": lambda body, headers: (body, headers | {"webhook-id": "msg_other"}),
    "another time": lambda body, headers: (body, headers | {"webhook-timestamp": str(int(NOON.timestamp()) + 1)}),
    "too old": lambda body, headers: (body, dict(signed(body, at=NOON - timedelta(seconds=301)))),
    "too new": lambda body, headers: (body, dict(signed(body, at=NOON + timedelta(seconds=301)))),
    "garbage": lambda body, headers: (body, headers | {"webhook-signature": "v1,é v1a, v1"}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_callback_changes_nothing_and_is_visible(backends: Backends, desk: CallbackDesk, forgery: str) -> None:
    """401, not one byte of the store is another but what says that it was refused, and nothing of its body is kept."""
    (case,) = accepted(backends)
    body = results({"id": job_id(case, "alpha"), "code": "OK"})
    before = stored(backends)
    forged, headers = FORGERIES[forgery](body, dict(signed(body, at=NOON)))
    assert 401 == desk.take("alpha", headers, forged).status
    assert [("alpha", "signature", 1)] == refused(backends)
    changed = {key for key, value in stored(backends).items() if before.get(key) != value}
    assert changed == {backends.keys.callbacks_refused, backends.keys.platform("alpha")}
    assert 1 == backends.runs.platform_counters(["alpha"])["alpha"].get("callback_refused:signature")
    redis: Any = backends.redis
    assert case not in str(redis.xrange(backends.keys.callbacks_refused))


@pytest.mark.parametrize("platform", ["beta", "gamma", "nobody", "alpha/../beta", ""])
def test_nobody_learns_which_platforms_there_are(backends: Backends, desk: CallbackDesk, platform: str) -> None:
    """One that does not call back and one that is not there are answered the same, however well it is signed."""
    body = results({"id": job_id(new_id(), "alpha"), "code": "OK"})
    reply = desk.take(platform, signed(body, at=NOON), body)
    assert (404, {"detail": "no platform of this name calls back here"}) == (reply.status, reply.content)
    assert [("", "no_channel", 1)] == refused(backends)


def test_the_same_callback_again_gets_the_same_answer_and_no_second_effect(
    backends: Backends, desk: CallbackDesk
) -> None:
    """A platform that did not hear our answer sends it again."""
    (case,) = accepted(backends)
    body = results({"id": job_id(case, "alpha"), "code": "OK"}, {"id": job_id(new_id(), "alpha"), "code": "OK"})
    headers = signed(body, at=NOON)
    first = desk.take("alpha", headers, body)
    before = stored(backends)
    assert (422, 1) == (first.status, first.content["taken"])
    assert first == desk.take("alpha", headers, body)
    assert before == stored(backends)


def test_an_id_that_was_used_for_another_callback_is_refused(backends: Backends, desk: CallbackDesk) -> None:
    """Signed or not, an id names one message."""
    one, two = accepted(backends, count=2)
    call(desk, backends, {"id": job_id(one, "alpha"), "code": "OK"}, message="msg_1")
    assert 409 == call(desk, backends, {"id": job_id(two, "alpha"), "code": "OK"}, message="msg_1").status
    assert State.ACCEPTED is record_of(backends, two, "alpha").state
    assert [("alpha", "replayed", 1)] == refused(backends)


def test_a_callback_whose_answer_was_never_given_is_taken_again(backends: Backends, catalogue: Catalogue) -> None:
    """The broker was away: the platform sends the same again, and only then it has an effect."""

    def away(event: object) -> None:
        raise ConnectionError

    (case,) = accepted(backends)
    body = results({"id": job_id(case, "alpha"), "code": "OK"})
    headers = signed(body, at=NOON)
    with pytest.raises(ConnectionError):
        CallbackDesk(backends, catalogue, keys={"alpha": (SECRET,)}, publish=away).take("alpha", headers, body)
    assert State.ACCEPTED is record_of(backends, case, "alpha").state
    assert 202 == desk_of(backends, catalogue).take("alpha", headers, body).status
    assert State.UNBOUND is record_of(backends, case, "alpha").state


GOOD = {"code": "OK"}


@pytest.mark.parametrize(
    ("item", "field", "why"),
    [
        ("text", "results.1", "item"),
        ({}, "results.1.code", "item"),
        ({"code": "OK"}, "results.1.id", "item"),
        ({"id": 5, "code": "OK"}, "results.1.id", "item"),
        ({"id": "JOB", "code": ""}, "results.1.code", "item"),
        ({"id": "JOB", "code": "x" * 65}, "results.1.code", "item"),
        ({"id": "JOB", "code": "OK", "reference": 7}, "results.1.reference", "item"),
        ({"id": "JOB", "code": "OK", "number": "13800138000"}, "results.1", "item"),
        ({"id": "JOB", "code": "TAKEN", "next": "operator"}, "results.1.next", "item"),
        ({"id": "JOB", "code": "NO"}, "results.1.reason", "no_reason"),
        ({"id": "JOB", "code": "NO", "reason": "because"}, "results.1.reason", "no_reason"),
        ({"id": "BETA", "code": "OK"}, "results.1.id", "foreign"),
        ({"id": job_id(new_id(), "alpha"), "code": "OK"}, "results.1.id", "foreign"),
        ({"id": job_id(new_id(), "beta"), "code": "OK"}, "results.1.id", "foreign"),
    ],
)
def test_a_wrong_item_is_named_and_the_others_go_on(
    backends: Backends, desk: CallbackDesk, item: Any, field: str, why: str
) -> None:
    """The field, what was expected, and no value: neither of ours nor of theirs (rule 10)."""
    good, bad = accepted(backends, count=2)
    names = {"JOB": job_id(bad, "alpha"), "BETA": job_id(bad, "beta")}
    if isinstance(item, dict) and item.get("id") in names:
        item = item | {"id": names[item["id"]]}
    reply = call(desk, backends, {"id": job_id(good, "alpha"), "code": "OK"}, item)
    assert (422, 1, [field]) == (reply.status, reply.content["taken"], [e["field"] for e in reply.content["errors"]])
    assert [("alpha", why, 1)] == refused(backends)
    states = [record_of(backends, case, "alpha").state for case in (good, bad)]
    assert [State.UNBOUND, State.ACCEPTED] == states
    said = str(reply.content)
    assert "13800138000" not in said
    assert bad not in said


def test_a_platform_that_waits_for_the_owner_says_so(backends: Backends, desk: CallbackDesk) -> None:
    """Its time stands still: the job is no longer among those that end at a deadline."""
    (case,) = accepted(backends)
    assert 202 == call(desk, backends, {"id": job_id(case, "alpha"), "code": "TAKEN", "next": "user"}).status
    assert Hold.USER_ACTION is record_of(backends, case, "alpha").reason
    assert [] == backends.expected.sent_until("alpha", NOON + timedelta(days=30), at_most=9)


def test_two_different_answers_for_one_id_are_no_answer(backends: Backends, desk: CallbackDesk) -> None:
    """Nobody guesses which of them is true; the same answer twice is one."""
    one, two = accepted(backends, count=2)
    items = [{"id": job_id(one, "alpha"), "code": code} for code in ("OK", "NONE")]
    items += [{"id": job_id(two, "alpha"), "code": "OK"}] * 2
    reply = call(desk, backends, *items)
    assert (422, 1) == (reply.status, reply.content["taken"])
    assert [("alpha", "contradictory", 1)] == refused(backends)
    assert [State.ACCEPTED, State.UNBOUND] == [record_of(backends, case, "alpha").state for case in (one, two)]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b'{"results": {}}', b'{"results": []}', b'{"results": [1], "x": 1}', b"\xff",
             results(*[{}] * 1001)], ids=range(9)
)  # fmt: skip
def test_what_is_no_callback_is_refused_whole(backends: Backends, desk: CallbackDesk, body: bytes) -> None:
    """422, and it is seen."""
    assert 422 == desk.take("alpha", signed(body, at=NOON), body).status
    assert [("alpha", "unreadable", 1)] == refused(backends)


def test_a_body_that_is_too_large_is_refused(backends: Backends, desk: CallbackDesk) -> None:
    """Before anything is computed over it."""
    assert 413 == desk.take("alpha", {}, b" " * (BODY_BYTES_MAX + 1)).status
    assert [("alpha", "too_large", 1)] == refused(backends)


def test_a_review_of_an_older_generation_does_not_move_a_replayed_job(backends: Backends, desk: CallbackDesk) -> None:
    """What was known when the callback came decides; a final answer wins all the same."""
    (case,) = accepted(backends)
    call(desk, backends, {"id": job_id(case, "alpha"), "code": "LOOK"})
    late = replace(record_of(backends, case, "alpha"), generation=0)
    assert (State.PENDING_REVIEW, 0) == (late.state, late.generation)
    record(backends, "alpha", [case], state=State.WAITING, attempt=2, generation=1)
    call(desk, backends, {"id": job_id(case, "alpha"), "code": "LOOK"})
    assert (State.PENDING_REVIEW, 1) == (
        record_of(backends, case, "alpha").state, record_of(backends, case, "alpha").generation
    )  # fmt: skip


def test_what_was_refused_is_shown_and_told(backends: Backends, catalogue: Catalogue, desk: CallbackDesk) -> None:
    """The list names the platform, the alert does too; who looks at one platform sees only its own."""
    (case,) = accepted(backends)
    item = {"id": job_id(case, "alpha"), "code": "OK"}
    for _ in range(3):
        call(desk, backends, item, secrets=(STRANGERS,))
    desk.take("nobody", {}, b"")
    told = {a.subject: a.text for a in alerts(take(backends, catalogue, taken_s=0.0)) if a.code == "callbacks_refused"}
    assert {"alpha", ""} == set(told)
    assert told["alpha"].startswith("3 callbacks")
    assert 3 == len(backends.callbacks.newest(at_most=9, platform="alpha"))
    assert 2 == len(backends.callbacks.newest(at_most=2))


# -- many of them ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Model:
    """What a fold of `merge` over all that counts makes of some jobs."""

    records: dict[str, JobRecord]
    disputes: int = 0
    late: int = 0
    refused: list[tuple[str, str, int]] = field(default_factory=list)

    def hear(self, case: str, change: JobRecord) -> None:
        """Fold one change in."""
        known = self.records[case]
        same = (known.state, known.reason) == (change.state, change.reason)
        self.disputes += contradicts(known.state, change.state, same=same)
        self.late += is_late(known.state, change.state)
        self.records[case] = merge(known, change)


Step = tuple[str, int, str]
KINDS = ("call", "accept", "retry", "forge", "again", "again_other", "rewrite", "foreign", "unknown", "deadline")
# What moves jobs comes often, and to few of them, so that much happens to each.
OFTEN = (*KINDS, "call", "call", "call", "accept", "deadline")
STEPS = st.lists(
    st.tuples(st.sampled_from(OFTEN), st.integers(0, 1), st.sampled_from(sorted(MEANS))), min_size=1, max_size=20
)
LATE: list[Step] = [("accept", 0, "OK"), ("deadline", 0, "OK"), ("call", 0, "OK"), ("again", 0, "OK")]
EARLY: list[Step] = [("call", 0, "OK"), ("accept", 0, "OK"), ("deadline", 0, "OK"), ("call", 0, "NONE")]


class Stream:
    """Plays steps against the desk and the model, and holds both against each other."""

    def __init__(self, backends: Backends, catalogue: Catalogue) -> None:
        self._backends, self._desk = backends, desk_of(backends, catalogue)
        self._catalogue = catalogue
        self.cases = accept(backends, ["alpha", "beta"], count=2, run=new_id())
        self.model = Model(records=dict.fromkeys(self.cases, JobRecord()))
        self._before = {kind: backends.kept.count(kind) for kind in (Kind.DISPUTES, Kind.LATE)}
        self._refused = len(refused(backends))
        self._seconds = 0
        self._sent: list[tuple[dict[str, str], bytes]] = []

    def play(self, step: Step) -> None:
        """Let one thing happen."""
        kind, number, code = step
        self._seconds += 1
        clock = self._backends.clock
        assert isinstance(clock, ManualClock)
        clock.set(NOON + timedelta(seconds=self._seconds))
        getattr(self, f"_{kind}")(self.cases[number], code)

    def _call(self, case: str, code: str) -> None:
        body = results({"id": job_id(case, "alpha"), "code": code})
        headers = dict(signed(body, at=self._backends.clock.now()))
        known, (state, reason) = self.model.records[case], MEANS[code]
        now_s = int(self._backends.clock.now().timestamp())
        settled_s = 0 if state is State.ACCEPTED else now_s
        assert 202 == self._desk.take("alpha", headers, body).status
        self._sent.append((headers, body))
        change = JobRecord(
            state=state, reason=reason, attempts=known.attempts, generation=known.generation, settled_s=settled_s
        )
        self.model.hear(case, change)

    def _accept(self, case: str, code: str) -> None:
        self._attempt(case, State.ACCEPTED)

    def _retry(self, case: str, code: str) -> None:
        self._attempt(case, State.WAITING)

    def _attempt(self, case: str, state: State) -> None:
        at, attempt = self._backends.clock.now(), self.model.records[case].attempts + 1
        record(self._backends, "alpha", [case], state=state, attempt=attempt, at=at)
        self.model.hear(case, JobRecord(state=state, attempts=attempt, first_sent_s=int(at.timestamp())))

    def _deadline(self, case: str, code: str) -> None:
        now = self._backends.clock.now()
        event = passed(self._catalogue.get("alpha"), [case], now=now)
        self._backends.store.decide(event, only_from=frozenset({State.ACCEPTED}))
        if self.model.records[case].state is State.ACCEPTED:
            end = JobRecord(state=State.EXPIRED, reason=Hold.DEADLINE, settled_s=int(now.timestamp()))
            self.model.hear(case, end)

    def _forge(self, case: str, code: str) -> None:
        body = results({"id": job_id(case, "alpha"), "code": code})
        headers = signed(body, at=self._backends.clock.now(), secrets=(STRANGERS,))
        self._is_refused(headers, body, status=401, why="signature")

    def _again(self, case: str, code: str) -> None:
        for headers, body in self._sent[-1:]:
            assert 202 == self._desk.take("alpha", headers, body).status

    def _again_other(self, case: str, code: str) -> None:
        for headers, _ in self._sent[-1:]:
            body = results({"id": job_id(case, "alpha"), "code": code, "reference": "another"})
            at, message = self._backends.clock.now(), headers["webhook-id"]
            self._is_refused(signed(body, at=at, message=message), body, status=409, why="replayed")

    def _rewrite(self, case: str, code: str) -> None:
        for headers, body in self._sent[-1:]:
            self._is_refused(headers, body + b" ", status=401, why="signature")

    def _foreign(self, case: str, code: str) -> None:
        body = results({"id": job_id(case, "beta"), "code": code})
        self._is_refused(signed(body, at=self._backends.clock.now()), body, status=422, why="foreign")

    def _unknown(self, case: str, code: str) -> None:
        body = results({"id": job_id(new_id(), "alpha"), "code": code})
        self._is_refused(signed(body, at=self._backends.clock.now()), body, status=422, why="foreign")

    def _is_refused(self, headers: Any, body: bytes, *, status: int, why: str) -> None:
        assert status == self._desk.take("alpha", headers, body).status
        self.model.refused.append(("alpha", why, 1))

    def check(self) -> None:
        """Everything is as the model says."""
        found = {case: record_of(self._backends, case, "alpha") for case in self.cases}
        assert self.model.records == found
        grown = {kind: self._backends.kept.count(kind) - n for kind, n in self._before.items()}
        assert {Kind.DISPUTES: self.model.disputes, Kind.LATE: self.model.late} == grown
        assert self.model.refused == refused(self._backends)[self._refused :]
        owed = {case for case, known in found.items() if known.state is State.ACCEPTED}
        jobs = self._backends.expected.sent_until("alpha", NOON + timedelta(days=9), at_most=1000)
        assert owed == {job.partition(".")[0] for job in jobs} & set(self.cases)
        assert all(STATES[known.state].final or not known.disputed for known in found.values())


@settings(ONE_NAMESPACE, max_examples=60)
@given(steps=STEPS)
@example(steps=LATE)
@example(steps=EARLY)
def test_any_stream_of_callbacks_leaves_the_state_of_the_model(
    backends: Backends, catalogue: Catalogue, steps: list[Step]
) -> None:
    """Valid ones, forged, replayed, rewritten, foreign, late and contradicting, beside attempts, in any order."""
    clock = backends.clock
    assert isinstance(clock, ManualClock)
    clock.set(NOON)
    stream = Stream(backends, catalogue)
    for step in steps:
        stream.play(step)
    stream.check()
