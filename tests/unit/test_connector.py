"""The connector: what is sent is Unbind protocol v1, and no answer, however odd, makes a clean outcome by itself."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from backends.manifests import Item
from platforms.model import Platform
from schemas.batch import Basis, Batch, Job
from schemas.errors import ConfigurationError
from schemas.ids import derive, job_id
from schemas.outcome import Fault, Hold, Outcome, Refusal
from schemas.result import DETAIL_CHARS_MAX
from workers.connector import Answered, Entry, Failed, Interpretation, build_calls, interpret, retry_after_s
from workers.transport import Answer, Call

NOW = datetime.now(UTC)
SECRETS = tuple("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2))
CLEAN = {Outcome.UNBOUND, Outcome.NO_BINDING, Outcome.BOUND_AFTER_CUTOFF}
CODES = {
    "OK": "UNBOUND",
    "NONE": "NO_BINDING",
    "NEW": "BOUND_AFTER_CUTOFF",
    "NO": "REFUSED",
    "HELD": {"REFUSED": "funds_or_debt"},
    "LOOK": "PENDING_REVIEW",
    "CANNOT": "NOT_SUPPORTED",
    "LATER": "ACCEPTED",
}


def platform(protocol: str = "json", auth: Mapping[str, object] | None = None) -> Platform:
    """Return a catalogue entry with codes of its own."""
    return Platform.model_validate(
        {
            "key": "acme",
            "name": {"zh": "示例", "en": "Acme"},
            "category": "social",
            "account_domain": "acme",
            "protocol": protocol,
            "endpoint": "https://unbind.acme.example/v1/renewals",
            "auth": auth or {"scheme": "none"},
            "limits": {"timeout_s": 4},
            "outcomes": CODES,
        }
    )


def batch(jobs: int = 3) -> Batch:
    """Return a batch for acme."""
    return Batch(
        id=derive("batch"),
        run=derive("run"),
        platform="acme",
        deadline=NOW + timedelta(days=5),
        jobs=tuple(
            Job(case=derive(f"case-{n}"), cutoff_at="2026-11-01T00:00:00+08:00", basis=Basis.PLANNED_RELEASE)
            for n in range(jobs)
        ),
        sealed="sealed",
    )


NUMBERS = ("+8613800138000", "+8613800138001", "+8613800138002")


def items() -> list[Item]:
    """Return the batch's jobs with their numbers."""
    return [Item.of(job, number, place=i) for i, (job, number) in enumerate(zip(batch().jobs, NUMBERS, strict=True))]


def calls(
    protocol: str = "json",
    auth: Mapping[str, object] | None = None,
    *,
    credentials: tuple[str, ...] = (),
    now: datetime = NOW,
) -> tuple[Call, ...]:
    """Return the calls of a batch of three."""
    return build_calls(platform(protocol, auth), batch().id, items(), credentials=credentials, now=now)


def answered(
    body: object, *, keys: tuple[str, ...] = ("a",), status: int = 200, protocol: str = "json", **headers: str
) -> Interpretation:
    """Interpret an answer; `body` is sent as JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Answer(
        call=Call(url="https://unbind.acme.example/", headers={}, body=b"", timeout_s=1, keys=keys),
        status=status,
        headers={"content-type": "application/json", **names},
        body=content,
    )
    return interpret(platform(protocol), answer, now=NOW)


def entry(body: object, *, status: int = 200, **headers: str) -> Entry:
    """Return what an answer says of the only job of its call."""
    return answered(body, keys=("a",), status=status, **headers).results["a"]


# -- what is sent --------------------------------------------------------------------------------------------------


def test_json_sends_one_call_for_each_job() -> None:
    """The body is the five fields of the protocol; the key of the job is its idempotency key."""
    sent = calls()
    keys = [job_id(job.case, "acme") for job in batch().jobs]
    assert [(key,) for key in keys] == [call.keys for call in sent]
    assert keys == [call.headers["Idempotency-Key"] for call in sent]
    expected = {
        "id": keys[1],
        "case": batch().jobs[1].case,
        "number": "+8613800138001",
        "cutoff_at": "2026-11-01T00:00:00+08:00",
        "basis": "planned_release",
    }
    assert expected == orjson.loads(sent[1].body)
    assert ("https://unbind.acme.example/v1/renewals", 4.0) == (sent[1].url, sent[1].timeout_s)


def test_bulk_json_sends_one_call_for_the_batch() -> None:
    """The items are what json would send one by one; the batch's id is the idempotency key."""
    [sent] = calls("bulk-json")
    assert tuple(job_id(job.case, "acme") for job in batch().jobs) == sent.keys
    assert batch().id == sent.headers["Idempotency-Key"]
    assert {"batch": batch().id, "items": [orjson.loads(call.body) for call in calls()]} == orjson.loads(sent.body)


