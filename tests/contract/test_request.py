"""A person's request: exactly the platforms that its owner listed are asked, while that holds (requirement 7)."""

import base64
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from typing_extensions import override

from backends.actions import What
from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.replays import Skip
from backends.withdrawals import Cause, Withdrawal
from ops.request_form import RequestForm
from platforms.catalogue import Catalogue
from producers.authorisation_end import STILL_OURS, AuthorisationEnd
from producers.replay import Replayer
from producers.request import Received, Requests, WrongField
from producers.submit import Submitter
from schemas.batch import Batch, Lane
from schemas.errors import BackendUnavailable, InputError, Refused
from schemas.ids import new_id, split_job_id
from schemas.outcome import Fault, Hold
from schemas.state import FINAL_STATES, State
from tests.command import write_platform
from tests.fixtures_valkey import NOON
from tests.letters import record, record_of
from workers.attempt import Attempt
from workers.transport import Answer, Call, Transport

KEYS = ("alpha", "beta", "gamma", "delta")
ENDS = NOON + timedelta(days=10)


class Recording(Transport):
    """Answers every item UNBOUND, and keeps what it was asked."""

    name = "test"

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    @override
    def send(
        self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0
    ) -> Iterator[Answer]:
        """Yield one answer for each call."""
        for call in calls:
            self.hosts.append(call.url.split("/")[2].partition(".")[0])
            self.bodies.append(orjson.loads(call.body))
            results = [{"id": key, "code": "UNBOUND"} for key in call.keys]
            body = orjson.dumps({"results": results})
            yield Answer(call=call, status=200, headers={"content-type": "application/json"}, body=body)

    @override
    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Four platforms; delta is of gamma's accounts and settled by it."""
    folder = tmp_path / "catalogue"
    for key in KEYS[:3]:
        write_platform(folder, key)
    write_platform(folder, "delta", account_domain="gamma", settled_by="gamma")
    return Catalogue.load(folder)


@pytest.fixture
def ready(backends: Backends) -> Backends:
    """Backends whose queues are there."""
    backends.broker.declare()
    return backends


def form(platforms: Sequence[str] = ("alpha", "beta"), *, number: str = "138 0000 0001", **fields: Any) -> RequestForm:
    """A request that is right, but for what is given."""
    allowed = {"platforms": list(platforms), "notice_version": "2026-11", "language": "zh-CN", "method": "app_login",
               "given_at": NOON - timedelta(minutes=1), "expires_at": ENDS}  # fmt: skip
    said = {"number": number, "cutoff_at": "2026-10-20T10:00:00+08:00", "authorisation": allowed}
    said["authorisation"] = allowed | fields.pop("authorisation", {})
    return RequestForm.model_validate(said | fields)


def take(backends: Backends, catalogue: Catalogue, asked: RequestForm) -> Received:
    """Hand a request in."""
    return Requests(backends, catalogue, who="api:desk").take(asked)


def queued(backends: Backends) -> list[Batch]:
    """Return every batch that waits in a lane, the person's first."""
    found = []
    for lane in Lane:
        for message in backends.redis.lrange(backends.keys.queue(lane.value), 0, -1):
            body = orjson.loads(base64.b64decode(orjson.loads(message)["body"]))
            found.append(Batch.parse(body[0][0]))
    return found


def deliver(backends: Backends, catalogue: Catalogue) -> Recording:
    """Let a worker take everything that is queued. Returns what platforms heard."""
    transport = Recording()
    attempt = Attempt(
        backends, catalogue, transport=transport, credentials=lambda _: (), rng=Random(7), pause=lambda _: None
    )
    for batch in queued(backends):
        attempt.run(batch.model_dump(mode="json"))
    return transport


def move_to(backends: Backends, at: datetime) -> None:
    """Move the clock."""
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(at)


def asked_to_stop(backends: Backends) -> dict[str, Withdrawal]:
    """Return every withdrawal by its platform."""
    return {split_job_id(each.job)[1]: each for each in backends.withdrawals.every()}


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_platform_that_is_not_listed_hears_nothing(ready: Backends, catalogue: Catalogue) -> None:
    """The acceptance test of requirement 7: one platform less in the list, no request to it."""
    take(ready, catalogue, form(["alpha", "gamma"]))
    heard = deliver(ready, catalogue)
    assert ["alpha", "gamma"] == sorted(heard.hosts)
    (item,) = heard.bodies[0]["items"]
    assert {"id", "case", "number", "cutoff_at", "basis"} == set(item)


