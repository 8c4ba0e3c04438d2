"""The frame of the HTTP API: keys and scopes, errors, idempotency, pace, bodies, what every answer carries."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from backends.actions import What
from backends.api_keys import Scope
from backends.bootstrap import Backends
from backends.clock import ManualClock
from backends.idempotency import Asked, Standing
from backends.pace import Pace, Paces
from ops.api.access import OF_A_KEY, OF_BAD_KEYS
from ops.api.guard import BODY_BYTES_MAX
from ops.console_key import local_key
from ops.key_desk import KeyDesk
from schemas.errors import BackendUnavailable, InputError, NotFound
from schemas.ids import new_id
from tests.fixtures_valkey import NOON, ONE_NAMESPACE, stored
from tests.fixtures_web import Api
from tests.letters import die

NUMBER = "13812345678"
PAUSE = "/v1/platforms/alipay/pause"


def problem(answer: Any, status: int) -> Any:
    """Return a problem of this status, which must have the form of RFC 9457."""
    assert status == answer.status_code, answer.text
    assert "application/problem+json" == answer.headers["content-type"]
    body = answer.json()
    assert (status, "about:blank") == (body["status"], body["type"])
    return body


# -- keys --------------------------------------------------------------------------------------------------------------


def test_nothing_is_told_without_a_key(api: Api) -> None:
    """Whoever reaches the port is nobody yet."""
    answer = api.ask("GET", "/v1/runs", scope=None)
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_every_route_below_v1_asks_for_a_key(api: Api) -> None:
    """A route whose author forgot it would be open to all."""
    open_ones = [
        f"{method} {path}"
        for path, operations in api.app.openapi()["paths"].items()
        for method, operation in operations.items()
        if path.startswith("/v1/") and not operation.get("security")
    ]
    assert [] == open_ones


@pytest.mark.parametrize("wrong", ["", "x", "nrk_0000000000_" + "a" * 43, "Basic abc", "nrk_"])
def test_a_key_that_is_none_opens_nothing(api: Api, wrong: str) -> None:
    """Whether its form is wrong or it is not known must not be told."""
    answer = api.ask("GET", "/v1/runs", scope=None, headers={"Authorization": f"Bearer {wrong}"})
    assert "a valid key is needed" == problem(answer, 401)["detail"]


def test_a_smaller_scope_may_look_and_not_change(api: Api) -> None:
    """A screen that only shows must not be able to pause a platform."""
    assert 200 == api.ask("GET", "/v1/runs", scope=Scope.READ).status_code
    problem(api.ask("POST", PAUSE, scope=Scope.READ, json={"reason": "why"}), 403)
    assert 200 == api.ask("POST", PAUSE, scope=Scope.OPERATE, json={"reason": "why"}).status_code


def test_a_revoked_key_opens_nothing_at_once(api: Api, backends: Backends) -> None:
    """A key that has leaked must end now, not at its end."""
    ident = api.keys[Scope.READ].split("_")[1]
    KeyDesk(backends).revoke(ident, reason="it has leaked")
    problem(api.ask("GET", "/v1/runs", scope=Scope.READ), 401)
    assert "revoked" == next(row["state"] for row in KeyDesk(backends).rows() if row["id"] == ident)


def test_an_expired_key_opens_nothing(api: Api, backends: Backends) -> None:
    """What was given for a week must not open for a year."""
    _, text = KeyDesk(backends).create("guest", Scope.READ, expires_at=NOON + timedelta(days=7))
    headers = {"Authorization": f"Bearer {text}"}
    assert 200 == api.ask("GET", "/v1/runs", scope=None, headers=headers).status_code
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(NOON + timedelta(days=7))
    problem(api.ask("GET", "/v1/runs", scope=None, headers=headers), 401)


def test_a_key_is_on_record_and_its_text_nowhere(backends: Backends) -> None:
    """Who reads the store, or a copy of it, must not be able to come in."""
    key, text = KeyDesk(backends).create("pipeline", Scope.OPERATE)
    secret = text.rpartition("_")[2].encode()
    assert not [name for name, (_, body) in stored(backends).items() if secret in body]
    (entry,) = backends.actions.list(what=What.KEY_CREATE)
    assert (key.id, "operate") == (entry.action.target, entry.action.after["scope"])


def test_a_key_cannot_end_before_it_begins_nor_be_revoked_twice_over(backends: Backends) -> None:
    """A typing error in the end would give a key that opens nothing, and nobody knows why."""
    with pytest.raises(InputError):
        KeyDesk(backends).create("late", Scope.READ, expires_at=NOON)
    with pytest.raises(NotFound):
        KeyDesk(backends).revoke("0000000000", reason="why")


def test_the_local_key_is_kept_while_it_is_valid_and_made_anew_after(backends: Backends) -> None:
    """A start must not leave one more valid key behind each time."""
    path = local_key(backends, backends.settings.data_dir)
    first = path.read_text(encoding="utf-8")
    assert 0o600 == path.stat().st_mode & 0o777
    assert first == local_key(backends, backends.settings.data_dir).read_text(encoding="utf-8")
    backends.api_keys.revoke(first.split("_")[1], now=NOON)
    assert first != local_key(backends, backends.settings.data_dir).read_text(encoding="utf-8")


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_wrong_field_is_named_and_its_value_is_not_repeated(api: Api) -> None:
    """Errors end in logs of others (rule 8)."""
    answer = api.ask("POST", "/v1/lookups", json={"number": NUMBER, "surname": NUMBER})
    body = problem(answer, 422)
    assert ["body.surname"] == [error["field"] for error in body["errors"]]
    assert NUMBER not in answer.text


def test_a_number_that_is_none_is_not_repeated(api: Api) -> None:
    """The same where the desk refuses it and not the form."""
    answer = api.ask("POST", "/v1/lookups", json={"number": "1381234567890"})
    problem(answer, 400)
    assert "13812" not in answer.text


def test_what_is_not_there_and_what_does_not_exist_are_problems_too(api: Api) -> None:
    """A client reads one form of error, whatever went wrong."""
    problem(api.ask("GET", f"/v1/cases/{new_id()}"), 404)
    problem(api.ask("GET", "/v1/nothing"), 404)
    problem(api.ask("DELETE", "/v1/runs"), 405)
    problem(api.ask("POST", PAUSE, content=b"{", headers={"Content-Type": "application/json"}), 422)


def test_a_fault_of_ours_is_told_by_the_id_of_its_request_alone(
    api: Api, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an exception says may hold anything."""

    def crash(*_: Any, **__: Any) -> None:
        raise ValueError(f"wrong: {NUMBER}")

    monkeypatch.setattr(backends.actions, "list", crash)
    answer = api.ask("GET", "/v1/actions")
    assert answer.headers["x-request-id"] in problem(answer, 500)["detail"]
    assert NUMBER not in answer.text


