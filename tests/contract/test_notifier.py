"""Subscribers are told in order, at least once, each for itself; who does not listen is told again, not for ever."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from standardwebhooks.webhooks import Webhook as Oracle
from typing_extensions import override

from backends.bootstrap import Backends, open_backends
from backends.clock import ManualClock
from backends.embedded import EmbeddedValkey
from backends.kept import Kind
from backends.outbox import START
from ops.subscriber_desk import SubscriberDesk
from schemas.errors import ConfigurationError, NotFound
from schemas.notice import Notice, NoticeType, PlatformResumed, PlatformSuspended
from schemas.outcome import Fault
from tests.fixtures_valkey import settings_of
from workers.notifier import DELAYS_S, KEEP, REFUSALS_MAX, Notifier, channels
from workers.subscriptions import Subscriptions
from workers.transport import Answer, Call, Transport

SECRET = "whsec_czNjcmV0LXMzY3JldC1zM2NyZXQ="


class Recording(Transport):
    """Keeps every call and answers by URL: a status, a fault, or 204."""

    name = "recording"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, int | Fault] = {}
        self.headers: dict[str, str] = {}

    @override
    def send(
        self, calls: Sequence[Call], *, in_flight: int, deadline_s: float, interval_s: float = 0.0
    ) -> Iterator[Answer]:
        """Answer each call as it was told."""
        for call in calls:
            self.calls.append(call)
            said = self.answers.get(call.url, 204)
            if isinstance(said, Fault):
                yield Answer(call=call, fault=said)
            else:
                yield Answer(call=call, status=said, headers=self.headers)

    @override
    def close(self) -> None:
        """Nothing is open."""

    def told(self, name: str) -> list[Notice]:
        """Return what one subscriber was told."""
        return [Notice.parse(call.body) for call in self.calls if call.url == url(name)]


def url(name: str) -> str:
    """Return where a subscriber listens."""
    return f"https://{name}.example/renewal"


def hook(name: str, **fields: object) -> dict[str, object]:
    """Return one entry of the file."""
    return {"name": name, "url": url(name), "secret": "file:secret", **fields}


@pytest.fixture
def clock() -> ManualClock:
    """A clock that begins with that of the server, which dates the notices."""
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def telling(valkey: EmbeddedValkey, tmp_path: Path, clock: ManualClock) -> Iterator[Backends]:
    """Backends of an operator with two subscribers, the second of which wants to hear of suspensions only."""
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    path = tmp_path / "subscribers.yaml"
    hooks = [hook("crm"), hook("desk", types=["renewal.platform_suspended.v1"])]
    path.write_text(yaml.safe_dump({"webhooks": hooks}), encoding="utf-8")
    opened = open_backends(settings_of(valkey, tmp_path).model_copy(update={"subscribers": path}), clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def wire() -> Recording:
    """A transport that records."""
    return Recording()


@pytest.fixture
def notifiers(telling: Backends, wire: Recording) -> dict[str, Notifier]:
    """One for each subscriber."""
    subscriptions = Subscriptions.load(telling.settings.subscribers)
    return {channel.name: Notifier(telling, channel) for channel in channels(subscriptions, telling, wire)}


def happen(backends: Backends, count: int = 1, *, first: int = 0) -> None:
    """Let a platform be suspended and resumed so often."""
    for index in range(first, first + count):
        suspended = PlatformSuspended(platform="alpha", reason=f"reason {index}")
        assert backends.outbox.announce("gate:alpha", f"s{index}", suspended)
        assert backends.outbox.announce("gate:alpha", "", PlatformResumed(platform="alpha"))


def test_each_is_told_what_it_asked_for_in_order_and_once(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording
) -> None:
    """A resumption that comes before its suspension would leave a desk in the dark."""
    happen(telling, 3)
    for _ in range(2):
        for notifier in notifiers.values():
            notifier.step()
    kinds = [NoticeType.PLATFORM_SUSPENDED, NoticeType.PLATFORM_RESUMED]
    assert kinds * 3 == [notice.type for notice in wire.told("crm")]
    assert kinds[:1] * 3 == [notice.type for notice in wire.told("desk")]
    assert 6 == len({notice.id for notice in wire.told("crm")})
    assert (6, 3) == tuple(telling.subscribers.told(name).delivered for name in ("crm", "desk"))
    telling.subscribers.forget_what_all_have(["crm", "desk"], telling.outbox)
    assert 0 == telling.outbox.count()


def test_a_call_is_signed_as_the_specification_s_own_library_checks_it(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording
) -> None:
    """A receiver that is written with that library must understand us."""
    happen(telling)
    notifiers["crm"].step()
    call = wire.calls[0]
    assert orjson.loads(call.body) == Oracle(SECRET.removeprefix("whsec_")).verify(call.body.decode(), call.headers)
    assert "application/cloudevents+json" == call.headers["Content-Type"]
    assert Notice.parse(call.body).id == call.headers["webhook-id"]


def test_who_is_dead_holds_up_nobody_else(telling: Backends, notifiers: dict[str, Notifier], wire: Recording) -> None:
    """One dead system must not make the others blind."""
    wire.answers[url("crm")] = Fault.TIMEOUT
    happen(telling, 2)
    for notifier in notifiers.values():
        assert not notifier.step()
    assert (1, 2) == (len(wire.told("crm")), len(wire.told("desk")))
    telling.subscribers.forget_what_all_have(["crm", "desk"], telling.outbox)
    assert 4 == telling.outbox.count()


def test_what_failed_is_told_again_later_under_its_id(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, clock: ManualClock
) -> None:
    """After 5 s, 30 s, and so on to a day; the time stamp is that of each try."""
    wire.answers[url("crm")] = 500
    happen(telling)
    for count, delay_s in enumerate([*DELAYS_S, DELAYS_S[-1]][:6], start=1):
        notifiers["crm"].step()
        assert count == len(wire.calls)
        clock.set(clock.now() + timedelta(seconds=delay_s - 1))
        notifiers["crm"].step()
        assert count == len(wire.calls)
        clock.set(clock.now() + timedelta(seconds=1))
    wire.answers.clear()
    notifiers["crm"].step()
    first, *again = [notice.id for notice in wire.told("crm")]
    assert [first] * 6 == again[:6]
    assert len(wire.calls) - 1 == len({call.headers["webhook-timestamp"] for call in wire.calls})
    told = telling.subscribers.told("crm")
    assert (0, 0, "", 2) == (told.failures, told.failing_ms, told.problem, told.delivered)


def test_a_retry_after_is_kept_but_no_longer_than_a_day(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, clock: ManualClock
) -> None:
    """Who asks for a moment is given it; who asks for a year is not."""
    wire.answers[url("crm")] = 503
    happen(telling)
    for asked, expected_s in (("90", 90), ("99999999", 86_400)):
        wire.headers = {"retry-after": asked}
        notifiers["crm"].step()
        again_ms = telling.subscribers.told("crm").again_ms
        assert expected_s == pytest.approx(again_ms / 1000 - clock.now().timestamp(), abs=1)
        clock.set(clock.now() + timedelta(seconds=expected_s))


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 500])
def test_nothing_but_a_2xx_is_taken_for_an_answer(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, status: int
) -> None:
    """A redirect is followed by nobody, and a login page has read nothing."""
    wire.answers[url("crm")] = status
    happen(telling)
    notifiers["crm"].step()
    told = telling.subscribers.told("crm")
    assert (START, 1, f"HTTP {status}") == (told.place, told.failures, told.problem)


def test_who_says_that_it_is_gone_is_told_nothing_until_a_person_resumes_it(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, clock: ManualClock
) -> None:
    """410 is a wish, and a person's to undo; what came meanwhile is told then."""
    wire.answers[url("crm")] = 410
    happen(telling)
    notifiers["crm"].step()
    clock.set(clock.now() + timedelta(days=2))
    notifiers["crm"].step()
    assert 1 == len(wire.calls)
    wire.answers.clear()
    SubscriberDesk(telling).resume("crm", reason="moved")
    notifiers["crm"].step()
    assert 3 == len(wire.calls)
    (action,) = telling.actions.list()
    assert ("events.resume", "crm", "moved") == (action.action.what, action.action.target, action.action.reason)
    assert action.action.before["gone_ms"] > action.action.after["gone_ms"] == 0