def test_who_settles_another_is_not_asked_unless_it_is_listed(ready: Backends, catalogue: Catalogue) -> None:
    """That two share their accounts is no leave to ask the one that the owner did not name."""
    received = take(ready, catalogue, form(["delta"]))
    assert (("delta",), {}) == (received.platforms, received.settled)
    assert ["delta"] == deliver(ready, catalogue).hosts


def test_of_two_listed_that_share_accounts_one_is_asked(ready: Backends, catalogue: Catalogue) -> None:
    """Both are authorised; asking both would ask one account twice (requirement 25)."""
    received = take(ready, catalogue, form(["delta", "gamma"]))
    assert (("gamma",), {"delta": "gamma"}) == (received.platforms, received.settled)


def test_a_person_overtakes_bulk_work(ready: Backends, catalogue: Catalogue) -> None:
    """Requirement 6."""
    take(ready, catalogue, form())
    assert {Lane.INTERACTIVE} == {batch.lane for batch in queued(ready)}


def test_the_same_request_again_is_the_same_case(ready: Backends, catalogue: Catalogue) -> None:
    """A client that heard no answer asks again; neither owner nor platforms may notice (requirement 15)."""
    first = take(ready, catalogue, form())
    move_to(ready, NOON + timedelta(days=1))
    second = take(ready, catalogue, form(number="+8613800000001"))
    assert (first.case, False, True) == (second.case, first.known, second.known)
    assert 2 == len(queued(ready))


def test_who_dies_before_the_case_is_queued_is_completed_by_the_same_request(
    ready: Backends, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authorisation and the case are there, the batches are not."""
    with monkeypatch.context() as patch:
        patch.setattr(ready.broker, "publish_batches", _away)
        with pytest.raises(BackendUnavailable):
            take(ready, catalogue, form())
    assert [] == queued(ready)
    take(ready, catalogue, form())
    assert ["alpha", "beta"] == sorted(batch.platform for batch in queued(ready))


def _away(_: object) -> int:
    raise BackendUnavailable("away")


def test_a_full_lane_is_said_and_nothing_is_queued(ready: Backends, catalogue: Catalogue) -> None:
    """A person must not wait at an open connection for a queue to drain."""
    full = ready.settings.model_copy(update={"queue_high_water": 0})
    object.__setattr__(ready, "settings", full)
    with pytest.raises(BackendUnavailable, match="more requests wait"):
        take(ready, catalogue, form())
    assert [] == queued(ready)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_the_same_cycle_with_another_authorisation_is_refused(ready: Backends, catalogue: Catalogue) -> None:
    """Neither may be widened in silence: what the first owner's words allowed is what was sent."""
    take(ready, catalogue, form())
    for other in (form(["alpha", "beta", "gamma"]), form(cutoff_at="2026-10-20T11:00:00+08:00")):
        with pytest.raises(Refused, match="another authorisation or cut-off"):
            take(ready, catalogue, other)
    assert take(ready, catalogue, form(["gamma"], cycle="second")).known is False


def test_a_case_of_a_bulk_run_is_not_taken_over(ready: Backends, catalogue: Catalogue) -> None:
    """It rests on the operator's instrument; the owner's words were not asked for."""
    row = Requests(ready, catalogue, who="api:desk")._row(form(), now=NOON)
    Submitter(ready, catalogue, operator=ready.settings.operator).submit(
        [row], run=new_id(), on_rejected=lambda _: None
    )
    with pytest.raises(Refused, match="opened without an authorisation"):
        take(ready, catalogue, form())
    assert 2 == len(queued(ready))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"number": "12"}, "number"),
        ({"cutoff_at": "yesterday"}, "cutoff_at"),
        ({"cutoff_at": "2026-11-02T00:00:00+08:00"}, "cutoff_at"),
        ({"reference": "of 13800000001"}, "reference"),
        ({"deactivated_on": "3000-01-01"}, "deactivated_on"),
        ({"cycle": "13800000001"}, "cycle"),
        ({"authorisation": {"platforms": ["alpha", "omega"]}}, "authorisation.platforms.1"),
        ({"authorisation": {"given_at": NOON + timedelta(hours=1)}}, "authorisation.given_at"),
        ({"authorisation": {"expires_at": NOON}}, "authorisation.expires_at"),
        (
            {"authorisation": {"given_at": NOON + timedelta(minutes=4), "expires_at": NOON + timedelta(minutes=2)}},
            "authorisation.expires_at",
        ),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not_repeated(
    ready: Backends, catalogue: Catalogue, fields: dict[str, Any], field: str
) -> None:
    """Errors are logged and shown to strangers; nothing may have happened before one."""
    with pytest.raises(WrongField) as found:
        take(ready, catalogue, form(**fields))
    assert field == found.value.field
    assert not any(str(value) in str(found.value) for value in fields.values() if isinstance(value, str))
    assert [] == queued(ready)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "somebody"}, "name: Extra inputs"),
        ({"authorisation": {"id_number": "11010119900101"}}, "authorisation.id_number: Extra inputs"),
        ({"authorisation": {"platforms": []}}, "authorisation.platforms: Tuple should have at least 1"),
        ({"authorisation": {"platforms": ["alpha", "alpha"]}}, "the same platform twice"),
        ({"authorisation": {"notice_version": "13800000001"}}, "must not hold a phone number"),
        ({"authorisation": {"given_at": "2026-10-31T12:00:00"}}, "given_at: Input should have timezone"),
    ],
)
def test_more_than_is_needed_is_refused(change: dict[str, Any], said: str) -> None:
    """No name and no document of a person comes in (requirement 8)."""
    body = form().model_dump(mode="json")
    body["authorisation"] |= change.pop("authorisation", {})
    with pytest.raises(InputError) as found:
        RequestForm.parse(orjson.dumps(body | change))
    assert said in str(found.value)
    assert "13800000001" not in str(found.value)


