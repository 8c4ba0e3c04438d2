"""The owner's page: enough to follow a request, and nothing that tells of the number's last owner (requirement 21)."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from backends.actions import What
from backends.bootstrap import Backends, open_backends
from backends.clock import ManualClock
from backends.keys import OWNER_LINK_TTL_S
from backends.settings import CONSOLE_OFF
from ops.api.app import make_app
from ops.api.door import Door
from ops.owner.link_desk import LinkDesk
from ops.owner.page import OF_LOOKS
from ops.owner.view import group_of
from ops.owner.words import WORDS, chosen
from platforms.catalogue import SAMPLE, Catalogue
from platforms.remedies import remedy_of
from schemas.authorisation import Authorisation
from schemas.errors import ConfigurationError
from schemas.outcome import Fault, Hold, Reason, Refusal
from schemas.state import FINAL_STATES, STATES, State
from tests.command import write_platform
from tests.fixtures_valkey import NOON, stored
from tests.letters import accept, record, record_of

CATEGORIES = {"chat": "social", "shop": "shopping", "purse": "payment", "clinic": "health", "heart": "dating"}
SENSITIVE = {"purse", "clinic", "heart"}
CLEAN = (State.UNBOUND, State.NO_BINDING, State.BOUND_AFTER_CUTOFF)


@pytest.fixture
def app(backends: Backends, tmp_path: Path) -> FastAPI:
    """The app over platforms of five categories, three of them sensitive."""
    for key, category in CATEGORIES.items():
        write_platform(tmp_path / "catalogue", key, category=category, name={"zh": f"中{key}", "en": f"The {key}"})
    return make_app(Door(backends=backends, catalogue=Catalogue.load(tmp_path / "catalogue")))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A browser that prefers English."""
    with TestClient(app, headers={"Accept-Language": "en-GB,en;q=0.9"}, follow_redirects=False) as found:
        yield found


def case_of(backends: Backends, platforms: Sequence[str] = tuple(CATEGORIES), *, first: int = 0) -> str:
    """Return a case at these platforms."""
    (case,) = accept(backends, platforms, first=first)
    return case


def link_to(backends: Backends, case: str) -> str:
    """Return the path of a link to a case."""
    return "/o/" + LinkDesk(backends, who="desk").make(case).url.rpartition("/")[2]


def authorise(backends: Backends, case: str) -> None:
    """Let a case rest on its owner's authorisation."""
    said = Authorisation.model_validate(
        {"platforms": list(CATEGORIES), "notice_version": "1", "language": "zh", "method": "app_login",
         "given_at": NOON, "expires_at": NOON + timedelta(days=9)}
    )  # fmt: skip
    backends.authorisations.record(case, said, by="desk", now=NOON)


def shown(client: TestClient, path: str) -> tuple[str, Any]:
    """Return the page without its own address, and its data."""
    page, data = client.get(path), client.get(f"{path}.json")
    assert (200, 200) == (page.status_code, data.status_code), page.text
    return page.text.replace(path, "/o/LINK"), data.json()


# -- nothing is told of the last owner ---------------------------------------------------------------------------------


@pytest.mark.parametrize("open_too", [False, True])
def test_unbound_and_nothing_bound_are_the_same_byte_for_byte(
    backends: Backends, client: TestClient, open_too: bool
) -> None:
    """The acceptance test of requirement 21: page, data and every header, whatever else is open."""
    seen = []
    for place, state in enumerate(CLEAN):
        case = case_of(backends)
        asked = list(CATEGORIES)[: 4 if open_too else 5]
        for step, key in enumerate(asked):
            # Neither when it was settled nor how often it was tried may show.
            at = NOON + timedelta(minutes=place * 7 + step)
            record(backends, key, [case], state=state, at=at, attempt=place + 1)
        path = link_to(backends, case)
        page, data = client.get(path), client.get(f"{path}.json")
        token = path.rpartition("/")[2]
        headers = sorted((name, value) for name, value in page.headers.items() if name not in _OF_EACH)
        seen.append((page.content.replace(token.encode(), b"LINK"), data.content, headers))
    assert seen[0] == seen[1] == seen[2]


# Different for each answer whatever it says: its id, and what is left of the visits of this minute.
_OF_EACH = {"x-request-id", "ratelimit"}