@pytest.mark.parametrize("answer", [Fault.CONNECTION, 410])
def test_what_is_not_taken_in_three_days_is_kept_whole_and_the_rest_goes_on(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, clock: ManualClock, answer: int | Fault
) -> None:
    """Nothing is lost in silence, and the outbox does not grow for a subscriber that will never come back."""
    wire.answers[url("desk")] = answer
    happen(telling, 2)
    notifiers["desk"].step()
    clock.set(clock.now() + KEEP - timedelta(minutes=1))
    notifiers["desk"].step()
    assert 0 == telling.kept.count(Kind.UNDELIVERED)
    clock.set(clock.now() + timedelta(minutes=2))
    notifiers["desk"].step()
    notifiers["desk"].step()
    kept = telling.kept.newest(Kind.UNDELIVERED, at_most=9)
    assert ["desk", "desk"] == [item.content["subscriber"] for item in kept]
    assert ["reason 0", "reason 1"] == [item.content["notice"]["data"]["reason"] for item in kept]
    assert 2 == telling.subscribers.told("desk").undelivered
    notifiers["crm"].step()
    telling.subscribers.forget_what_all_have(["crm", "desk"], telling.outbox)
    assert 0 == telling.outbox.count()


def test_a_notice_that_is_refused_as_such_is_kept_whole_after_five_tries_and_the_rest_goes_on(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, clock: ManualClock
) -> None:
    """One event that a receiver cannot read must not hold up three days of those that it can."""
    happen(telling)
    wire.answers[url("desk")] = 422
    for delay_s in DELAYS_S[: REFUSALS_MAX - 1]:
        notifiers["desk"].step()
        assert 0 == telling.kept.count(Kind.UNDELIVERED)
        clock.set(clock.now() + timedelta(seconds=delay_s))
    notifiers["desk"].step()
    (kept,) = telling.kept.newest(Kind.UNDELIVERED, at_most=9)
    assert ("desk", "HTTP 422", "reason 0") == (
        kept.content["subscriber"],
        kept.content["why"],
        kept.content["notice"]["data"]["reason"],
    )
    told = telling.subscribers.told("desk")
    assert (1, 0, 0, "") == (told.undelivered, told.failures, told.failing_ms, told.problem), "it would fail for ever"
    happen(telling, first=1)
    notifiers["desk"].step()
    assert 1 == telling.subscribers.told("desk").failures
    wire.answers.clear()
    clock.set(clock.now() + timedelta(seconds=DELAYS_S[0]))
    notifiers["desk"].step()
    told = telling.subscribers.told("desk")
    assert (1, 1, 0) == (told.undelivered, told.delivered, told.failing_ms)


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_wrong_address_or_key_is_no_refusal_of_a_notice(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, clock: ManualClock, status: int
) -> None:
    """A key that ran out must not empty the line before somebody has renewed it."""
    happen(telling)
    wire.answers[url("crm")] = status
    for delay_s in DELAYS_S[: REFUSALS_MAX + 1]:
        notifiers["crm"].step()
        clock.set(clock.now() + timedelta(seconds=delay_s))
    told = telling.subscribers.told("crm")
    assert (START, REFUSALS_MAX + 1, 0) == (told.place, told.failures, told.undelivered)