def test_every_attempt_sends_the_same_body_and_key() -> None:
    """A repeated call is recognised by the platform (rule 2)."""
    first, later = calls(now=NOW), calls(now=NOW + timedelta(days=1))
    assert [(c.body, c.headers["Idempotency-Key"]) for c in first] == [
        (c.body, c.headers["Idempotency-Key"]) for c in later
    ]


def test_headers_say_what_is_sent_and_wanted() -> None:
    """JSON both ways, and who is calling."""
    headers = calls()[0].headers
    assert ("application/json", "application/json") == (headers["Content-Type"], headers["Accept"])
    assert headers["User-Agent"].startswith("number-renewal/")
    assert "Authorization" not in headers


def test_bearer_sends_the_token() -> None:
    """RFC 6750 2.1."""
    sent = calls(auth={"scheme": "bearer", "token": "env:ACME"}, credentials=("s3cret",))
    assert {"Bearer s3cret"} == {call.headers["Authorization"] for call in sent}


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "口令"])
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    """A stray line break must not become a header of its own."""
    with pytest.raises(ConfigurationError, match=r"auth\.token") as raised:
        calls(auth={"scheme": "bearer", "token": "env:ACME"}, credentials=(token,))
    assert not token or token not in str(raised.value)


@pytest.mark.parametrize("protocol", ["json", "bulk-json"])
@pytest.mark.parametrize("secret", SECRETS)
def test_signatures_are_good_for_each_secret_of_a_rotation(protocol: str, secret: str) -> None:
    """The Standard Webhooks library itself, as a platform uses it, accepts the call with either key."""
    auth = {"scheme": "standard-webhooks", "secret": ["env:NEW", "env:OLD"]}
    for call in calls(protocol, auth, credentials=SECRETS, now=datetime.now(UTC)):
        assert orjson.loads(call.body) == Webhook(secret).verify(call.body, call.headers)
        assert call.headers["Idempotency-Key"] == call.headers["webhook-id"]


def test_a_signature_does_not_depend_on_the_zone_of_the_clock() -> None:
    """The same instant in Shanghai signs the same."""
    auth = {"scheme": "standard-webhooks", "secret": "env:KEY"}
    shanghai = NOW.astimezone(timezone(timedelta(hours=8)))
    signed = [calls(auth=auth, credentials=SECRETS[:1], now=now)[0].headers for now in (NOW, shanghai)]
    assert signed[0] == signed[1]
    assert str(int(NOW.timestamp())) == signed[0]["webhook-timestamp"]


@pytest.mark.parametrize("secret", ["whsec_", "whsec_=", "whsec_a"])
def test_a_signing_secret_that_is_none_is_refused_without_showing_it(secret: str) -> None:
    """The message names the field."""
    with pytest.raises(ConfigurationError, match=r"auth\.secret") as raised:
        calls(auth={"scheme": "standard-webhooks", "secret": "env:KEY"}, credentials=(secret,))
    assert secret not in str(raised.value).replace("whsec_…", "").replace("whsec_,", "")


def test_a_call_does_not_show_numbers_or_secrets_in_its_repr() -> None:
    """A repr ends up in logs and error texts (rule 8)."""
    shown = repr(calls(auth={"scheme": "bearer", "token": "env:ACME"}, credentials=("s3cret",)))
    assert "13800138000" not in shown
    assert "s3cret" not in shown


# -- codes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("OK", Outcome.UNBOUND),
        ("NONE", Outcome.NO_BINDING),
        ("NEW", Outcome.BOUND_AFTER_CUTOFF),
        ("LOOK", Outcome.PENDING_REVIEW),
        ("CANNOT", Outcome.NOT_SUPPORTED),
        ("LATER", Outcome.ACCEPTED),
    ],
)
def test_a_platform_speaks_in_its_own_codes(code: str, outcome: Outcome) -> None:
    """The catalogue says what they mean."""
    assert Answered(outcome=outcome, reference="R1") == entry({"code": code, "reference": "R1"})


@pytest.mark.parametrize("code", ["UNBOUND", "ok", "OK ", "", "9999", "NO_BINDING"])
def test_an_unknown_code_goes_to_a_person(code: str) -> None:
    """Not even our own names count where the catalogue maps others; the code is kept."""
    assert Answered(outcome=Outcome.PENDING_REVIEW, reason=Hold.UNKNOWN_CODE, detail=code) == entry({"code": code})