@pytest.mark.parametrize("error", [RedisConnectionError("away"), BackendUnavailable("the broker is away")])
def test_what_is_away_is_told_with_when_to_come_again(
    api: Api, backends: Backends, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nothing is answered from memory: limits and keys fail closed (rule 7)."""

    def away(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(backends.api_keys, "find", away)
    answer = api.ask("GET", "/v1/runs")
    assert "away" in problem(answer, 503)["detail"]
    assert int(answer.headers["retry-after"]) > 0


def test_readiness_names_what_is_away_and_not_where_it_is(
    api: Api, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked without a key."""
    assert {"status": "ready"} == api.client.get("/readyz").json()

    def away(**_: float) -> None:
        raise BackendUnavailable("the broker at amqp://inside:5672 is away")

    monkeypatch.setattr(backends.broker, "ping", away)
    assert "no answer from the broker" == problem(api.client.get("/readyz"), 503)["detail"]
    assert 200 == api.client.get("/healthz").status_code


def test_every_answer_says_how_a_browser_must_treat_it(api: Api) -> None:
    """An answer that is taken for a page could run what somebody stored in it."""
    for path in ("/v1/runs", "/healthz", "/nothing"):
        headers = api.ask("GET", path).headers
        assert ("nosniff", "no-store") == (headers["x-content-type-options"], headers["cache-control"])
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert 26 == len(headers["x-request-id"])


def test_the_documentation_needs_nothing_from_elsewhere(api: Api) -> None:
    """It is read where there is no way out, and no other house shall know who reads it."""
    page = api.client.get("/docs")
    assert 200 == page.status_code
    assert "http" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "docs.js"):
        assert f"docs/{name}" in page.text
        assert 200 == api.client.get(f"/docs/{name}").status_code
    problem(api.client.get("/docs/docs.html"), 404)
    assert "3.1.0" == api.client.get("/openapi.json").json()["openapi"]