def test_the_record_behind_them_is_not_the_same(backends: Backends) -> None:
    """Else the test above would compare nothing."""
    cases = [case_of(backends, ["chat"], first=place) for place in range(2)]
    for case, state in zip(cases, CLEAN[:2], strict=True):
        record(backends, "chat", [case], state=state)
    assert set(CLEAN[:2]) == {record_of(backends, case, "chat").state for case in cases}


@pytest.mark.parametrize("key", sorted(SENSITIVE))
def test_of_a_sensitive_category_no_platform_and_no_reason_is_named(
    backends: Backends, client: TestClient, key: str
) -> None:
    """That somebody owed a lender money, or had a file at a clinic, is theirs: why it failed is told by nobody."""
    case = case_of(backends)
    path = link_to(backends, case)
    for each in CATEGORIES:
        record(backends, each, [case], state=State.NO_BINDING)
    clean = shown(client, path)
    ends: list[tuple[str, Any]] = []
    for place, (state, reason) in enumerate(_NOT_CLEAN, start=1):
        other = case_of(backends, first=place)
        for each in CATEGORIES:
            record(backends, each, [other], state=state if each == key else State.NO_BINDING, reason=reason)
        ends.append(shown(client, link_to(backends, other)))
    # The masked number is another; nothing else may be.
    texts = {re.sub(r"138\*{4}\d{4}", "NUMBER", page) for page, _ in ends}
    assert 1 == len(texts)
    assert not any(f"The {each}" in page for page, _ in [clean, *ends] for each in SENSITIVE)
    (group,) = [group for group in ends[0][1]["groups"] if group["standing"] == "not_possible"]
    assert [] == group["lines"]


_NOT_CLEAN: tuple[tuple[State, Reason | None], ...] = (
    (State.REFUSED, Refusal.FUNDS_OR_DEBT), (State.REFUSED, Refusal.LEGAL_HOLD), (State.NOT_SUPPORTED, None),
    (State.EXPIRED, None),
)  # fmt: skip


@pytest.mark.parametrize("state", sorted(set(State) - FINAL_STATES))
def test_an_open_sensitive_platform_does_not_say_who_has_it(
    backends: Backends, client: TestClient, state: State
) -> None:
    """A platform that needs time has found something: at these, no turn is shown."""
    case = case_of(backends, ["clinic"])
    blank = shown(client, link_to(backends, case))
    if state is not State.QUEUED:
        record(backends, "clinic", [case], state=state, reason=Fault.TIMEOUT if state is State.WAITING else None)
    assert blank == shown(client, link_to(backends, case))


def test_no_time_of_a_platform_is_shown(backends: Backends, client: TestClient) -> None:
    """What took long had something to do: two dates are shown, and both are those of the whole request."""
    case = case_of(backends)
    record(backends, "chat", [case], state=State.UNBOUND, at=NOON + timedelta(days=2, hours=3, minutes=17))
    page, data = shown(client, link_to(backends, case))
    assert ("2026-11-01", "2026-11-06") == (data["asked_on"], data["promised_by"])
    assert [] == re.findall(r"\d\d:\d\d", page[page.index("<body") :])
    assert ["1 November 2026", "6 November 2026"] == re.findall(r"\d+ \w+ 20\d\d", page)


# -- what is told ------------------------------------------------------------------------------------------------------


def test_a_refusal_says_what_can_be_done(backends: Backends, client: TestClient) -> None:
    """In plain words (requirement 11); a closed list of reasons, and none without a sentence in both languages."""
    for place, reason in enumerate(Refusal):
        case = case_of(backends, ["chat"], first=place)
        record(backends, "chat", [case], state=State.REFUSED, reason=reason)
        path, remedy = link_to(backends, case), remedy_of(reason)
        for language, told in (("zh", remedy.zh), ("en", remedy.en)):
            text = client.get(f"{path}?lang={language}").text.replace("&#39;", "'")
            assert WORDS[language]["not_possible"] in text
            assert told in text
            assert f">{reason.value}<" not in text