def test_an_unknown_code_is_trimmed_and_masked() -> None:
    """A code is a stranger's text: short, and without a number."""
    found = entry({"code": "X13800138000" + "x" * 500})
    assert isinstance(found, Answered)
    assert ("X138****00" + "x" * 54) == found.detail


@pytest.mark.parametrize("reason", list(Refusal))
def test_a_refusal_keeps_a_listed_reason(reason: Refusal) -> None:
    """The list is closed and shared."""
    assert Answered(outcome=Outcome.REFUSED, reason=reason) == entry({"code": "NO", "reason": reason.value})


def test_a_refusal_with_a_reason_of_its_own_is_other_and_keeps_the_text() -> None:
    """A person can read what the platform meant."""
    expected = Answered(outcome=Outcome.REFUSED, reason=Refusal.OTHER, detail="账户异常")
    assert expected == entry({"code": "NO", "reason": "账户异常"})


@pytest.mark.parametrize("body", [{"code": "NO"}, {"code": "NO", "reason": 7}, {"code": "NO", "reason": ""}])
def test_a_refusal_without_a_reason_is_other(body: object) -> None:
    """REFUSED always carries a reason."""
    assert Answered(outcome=Outcome.REFUSED, reason=Refusal.OTHER) == entry(body)


def test_a_code_may_carry_the_reason_of_a_refusal() -> None:
    """The catalogue's reason stands, the platform's words are kept beside it."""
    expected = Answered(outcome=Outcome.REFUSED, reason=Refusal.FUNDS_OR_DEBT, detail="balance 3 yuan")
    assert expected == entry({"code": "HELD", "reason": "balance 3 yuan"})


@pytest.mark.parametrize("body", [{}, {"code": None}, {"code": 0}, {"code": True}, {"code": ["OK"]}])
def test_an_answer_without_a_code_is_unreadable(body: object) -> None:
    """200 alone makes no outcome (rule 4)."""
    found = entry(body)
    assert isinstance(found, Failed)
    assert Fault.UNREADABLE_ANSWER is found.fault


# -- bulk ----------------------------------------------------------------------------------------------------------


def bulk(results: object, *, keys: tuple[str, ...] = ("a", "b")) -> Interpretation:
    """Interpret a bulk answer to two jobs."""
    return answered({"results": results}, keys=keys, protocol="bulk-json")


def test_each_item_of_a_bulk_answer_goes_to_its_job() -> None:
    """By id, whatever the order."""
    found = bulk([{"id": "b", "code": "NONE"}, {"id": "a", "code": "OK"}])
    assert [("a", Outcome.UNBOUND), ("b", Outcome.NO_BINDING)] == [
        (key, said.outcome) for key, said in found.results.items() if isinstance(said, Answered)
    ]
    assert 0 == found.invented


def test_an_item_left_out_is_unanswered() -> None:
    """Silence is no answer."""
    assert Failed(fault=Fault.UNANSWERED) == bulk([{"id": "a", "code": "OK"}]).results["b"]


@pytest.mark.parametrize("item", [{"id": "c", "code": "OK"}, {"id": 7}, {"id": ["a"]}, {"code": "OK"}, "a", None])
def test_an_item_that_was_never_asked_for_is_counted_and_ignored(item: object) -> None:
    """It may be another's answer."""
    found = bulk([item, {"id": "a", "code": "OK"}])
    assert 1 == found.invented
    assert {"a", "b"} == set(found.results)


def test_two_different_answers_for_one_id_are_none() -> None:
    """Which of them is true cannot be known, whatever comes after."""
    for codes in (["OK", "NONE"], ["OK", "NO", "OK"], ["OK", "NONE", "NONE", "OK"]):
        found = bulk([{"id": "a", "code": code} for code in codes]).results["a"]
        assert isinstance(found, Failed)
        assert Fault.UNREADABLE_ANSWER is found.fault


def test_the_same_answer_twice_is_one() -> None:
    """Saying it again changes nothing."""
    assert Answered(outcome=Outcome.UNBOUND) == bulk([{"id": "a", "code": "OK"}] * 2).results["a"]


@pytest.mark.parametrize("body", [{}, {"results": None}, {"results": {"a": "OK"}}, {"results": "a"}])
def test_a_bulk_answer_without_a_list_is_unreadable(body: object) -> None:
    """For every job of the call."""
    found = answered(body, keys=("a", "b"), protocol="bulk-json").results
    assert [Fault.UNREADABLE_ANSWER] * 2 == [said.fault for said in found.values() if isinstance(said, Failed)]