# -- pace --------------------------------------------------------------------------------------------------------------


def test_a_key_that_asks_too_fast_is_told_when_to_come_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """One program in a loop must not cost all others their answers."""
    monkeypatch.setattr("ops.api.access.OF_A_KEY", Pace(name="key", per_s=0.01, burst=2))
    headers = api.ask("GET", "/v1/runs", scope=Scope.READ).headers
    assert ('"key";q=2;w=200', '"key";r=1;t=100') == (headers["ratelimit-policy"], headers["ratelimit"])
    assert 200 == api.ask("GET", "/v1/runs", scope=Scope.READ).status_code
    refused = api.ask("GET", "/v1/runs", scope=Scope.READ)
    problem(refused, 429)
    assert 90 < int(refused.headers["retry-after"]) <= 100
    assert 200 == api.ask("GET", "/v1/runs", scope=Scope.ADMIN).status_code


def test_who_tries_keys_is_slowed_down_and_who_has_one_is_not(api: Api) -> None:
    """Behind one address there may be many people."""
    wrong = {"Authorization": "Bearer nrk_0000000000_" + "a" * 43}
    found = [api.ask("GET", "/v1/runs", scope=None, headers=wrong).status_code for _ in range(OF_BAD_KEYS.burst + 1)]
    assert [401] * OF_BAD_KEYS.burst + [429] == found
    assert 200 == api.ask("GET", "/v1/runs").status_code