def test_what_is_old_because_nobody_sent_it_is_still_told(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, clock: ManualClock
) -> None:
    """Schedulers that were away for a week are no fault of the subscriber's."""
    happen(telling)
    clock.set(clock.now() + 2 * KEEP)
    notifiers["crm"].step()
    assert 2 == len(wire.told("crm"))


def test_one_scheduler_at_a_time_tells_a_subscriber(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording
) -> None:
    """Two at once would tell everything twice; when one ends, the other goes on where it was."""
    happen(telling)
    notifiers["crm"].step()
    other = Notifier(telling, notifiers["crm"]._channel)
    happen(telling, first=1)
    assert not other.step()
    assert 2 == len(wire.calls)
    redis: Any = telling.redis
    redis.delete(telling.keys.subscriber_lease("crm"))
    other.step()
    assert not notifiers["crm"].step()
    assert 4 == len({notice.id for notice in wire.told("crm")}) == len(wire.calls)


def test_a_long_line_is_told_page_by_page(telling: Backends, notifiers: dict[str, Notifier], wire: Recording) -> None:
    """A night settles thousands of cases at once."""
    happen(telling, 60)
    assert notifiers["crm"].step()
    assert not notifiers["crm"].step()
    assert [f"reason {index}" for index in range(60)] == [
        notice.data.reason for notice in wire.told("crm") if isinstance(notice.data, PlatformSuspended)
    ]


def test_a_test_goes_past_everything_that_waits(telling: Backends, wire: Recording) -> None:
    """Whoever connects a system wants to see it work at once, and to read why it does not."""
    happen(telling)
    desk = SubscriberDesk(telling)
    assert not desk.test("desk", lambda: wire).problem
    wire.answers[url("desk")] = 401
    assert "HTTP 401" == desk.test("desk", lambda: wire).problem
    assert [NoticeType.TEST] * 2 == [notice.type for notice in wire.told("desk")]
    with pytest.raises(NotFound, match="no subscriber 'nobody'; there are: crm, desk"):
        desk.test("nobody", lambda: wire)


def test_the_list_shows_how_each_does(
    telling: Backends, notifiers: dict[str, Notifier], wire: Recording, clock: ManualClock
) -> None:
    """Who is called finds the subscriber and what it said."""
    wire.answers[url("crm")] = 500
    happen(telling)
    for notifier in notifiers.values():
        notifier.step()
    clock.set(clock.now() + timedelta(seconds=90))
    crm, desk = SubscriberDesk(telling).rows()
    assert ("failing", 1, "HTTP 500") == (crm["state"], crm["failures"], crm["problem"])
    assert crm["behind"]
    assert ("well", 1, None) == (desk["state"], desk["delivered"], desk["behind"])


def test_a_topic_on_redis_is_refused_at_the_start(telling: Backends, wire: Recording) -> None:
    """There a message that nobody is bound for would vanish in silence."""
    path = telling.settings.subscribers
    assert path is not None
    path.write_text("topic: renewal.events\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="topic: needs RabbitMQ"):
        channels(Subscriptions.load(path), telling, wire)