@pytest.mark.parametrize(
    ("state", "reason", "turn"),
    [
        (State.QUEUED, None, "Your operator is on it."),
        (State.WAITING, Fault.TIMEOUT, "Your operator is on it."),
        (State.DEAD, Fault.TIMEOUT, "Your operator is on it."),
        (State.PENDING_REVIEW, Hold.UNKNOWN_CODE, "Your operator is on it."),
        (State.ACCEPTED, None, "The platform is on it."),
        (State.ACCEPTED, Hold.USER_ACTION, "It is your turn: please contact the platform."),
    ],
)
def test_what_is_open_says_whose_turn_it_is(
    backends: Backends, client: TestClient, state: State, reason: Reason | None, turn: str
) -> None:
    """Requirement 14, as far as its owner has to know it."""
    case = case_of(backends, ["chat"])
    if state is not State.QUEUED:
        record(backends, "chat", [case], state=state, reason=reason)
    page, data = shown(client, link_to(backends, case))
    assert turn in page
    assert ("in_progress", "in_progress") == (data["sum"], data["groups"][0]["standing"])


def test_every_state_has_one_of_three_standings(backends: Backends, client: TestClient) -> None:
    """A state that is added must be thought of here."""
    found = {}
    for place, state in enumerate(State):
        case = case_of(backends, ["chat"], first=place)
        if state is not State.QUEUED:
            record(backends, "chat", [case], state=state, reason=Refusal.OTHER if state is State.REFUSED else None)
        found[state] = shown(client, link_to(backends, case))[1]["groups"][0]["lines"][0]["standing"]
    assert found == {
        state: "in_progress" if not rule.final else "done" if rule.clean else "not_possible"
        for state, rule in STATES.items()
    }


@pytest.mark.parametrize(
    ("accepts", "asked", "language"),
    [("", None, "zh"), ("zh-TW", None, "zh"), ("fr,en;q=0.5", None, "en"), ("en", "zh", "zh"), ("zh", "xx", "zh"),
     ("de", None, "zh"), ("en-US,zh", None, "en")],
)  # fmt: skip
def test_the_language_is_the_one_asked_for_or_that_of_the_browser(
    accepts: str, asked: str | None, language: str
) -> None:
    """Chinese where neither says anything that we have."""
    assert language == chosen(accepts, asked)


def test_both_languages_have_the_same_words() -> None:
    """And a word for every category of the sample catalogue."""
    assert WORDS["zh"].keys() == WORDS["en"].keys()
    groups = {f"group_{group_of(platform)}" for platform in Catalogue.load(SAMPLE)}
    assert set() == groups - WORDS["zh"].keys()


# -- the link ----------------------------------------------------------------------------------------------------------


def test_no_link_is_made_that_leads_to_a_console_which_is_off(backends: Backends) -> None:
    """An owner who is handed it would find nobody there."""
    case = case_of(backends)
    nowhere = backends.settings.model_copy(update={"console": CONSOLE_OFF})
    with (
        contextlib.closing(open_backends(nowhere)) as off,
        pytest.raises(ConfigurationError, match="RENEWAL_PUBLIC_URL"),
    ):
        LinkDesk(off, who="desk").make(case)
    outside = nowhere.model_copy(update={"public_url": "https://renewal.example"})
    with contextlib.closing(open_backends(outside)) as off:
        assert LinkDesk(off, who="desk").make(case).url.startswith("https://renewal.example/o/")


def test_a_link_that_leads_nowhere_says_nothing_more(backends: Backends, client: TestClient) -> None:
    """Whether it never was, has ended or was revoked: one and the same page."""
    case = case_of(backends)
    ended = link_to(backends, case)
    (key,) = backends.redis.scan_iter(match=f"{backends.settings.namespace}:owner-link:*")
    backends.redis.delete(key)
    revoked = link_to(backends, case)
    LinkDesk(backends, who="desk").revoke(case)
    answers = [client.get(path) for path in (revoked, ended, "/o/" + "x" * 43, "/o/short", "/o/%00")]
    assert {404} == {answer.status_code for answer in answers}
    assert 1 == len({answer.text for answer in answers})
    assert {404} == {client.get(f"{revoked}.json").status_code, client.post(f"{revoked}/withdraw").status_code}


def test_a_link_ends_after_thirty_days(backends: Backends) -> None:
    """What lies in an old message must not open for ever."""
    link_to(backends, case_of(backends))
    (key,) = backends.redis.scan_iter(match=f"{backends.settings.namespace}:owner-link:*")
    assert OWNER_LINK_TTL_S == pytest.approx(backends.redis.ttl(key), abs=5)


def test_who_tries_links_one_by_one_is_slowed_down(client: TestClient) -> None:
    """By address, whatever they find; a person with a page that reloads is far below it."""
    statuses = [client.get(f"/o/{place:043d}").status_code for place in range(OF_LOOKS.burst + 1)]
    assert [404] * OF_LOOKS.burst == statuses[:-1]
    answer = client.get("/o/" + "x" * 43)
    assert (429, True) == (answer.status_code, int(answer.headers["retry-after"]) >= 1)