@ONE_NAMESPACE
@given(
    steps=st.lists(st.tuples(st.integers(0, 3_000_000), st.booleans()), min_size=1, max_size=30),
    per_s=st.sampled_from([0.5, 1.0, 4.0]),
    burst=st.integers(1, 5),
)
def test_a_pace_is_a_bucket_that_leaks(
    backends: Backends, steps: list[tuple[int, bool]], per_s: float, burst: int
) -> None:
    """The script, against the plain model: a bucket of `burst`, which empties at `per_s`."""
    now_us = 1_700_000_000_000_000
    paces, pace, who = (
        Paces(backends.redis, backends.keys, clock_us=lambda: now_us),
        Pace(name="model", per_s=per_s, burst=burst),
        new_id(),
    )
    step_us, held_us = round(1_000_000 / per_s), 0
    for passed_us, takes in steps:
        now_us, held_us = now_us + passed_us, max(0, held_us - passed_us)
        found = (paces.take if takes else paces.look)(pace, who)
        assert (held_us + step_us <= burst * step_us) == found.allowed
        held_us += step_us if takes and found.allowed else 0
        assert ((burst * step_us - held_us) // step_us, held_us) == (found.more, round(found.full_s * 1e6))


def test_the_pace_of_a_key_leaves_room_for_a_pipeline() -> None:
    """Whoever follows a province's requests asks some dozen times a second."""
    assert OF_A_KEY.per_s >= 50


# -- asked again -------------------------------------------------------------------------------------------------------


def test_asked_again_under_one_key_it_is_answered_again_and_not_done_again(api: Api, backends: Backends) -> None:
    """Whoever lost the answer on the way asks again, and must not do it twice."""
    once: dict[str, Any] = {"headers": {"Idempotency-Key": "a-1"}, "json": {"reason": "a change there"}}
    first, second = api.ask("POST", PAUSE, **once), api.ask("POST", PAUSE, **once)
    assert (200, first.json(), "true") == (second.status_code, second.json(), second.headers["idempotency-replayed"])
    assert 1 == len(backends.actions.list(what=What.PLATFORM_PAUSE))


def test_a_key_belongs_to_one_request_and_one_caller(api: Api, backends: Backends) -> None:
    """Another body under an old key is a mistake of who asks; another caller's key is none of theirs."""
    headers = {"Idempotency-Key": "a-1"}
    assert 200 == api.ask("POST", PAUSE, headers=headers, json={"reason": "one"}).status_code
    problem(api.ask("POST", PAUSE, headers=headers, json={"reason": "two"}), 422)
    problem(api.ask("POST", "/v1/platforms/wechat/pause", headers=headers, json={"reason": "one"}), 422)
    other = api.ask("POST", PAUSE, scope=Scope.OPERATE, headers=headers, json={"reason": "two"})
    assert 200 == other.status_code
    assert 2 == len(backends.actions.list(what=What.PLATFORM_PAUSE))


def test_what_was_refused_may_be_asked_again_under_the_same_key(api: Api) -> None:
    """Nothing was done, so nothing is kept."""
    headers = {"Idempotency-Key": "a-2"}
    problem(api.ask("POST", "/v1/kept/poison/drop", headers=headers, json={"reason": "r", "expect_count": 1}), 409)
    answer = api.ask("POST", "/v1/kept/poison/drop", headers=headers, json={"reason": "r", "expect_count": 0})
    assert 200 == answer.status_code, answer.text


def test_two_at_once_under_one_key_are_one(api: Api, backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second must not run beside the first."""
    begin = backends.idempotency.begin
    keyed: dict[str, Any] = {"headers": {"Idempotency-Key": "a-3"}, "json": {"reason": "why"}}
    begun: list[Asked] = []

    def another_was_first(**words: str) -> Asked:
        begun.append(begin(**words))
        return begin(**words)

    with monkeypatch.context() as patch:
        patch.setattr(backends.idempotency, "begin", another_was_first)
        answer = api.ask("POST", PAUSE, **keyed)
    problem(answer, 409)
    assert "1" == answer.headers["retry-after"]
    assert [] == backends.actions.list(what=What.PLATFORM_PAUSE)
    assert [Standing.BEGUN] == [asked.standing for asked in begun]
    backends.idempotency.give_up(begun[0])
    assert 200 == api.ask("POST", PAUSE, **keyed).status_code


def test_what_is_kept_of_a_request_is_sealed(api: Api, backends: Backends) -> None:
    """An answer may hold what is shown only once, and a small body is found by trying all numbers (rule 8)."""
    die(backends, ["alipay"], count=1)
    body = {"number": "+86 138 0000 0000"}
    answer = api.ask("POST", "/v1/lookups", headers={"Idempotency-Key": "look"}, json=body)
    assert 200 == answer.status_code
    kept = {name: body for name, (_, body) in stored(backends).items() if ":idempotency:" in name}
    assert 1 == len(kept)
    assert not [name for name, text in kept.items() if b"138****" in text or b"look" in name.encode()]
    assert all(ends > 0 for name, (ends, _) in stored(backends).items() if name in kept)


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_not_read(api: Api) -> None:
    """Declared or not: memory is not the caller's to fill."""
    problem(api.ask("POST", "/v1/lookups", content=b"x" * (BODY_BYTES_MAX + 1)), 413)

    def endless() -> Any:
        for _ in range(3):
            yield b"x" * (BODY_BYTES_MAX // 2)

    problem(api.ask("POST", "/v1/lookups", content=endless()), 413)


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", ["x", "AAAA", "e30", "W10", "WzEsMl0", "bnVsbA", "%00", "é"])
def test_a_cursor_that_is_none_of_ours_is_refused(api: Api, cursor: str) -> None:
    """It is opaque, and never trusted."""
    problem(api.ask("GET", "/v1/runs", params={"cursor": cursor}), 400)
    problem(api.ask("GET", "/v1/actions", params={"cursor": cursor}), 400)


@pytest.mark.parametrize("limit", ["0", "501", "x", "-1"])
def test_a_part_is_bounded(api: Api, limit: str) -> None:
    """Nobody reads all of it in one request (rule 9)."""
    problem(api.ask("GET", "/v1/runs", params={"limit": limit}), 422)


def test_the_parts_of_a_list_are_the_list_though_it_grows_meanwhile(api: Api, backends: Backends) -> None:
    """Nothing twice, nothing left out."""
    die(backends, ["alipay", "wechat"], count=4)
    told: list[str] = []
    cursor: str | None = None
    while True:
        page = api.get("/v1/dead-letters", params={"limit": "3"} | ({"cursor": cursor} if cursor else {}))
        told += [letter["job"] for letter in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
        if len(told) == 3:
            die(backends, ["wechat"], count=1, first=100)
    before = {letter.job for letter in backends.dead.every()}
    assert len(told) == len(set(told))
    assert 8 <= len(told) <= 9
    assert set(told) <= before