# -- statuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["json", "bulk-json"])
def test_202_is_accepted_for_every_job(protocol: str) -> None:
    """Accepted is not done: the answer comes later."""
    found = answered(
        {"reference": "T-1", "expected_by": "2026-11-30T00:00:00+08:00", "code": "OK"},
        keys=("a", "b"),
        status=202,
        protocol=protocol,
    )
    expected = Answered(outcome=Outcome.ACCEPTED, reference="T-1", detail="expected by 2026-11-30T00:00:00+08:00")
    assert {"a": expected, "b": expected} == found.results


@pytest.mark.parametrize(("said", "reason"), [("user", Hold.USER_ACTION), ("platform", None), (7, None), (None, None)])
def test_202_may_say_that_the_owner_has_to_act(said: object, reason: Hold | None) -> None:
    """Then the clock of the promise stands still; anything else than that one word changes nothing."""
    found = answered({"reference": "T-1", "next": said}, keys=("a",), status=202)
    assert {"a": Answered(outcome=Outcome.ACCEPTED, reference="T-1", reason=reason)} == found.results


STATUSES = {
    Fault.UNREADABLE_ANSWER: [100, 101, 103, 199, 201, 203, 204, 206, 299, 600, 999],
    Fault.REDIRECT: [300, 301, 302, 304, 307, 308],
    Fault.UNAUTHORIZED: [401, 403],
    Fault.ENDPOINT_GONE: [404, 410],
    Fault.TIMEOUT: [408],
    Fault.TOO_MANY_REQUESTS: [425, 429],
    Fault.REJECTED_REQUEST: [400, 402, 405, 409, 413, 415, 418, 422, 451],
    Fault.SERVER_ERROR: [500, 501, 502, 503, 504, 599],
}


@pytest.mark.parametrize(("status", "fault"), [(s, fault) for fault, many in STATUSES.items() for s in many])
def test_a_status_is_a_fault_of_its_kind(status: int, fault: Fault) -> None:
    """Even with a body that says UNBOUND: the status comes first."""
    found = entry({"code": "OK"}, status=status)
    assert isinstance(found, Failed)
    assert (fault, f"HTTP {status}") == (found.fault, found.detail)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_of_the_transport_is_the_fault_of_every_job(fault: Fault) -> None:
    """All jobs of a call share its fate."""
    call = Call(url="", headers={}, body=b"", timeout_s=1, keys=("a", "b"))
    expected = Interpretation(results={"a": Failed(fault=fault), "b": Failed(fault=fault)})
    assert expected == interpret(platform("bulk-json"), Answer(call=call, fault=fault), now=NOW)


@pytest.mark.parametrize("kind", ["text/html", "", "application/jsonp", "text/json", "application/x-json-not"])
@pytest.mark.parametrize("status", [200, 202])
def test_another_content_type_is_unreadable(kind: str, status: int) -> None:
    """A login page of some gateway is no answer, even if it could be read as one."""
    found = entry({"code": "OK"}, status=status, content_type=kind)
    assert isinstance(found, Failed)
    assert Fault.UNREADABLE_ANSWER is found.fault


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.acme+json ;v=1"]
)
def test_json_has_several_names(kind: str) -> None:
    """Media types are compared without case and parameters (RFC 9110 8.3.1, RFC 6839)."""
    assert Answered(outcome=Outcome.UNBOUND) == entry({"code": "OK"}, content_type=kind)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"OK"', b"null", b'{"code":"OK"} x', b'{"code":"\xff"}', b"[" * 100_000]
)
def test_bad_json_is_unreadable(body: bytes) -> None:
    """Half an answer is none."""
    found = entry(body)
    assert isinstance(found, Failed)
    assert Fault.UNREADABLE_ANSWER is found.fault


# -- Retry-After ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("120", 120), (" 7 ", 7), ("9999999999", 9999999999)])
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    """RFC 9110 10.2.3, delay-seconds."""
    assert seconds == retry_after_s({"retry-after": value}, now=NOW)


def test_retry_after_as_a_date_is_held_against_the_answers_own_date() -> None:
    """A platform whose clock is wrong by years still means two minutes."""
    headers = {"retry-after": "Wed, 21 Oct 2015 07:30:00 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert 120 == retry_after_s(headers, now=NOW)


@pytest.mark.parametrize("date", [{}, {"date": "yesterday"}])
def test_retry_after_as_a_date_is_held_against_now_where_the_answer_has_none(date: dict[str, str]) -> None:
    """RFC 9110 6.6.1 does not force every server to send one."""
    now = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
    assert 90 == retry_after_s({"retry-after": "Tue, 24 Nov 2026 08:01:30 GMT", **date}, now=now)


def test_retry_after_in_the_past_is_now() -> None:
    """No negative waits."""
    assert 0 == retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, now=NOW)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "soon", "١٢", "1e9", "99999999999", "Mon, 99 Foo 2026", "nan"])
