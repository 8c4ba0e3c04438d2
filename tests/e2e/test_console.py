"""The console in a real browser: it loads nothing from elsewhere, fits a phone, and is worked with by hand."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backends.api_keys import Scope
from backends.bootstrap import Backends
from ops.api.app import make_app
from ops.api.door import Door
from ops.console.place import PREFIX
from ops.console.visitor import COOKIE
from schemas.outcome import Fault, Refusal
from schemas.state import State
from tests.fixtures_browser import Visitor, faults_of, served
from tests.letters import accept, record
from tests.snapshots import PLATFORMS, catalogue_of

LOOKS = [(1280, "en", "light"), (390, "zh", "dark")]


@dataclass(frozen=True, kw_only=True)
class Console:
    """The console where a browser can reach it, and something of everything in its store."""

    backends: Backends
    address: str
    key: str
    cases: list[str]

    def log_in(self, page: Page) -> None:
        """Come in as a person does."""
        page.goto(f"{self.address}/")
        page.get_by_label(re.compile("Key|密钥")).fill(self.key)
        page.get_by_role("button", name=re.compile("Log in|登录")).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Overview|总览"))

    def enter(self, page: Page, path: str = "/") -> None:
        """Open a page with a session that has begun already: once in this file is often enough to type a key."""
        cookie, _ = self.backends.sessions.begin(self.key.split("_")[1])
        page.context.add_cookies([{"name": COOKIE, "value": cookie, "url": f"{self.address}{PREFIX}/"}])
        page.goto(f"{self.address}{PREFIX}{path}")

    @property
    def pages(self) -> list[str]:
        """Return every page."""
        return [
            "/", "/alerts", "/platforms", "/platforms/alpha", "/numbers", f"/cases/{self.cases[0]}",
            f"/cases/{self.cases[0]}/alpha", "/actions", "/runbooks/no_worker",
            "/platforms/act?verb=pause&key=alpha", "/platforms/act?verb=limit&key=alpha",
        ]  # fmt: skip


@pytest.fixture
def console(backends: Backends, tmp_path: Path) -> Iterator[Console]:
    """A served console over a store that holds jobs in several states, a pause and a suspension."""
    cases = accept(backends, PLATFORMS, count=8)
    for attempt in range(1, 4):
        record(backends, "alpha", cases[:2], state=State.WAITING, reason=Fault.SERVER_ERROR, attempt=attempt)
    record(backends, "alpha", cases[:2], reason=Fault.SERVER_ERROR, attempt=4, detail="HTTP 503 for a long time")
    record(backends, "alpha", cases[2:], state=State.UNBOUND)
    record(backends, "beta", cases[:3], state=State.REFUSED, reason=Refusal.FUNDS_OR_DEBT)
    record(backends, "beta", cases[3:5], state=State.ACCEPTED)
    record(backends, "beta", cases[5:7], state=State.PENDING_REVIEW)
    backends.gates.suspend("beta", reason="the secret is out of date")
    _, key = backends.api_keys.create("night", Scope.ADMIN, by="test", now=backends.clock.now())
    app = make_app(Door(backends=backends, catalogue=catalogue_of(tmp_path / "catalogue", category="bank")))
    with served(app) as address:
        yield Console(backends=backends, address=address, key=key, cases=cases)


@pytest.mark.parametrize(("width", "language", "theme"), LOOKS)
def test_every_page_fits_is_readable_and_breaks_no_policy(
    console: Console, look: Visitor, *, width: int, language: str, theme: str
) -> None:
    """On a desk and on a phone, in both languages and themes; a blocked style or script would be a complaint."""
    page = look(width=width, language=language, theme=theme)
    page.goto(f"{console.address}/console/login")
    assert [] == faults_of(page)
    console.log_in(page)
    for path in console.pages:
        page.goto(f"{console.address}/console{path}")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert [] == faults_of(page), path


def test_a_platform_is_paused_with_a_reason_by_hand(console: Console, look: Visitor) -> None:
    """From the board to the gate: search, tick, say why, and see it."""
    page = look()
    console.enter(page, "/platforms")
    page.get_by_role("searchbox").fill("alp")
    expect(page.get_by_role("row")).to_have_count(2)
    assert "q=alp" in page.url
    page.get_by_role("checkbox", name="Select alpha").check()
    expect(page.locator("[data-count-selected]")).to_have_text("1")
    page.get_by_role("button", name="pause").click()
    page.get_by_label("For how long").fill("2h")
    page.get_by_role("button", name="pause").click()
    # Without a reason the browser itself does not send the form.
    assert [] == console.backends.actions.list()
    page.get_by_label("Reason").fill("contract window closed")
    page.get_by_label("For how long").fill("")
    page.get_by_role("button", name="pause").click()
    expect(page.get_by_role("status").first).to_have_text("1 paused.")
    expect(page.locator(".figures")).to_contain_text("paused")
    (entry,) = console.backends.actions.list()
    assert ("alpha", "contract window closed", "console:night") == (
        entry.action.target, entry.action.reason, entry.action.who,
    )  # fmt: skip


def test_what_changes_is_seen_without_loading_the_page_again(console: Console, look: Visitor) -> None:
    """Somebody who watches at night sees the next dead letter by itself."""
    page = look()
    console.enter(page)
    dead = page.locator(".figures a[href$='/dead'] dd").first
    expect(dead).to_have_text("2")
    record(console.backends, "alpha", console.cases[7:], generation=1, reason=Fault.TIMEOUT, state=State.DEAD)
    record(console.backends, "beta", console.cases[7:], reason=Fault.TIMEOUT, state=State.DEAD)
    expect(dead).to_have_text("3")


def test_language_and_theme_are_switched_and_stay(console: Console, look: Visitor) -> None:
    """A shift changes at six, and the next reads Chinese in the dark."""
    page = look()
    console.enter(page)
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("总览")
    page.get_by_role("button", name="跟随系统").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto(f"{console.address}/console/platforms")
    expect(page.get_by_role("heading", level=1)).to_have_text("平台")
    assert "rgb(20, 22, 25)" == page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_pages_are_worked_with_by_keyboard(console: Console, look: Visitor) -> None:
    """Who looks at eighty things an hour does not reach for the mouse."""
    page = look()
    console.enter(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.type("gp")
    expect(page.get_by_role("heading", level=1)).to_have_text("Platforms")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.type("jjx")
    expect(page.locator("[data-count-selected]")).to_have_text("1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("alpha")
    page.keyboard.type("gn")
    expect(page.get_by_role("heading", level=1)).to_have_text("Numbers")


def test_everything_works_without_javascript(console: Console, look: Visitor) -> None:
    """A terminal server's old browser is enough to stop a platform."""
    page = look(script=False)
    console.enter(page, "/platforms")
    page.get_by_role("searchbox").fill("alpha")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_role("link", name="pause").click()
    page.get_by_label("Reason").fill("by hand")
    page.get_by_role("button", name="pause").click()
    expect(page.locator(".figures")).to_contain_text("paused")


def test_a_request_is_followed_from_its_number_to_its_attempts(console: Console, look: Visitor) -> None:
    """The customer's desk has a number and wants to know whose turn it is."""
    page = look()
    console.enter(page, "/numbers")
    page.get_by_label("Phone number").fill("138 0000 0000")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("138****0000")
    page.get_by_role("row").filter(has_text="alpha").get_by_role("link").first.click()
    expect(page.locator(".timeline")).to_contain_text("× 3")
    expect(page.locator(".timeline")).to_contain_text("HTTP 503 for a long time")
    page.go_back()
    page.get_by_text("Show the whole number").click()
    page.get_by_label("Reason").fill("the owner asked")
    page.get_by_role("button", name="Show it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("+8613800000000")