# -- the end of an authorisation ---------------------------------------------------------------------------------------


def test_withdrawal_stops_what_is_unsent(ready: Backends, catalogue: Catalogue) -> None:
    """The batches are on the queue already; a worker that takes them finds nothing left to do."""
    received = take(ready, catalogue, form())
    stopped = AuthorisationEnd(ready, who="api:desk").withdraw(received.case, reason="changed their mind")
    assert (2, 0) == (stopped.cancelled, stopped.withdrawals)
    assert [] == deliver(ready, catalogue).hosts
    found = record_of(ready, received.case, "alpha")
    assert (State.CANCELLED, Hold.WITHDRAWN) == (found.state, found.reason)


def test_withdrawal_is_visible(ready: Backends, catalogue: Catalogue) -> None:
    """With the case, beside its jobs, and in the log of what people did; once, however often it is said."""
    case = take(ready, catalogue, form()).case
    for _ in range(2):
        AuthorisationEnd(ready, who="api:desk").withdraw(case, reason="changed their mind")
    given = ready.authorisations.of(case)
    assert given is not None
    assert ("api:desk", NOON, "api:desk") == (given.withdrawn_by, given.withdrawn_at, given.recorded_by)
    (action,) = ready.actions.list(what=What.AUTHORISATION_WITHDRAW)
    assert (case, "changed their mind", {"verdict": "INCOMPLETE", "open_jobs": 2}) == (
        action.action.target, action.action.reason, action.action.before,
    )  # fmt: skip
    with pytest.raises(Refused, match="authorisation was withdrawn"):
        take(ready, catalogue, form())


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUEUED, State.CANCELLED}))
def test_a_platform_is_told_to_stop_only_what_it_may_still_do(
    ready: Backends, catalogue: Catalogue, state: State
) -> None:
    """What it has done was done with leave, and stays; of what it holds it is told, and its answer still counts."""
    case = take(ready, catalogue, form(["alpha"])).case
    record(ready, "alpha", [case], state=state, reason=Fault.TIMEOUT if state in {State.WAITING, State.DEAD} else None)
    AuthorisationEnd(ready, who="api:desk").withdraw(case, reason="changed their mind")
    told = state not in FINAL_STATES
    assert ({"alpha": Cause.AUTHORISATION_WITHDRAWN} if told else {}) == {
        platform: each.cause for platform, each in asked_to_stop(ready).items()
    }
    left = state if state in FINAL_STATES | {State.ACCEPTED} else State.CANCELLED
    assert left is record_of(ready, case, "alpha").state