def test_a_retry_after_that_cannot_be_read_is_ignored(value: str) -> None:
    """Then the schedule alone decides."""
    assert retry_after_s({"retry-after": value}, now=NOW) is None


def test_a_fault_carries_retry_after_and_the_platforms_sentence() -> None:
    """What the night operator needs to see (RFC 9457)."""
    problem = {"title": "Slow down", "detail": "too many renewals for 13800138000"}
    found = entry(problem, status=429, retry_after="30", content_type="application/problem+json")
    expected = Failed(
        fault=Fault.TOO_MANY_REQUESTS, retry_after_s=30, detail="HTTP 429: too many renewals for 138****00"
    )
    assert expected == found


# -- strangers' texts ----------------------------------------------------------------------------------------------

SPELLINGS = [
    "13800138000",
    "+8613800138000",
    "138 0013 8000",
    "138-0013-8000",
    "138\u30000013\u30008000",
    "138.0013.8000",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_number_is_kept_of_a_platforms_text(spelling: str) -> None:
    """However it is spelled, in whatever field (rule 8)."""
    said = f"account of {spelling} is in debt"
    kept = [
        entry({"code": "NO", "reason": said, "reference": said}),
        entry({"code": said}),
        entry({"detail": said}, status=422),
        entry({"reference": said, "expected_by": said}, status=202),
    ]
    assert [] == [found for found in kept if spelling in repr(found) or "0013" in repr(found)]


def test_a_text_is_one_short_printable_line() -> None:
    """Control characters would speak to a terminal, length would fill the store."""
    found = entry({"code": "NO", "reason": "\x1b[2Jgone\n\t" + "x" * 10_000})
    assert isinstance(found, Answered)
    assert found.detail is not None
    assert found.detail.isprintable()
    assert DETAIL_CHARS_MAX == len(found.detail)


# -- whatever comes ------------------------------------------------------------------------------------------------

KEYS = ("a", "b", "c")
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20) | st.sampled_from([*CODES, *KEYS])
)
ITEMS = st.dictionaries(st.sampled_from(["id", "code", "reason", "reference", "x"]), SCALARS)
OBJECTS = st.one_of(
    ITEMS,
    st.fixed_dictionaries({"results": st.lists(ITEMS | SCALARS, max_size=8)}),
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=9),
)
BODIES = st.binary(max_size=200) | OBJECTS.map(orjson.dumps)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from(["application/json", "application/problem+json", "text/html"]) | st.text(),
        "retry-after": st.sampled_from(["5", "Tue, 24 Nov 2026 08:01:30 GMT"]) | st.text(),
        "date": st.text(),
    },
)


def codes_for(key: str, protocol: str, body: bytes) -> list[Any]:
    """Return, without the connector, each code that a body holds for a job."""
    content = orjson.loads(body)
    if protocol == "json":
        return [content.get("code")]
    return [item.get("code") for item in content["results"] if isinstance(item, dict) and item.get("id") == key]


@given(
    protocol=st.sampled_from(["json", "bulk-json"]),
    status=st.sampled_from([200, 202, 429, 500]) | st.integers(100, 999),
    headers=HEADERS,
    body=BODIES,
)
def test_every_answer_has_one_entry_a_job_and_only_a_mapped_code_is_clean(
    protocol: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Any status, headers and bytes: nothing is raised, nothing left out, nothing invented."""
    keys = KEYS if protocol == "bulk-json" else KEYS[:1]
    call = Call(url="", headers={}, body=b"", timeout_s=1, keys=keys)
    answer = Answer(call=call, status=status, headers=headers, body=body)
    found = interpret(platform(protocol), answer, now=NOW)
    assert list(keys) == list(found.results)
    for key, said in found.results.items():
        if isinstance(said, Failed):
            assert said.retry_after_s is None or said.retry_after_s >= 0
        elif said.outcome in CLEAN:
            assert 200 == status
            assert {said.outcome.value} == {CODES.get(code) for code in codes_for(key, protocol, body)}
        elif said.outcome is Outcome.REFUSED:
            assert said.reason in set(Refusal)
        for text in (said.detail, getattr(said, "reference", None)):
            assert text is None or (len(text) <= DETAIL_CHARS_MAX and text.isprintable())