def test_no_address_of_a_visitor_is_kept(backends: Backends, client: TestClient) -> None:
    """Where an owner lives on the net is nobody's business either."""
    client.get("/o/" + "x" * 43)
    assert not [name for name in stored(backends) if "testclient" in name or "127.0.0.1" in name]


@pytest.mark.parametrize("make", [link_to, lambda *_: "/o/" + "x" * 43])
def test_a_page_is_closed_to_everything_else(
    backends: Backends, client: TestClient, make: Callable[[Backends, str], str]
) -> None:
    """No script, nothing from elsewhere, no trace in another site's log, no copy in a cache or a search engine."""
    answer = client.get(make(backends, case_of(backends)))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    assert ("no-referrer", "no-store") == (answer.headers["referrer-policy"], answer.headers["cache-control"])
    assert "noindex" in answer.headers["x-robots-tag"]
    assert "set-cookie" not in answer.headers
    assert not re.search(r"<script|\son\w+=|style=|https?://", answer.text)


def test_what_an_operator_writes_is_not_markup(backends: Backends, client: TestClient, tmp_path: Path) -> None:
    """A name in the catalogue that holds signs of HTML shows as it is written."""
    write_platform(tmp_path / "odd", "odd", name={"zh": "<b>x</b>", "en": "<script>x</script>"})
    odd = make_app(Door(backends=backends, catalogue=Catalogue.load(tmp_path / "odd")))
    text = TestClient(odd).get(link_to(backends, case_of(backends, ["odd"])) + "?lang=en").text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text


# -- withdrawal --------------------------------------------------------------------------------------------------------


def test_an_owner_withdraws(backends: Backends, client: TestClient) -> None:
    """With a tick and a button, without a script; afterwards the page says so and offers it no more."""
    case = case_of(backends)
    authorise(backends, case)
    path = link_to(backends, case)
    token = path.rpartition("/")[2]
    assert "<button" in client.get(path).text
    answer = client.post(f"{path}/withdraw?lang=zh", data={"token": token, "sure": "yes"})
    assert (303, f"{path}?lang=zh") == (answer.status_code, answer.headers["location"])
    page, data = shown(client, path)
    assert ("withdrawn", False) == (data["sum"], "<button" in page)
    assert {State.CANCELLED} == {record_of(backends, case, key).state for key in CATEGORIES}
    (entry,) = backends.actions.list(what=What.AUTHORISATION_WITHDRAW)
    assert (case, "owner, by link") == (entry.action.target, entry.action.who)


@pytest.mark.parametrize("said", [{}, {"sure": "yes"}, {"token": "x" * 43, "sure": "yes"}, {"sure": "no"}])
def test_nothing_is_withdrawn_by_accident(backends: Backends, client: TestClient, said: dict[str, str]) -> None:
    """Neither by a form without its tick, nor by one of another page."""
    case = case_of(backends)
    authorise(backends, case)
    path = link_to(backends, case)
    if said.get("sure") == "no":
        said["token"] = path.rpartition("/")[2]
    client.post(f"{path}/withdraw", data=said)
    assert State.QUEUED is record_of(backends, case, "chat").state


def test_a_case_without_an_authorisation_has_nothing_to_withdraw(backends: Backends, client: TestClient) -> None:
    """A bulk case rests on the operator's instrument; a form that is made up changes nothing."""
    case = case_of(backends)
    path = link_to(backends, case)
    assert "<button" not in client.get(path).text
    client.post(f"{path}/withdraw", data={"token": path.rpartition("/")[2], "sure": "yes"})
    assert State.QUEUED is record_of(backends, case, "chat").state


def test_what_is_over_cannot_be_withdrawn(backends: Backends, client: TestClient) -> None:
    """Neither when everything has ended, nor when the authorisation has."""
    case = case_of(backends, ["chat"])
    authorise(backends, case)
    assert isinstance(backends.clock, ManualClock)
    backends.clock.set(NOON + timedelta(days=9))
    assert "<button" not in client.get(link_to(backends, case)).text
    backends.clock.set(NOON)
    record(backends, "chat", [case], state=State.UNBOUND)
    assert "<button" not in client.get(link_to(backends, case)).text