def test_a_call_that_was_under_way_is_withdrawn_when_it_is_heard_of(ready: Backends, catalogue: Catalogue) -> None:
    """Its answer comes after the withdrawal; the scheduler looks for it for a week, and then no more."""
    case = take(ready, catalogue, form()).case
    end = AuthorisationEnd(ready, who="scheduler")
    end.withdraw(case, reason="changed their mind")
    record(ready, "alpha", [case], state=State.ACCEPTED)
    assert [1, 0] == [end.step().withdrawals, end.step().withdrawals]
    move_to(ready, NOON + timedelta(days=8))
    record(ready, "beta", [case], state=State.ACCEPTED)
    assert 0 == end.step().withdrawals


def test_who_dies_after_the_withdrawal_is_noted_is_completed(ready: Backends, catalogue: Catalogue) -> None:
    """It is written down before anything is stopped."""
    case = take(ready, catalogue, form()).case
    ready.authorisations.withdraw(case, by="owner", now=NOON)
    assert 2 == AuthorisationEnd(ready, who="scheduler").step().cancelled


def test_a_case_without_an_authorisation_cannot_be_withdrawn(ready: Backends, catalogue: Catalogue) -> None:
    """It rests on something else, and ends by something else."""
    row = Requests(ready, catalogue, who="api:desk")._row(form(), now=NOON)
    Submitter(ready, catalogue, operator=ready.settings.operator).submit(
        [row], run=new_id(), on_rejected=lambda _: None
    )
    (case,) = ready.store.find_by_number("+8613800000001")
    with pytest.raises(Refused, match="does not rest on an authorisation"):
        AuthorisationEnd(ready, who="api:desk").withdraw(case, reason="changed their mind")


def test_what_is_unsent_when_the_authorisation_runs_out_is_cancelled(ready: Backends, catalogue: Catalogue) -> None:
    """Not a moment before; what a platform has, it has, and is not told anything."""
    case = take(ready, catalogue, form(["alpha", "beta", "gamma"])).case
    record(ready, "beta", [case], state=State.ACCEPTED)
    record(ready, "gamma", [case], state=State.PENDING_REVIEW)
    ends = [AuthorisationEnd(ready, who=f"scheduler {place}") for place in range(2)]
    move_to(ready, ENDS)
    assert [0, 0] == [end.step().cancelled for end in ends]
    move_to(ready, ENDS + timedelta(milliseconds=1))
    assert [2, 0] == [end.step().cancelled for end in ends]
    states = {key: record_of(ready, case, key).state for key in ("alpha", "beta", "gamma")}
    assert {"alpha": State.CANCELLED, "beta": State.ACCEPTED, "gamma": State.CANCELLED} == states
    assert Hold.EXPIRED_AUTHORISATION is record_of(ready, case, "alpha").reason
    assert {} == asked_to_stop(ready)


def test_every_open_state_but_one_is_ours_to_stop() -> None:
    """A state that is added must be thought of here."""
    assert frozenset(State) - FINAL_STATES - {State.ACCEPTED} == STILL_OURS


def test_nothing_is_replayed_without_a_valid_authorisation(ready: Backends, catalogue: Catalogue) -> None:
    """An answer that a person has to read came after the end; asking again would be a new request."""
    case = take(ready, catalogue, form(["alpha"])).case
    record(ready, "alpha", [case], state=State.ACCEPTED)
    move_to(ready, ENDS + timedelta(hours=1))
    AuthorisationEnd(ready, who="scheduler").step()
    record(ready, "alpha", [case], state=State.PENDING_REVIEW, at=ENDS)
    ident = new_id()
    ready.replays.create(
        ident, jobs=[f"{case}.alpha"], who="somebody", reason="again", wanted="all", state=State.PENDING_REVIEW,
        canary=1, now=ready.clock.now(),
    )  # fmt: skip
    Replayer(ready, catalogue).step()
    (progress,) = ready.replays.get(ident).platforms
    assert {Skip.NOT_AUTHORISED: 1} == progress.skipped
    assert State.PENDING_REVIEW is record_of(ready, case, "alpha").state
