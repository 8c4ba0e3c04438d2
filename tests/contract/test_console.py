"""The frame of the console: who comes in, what a browser is told, and what a form must carry."""

from pathlib import Path

import pytest

from backends.api_keys import Scope
from backends.bootstrap import Backends
from ops.api.access import OF_BAD_KEYS
from ops.console.shield import POLICY
from tests.snapshots import catalogue_of
from tests.visiting import ORIGIN, Visit


@pytest.fixture
def visit(backends: Backends, tmp_path: Path) -> Visit:
    """A browser that has shown nothing yet."""
    return Visit(backends, catalogue_of(tmp_path / "catalogue"))


def test_nobody_sees_a_page_without_a_key(visit: Visit) -> None:
    """The login page comes first, and leads back to where somebody wanted to go."""
    answer = visit.get("/?a=b")
    assert (303, "/console/login?next=%2Fconsole%2F%3Fa%3Db") == (answer.status_code, answer.headers["location"])
    assert "form_token" not in visit.page("/login")


def test_a_wrong_key_opens_nothing(visit: Visit) -> None:
    """No cookie is set, and nothing says what was wrong about the key."""
    answer = visit.enter("nrk_0000000000_x")
    assert 401 == answer.status_code
    assert "renewal_session" not in answer.headers.get("set-cookie", "")


def test_whoever_tries_keys_has_to_wait(visit: Visit) -> None:
    """After some wrong ones an address is told so, and a right key still opens: nobody can be locked out."""
    answers = [visit.enter("nrk_0000000000_x") for _ in range(OF_BAD_KEYS.burst + 1)]
    assert ([401] * OF_BAD_KEYS.burst, 429) == ([each.status_code for each in answers[:-1]], answers[-1].status_code)
    assert 303 == visit.enter(visit.key()).status_code


def test_a_session_s_cookie_cannot_be_read_or_carried_elsewhere(visit: Visit) -> None:
    """No script reads it, no other site sends it, and it goes to the console alone."""
    text = visit.key(Scope.READ)
    answer = visit.enter(text)
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/console"} <= set(cookie.split("; "))
    assert text not in cookie


def test_a_key_that_is_revoked_ends_its_sessions(visit: Visit) -> None:
    """Who took a key away does not wait for the end of a shift."""
    ident = visit.log_in()
    visit.page("/")
    visit.backends.api_keys.revoke(ident, now=visit.backends.clock.now())
    assert 303 == visit.get("/").status_code


def test_after_logging_out_the_cookie_opens_nothing(visit: Visit) -> None:
    """It ends in the store too: a copy of the cookie is worth nothing."""
    visit.log_in()
    cookie = f"renewal_session={visit.cookies['renewal_session']}"
    token = visit.token
    visit.cookies.clear()
    assert 200 == visit.get("/", Cookie=cookie).status_code
    visit.ask("POST", "/console/logout", data={"form_token": token}, headers={"Origin": ORIGIN, "Cookie": cookie})
    assert 303 == visit.get("/", Cookie=cookie).status_code


@pytest.mark.parametrize("path", ["/", "/login", "/no-such-page"])
def test_every_answer_forbids_foreign_and_inline_code(visit: Visit, path: str) -> None:
    """One text that slipped through unescaped must still run nowhere."""
    visit.log_in()
    answer = visit.get(path)
    assert POLICY == answer.headers["content-security-policy"]
    assert "unsafe" not in POLICY
    assert "no-store" == answer.headers["cache-control"]
    assert "nosniff" == answer.headers["x-content-type-options"]


def test_files_are_kept_by_browsers_under_the_name_of_their_content(visit: Visit) -> None:
    """A page loads at once the second time, and a new version under a new name."""
    visit.log_in()
    page = visit.page("/")
    for name in ("console.css", "console.js", "htmx.min.js"):
        address = page.split(f"/console/static/{name}?v=")[1].split('"')[0]
        answer = visit.get(f"/static/{name}?v={address}")
        assert (200, True) == (answer.status_code, "immutable" in answer.headers["cache-control"])


@pytest.mark.parametrize(
    ("origin", "token"),
    [("http://testserver", "0" * 32), ("https://evil.example", None), (None, None), ("null", None)],
)
def test_a_form_of_another_site_changes_nothing(visit: Visit, origin: str | None, token: str | None) -> None:
    """Neither the cookie alone nor a token of somebody else's is enough."""
    visit.log_in()
    assert 409 == visit.send("/logout", token=token, origin=origin).status_code
    visit.page("/")


def test_a_foreign_site_cannot_log_somebody_in(visit: Visit) -> None:
    """Or a stranger's session would be worked in unseen."""
    answer = visit.enter(visit.key(), origin="https://evil.example")
    assert (409, False) == (answer.status_code, "renewal_session" in answer.headers.get("set-cookie", ""))


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/console//evil.example", "/console/\\evil"])
def test_after_logging_in_nobody_is_led_elsewhere(visit: Visit, to: str) -> None:
    """A link to the login page may come from anybody."""
    answer = visit.enter(visit.key(), next=to)
    assert "/console/" == answer.headers["location"]


def test_language_and_theme_are_kept(visit: Visit) -> None:
    """What was chosen beats what the browser likes."""
    visit.log_in()
    assert 'lang="zh-CN"' in visit.page("/", language="zh-CN,zh;q=0.9,en;q=0.8")
    sent = visit.send("/look", {"language": "zh", "back": "/console/"})
    assert (303, "/console/") == (sent.status_code, sent.headers["location"])
    visit.send("/look", {"theme": "dark", "back": "/console/"})
    assert '<html lang="zh-CN" data-theme="dark">' in visit.page("/", language="en")


def test_a_page_that_is_not_there_says_so_in_the_visitor_s_language(visit: Visit) -> None:
    """An error is a page with a way back, not a text for programs."""
    answer = visit.get("/no-such-page", language="zh")
    assert (404, True) == (answer.status_code, "未找到" in answer.text)


def test_what_is_live_is_also_there_for_browsers_without_events(visit: Visit) -> None:
    """Where a proxy swallows events, the page asks again and again."""
    visit.log_in()
    answer = visit.get("/live/overview?once=1")
    assert (200, True) == (answer.status_code, "<dl" in answer.text)
    assert "<html" not in answer.text
