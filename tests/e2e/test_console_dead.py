"""Four hundred dead letters, by browser only: understood, replayed, stopped by their own canary, mended and settled."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backends.api_keys import Scope
from schemas.outcome import Fault
from schemas.state import STATES
from tests.fixtures_browser import Visitor
from tests.letters import accept, record
from tests.rig import Rig, limits_of, said

ILL, WELL = "ill", "well"
REJECTED, TIMED_OUT, CANARY = 300, 100, 10
PATIENCE_MS = 60_000
FAST: dict[str, object] = {"calls_per_s": 100, "in_flight": 8}
PLATFORMS: dict[str, dict[str, object]] = {ILL: {"protocol": "json", "limits": FAST}, WELL: {"limits": FAST}}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A small system at work, with four hundred letters of two causes; one of the platforms is not mended yet."""
    with Rig(tmp_path, catalogue=limits_of(PLATFORMS), RENEWAL_CONSOLE="127.0.0.1:0") as started:
        ill = accept(started.backends, [ILL], count=REJECTED)
        record(started.backends, ILL, ill)
        late = accept(started.backends, [WELL], count=TIMED_OUT, first=REJECTED)
        record(started.backends, WELL, late, reason=Fault.TIMEOUT)
        started.world.order(ILL, "reject_batch", status=400, cases=ill)
        yield started


def fill_in(page: Page, *, count: int, reason: str, button: str) -> None:
    """Say why and how many, and send the form."""
    page.get_by_label("Reason", exact=True).fill(reason)
    page.get_by_label(f"Type {count} to confirm").fill(str(count))
    page.get_by_role("button", name=button).click()


def test_four_hundred_dead_letters_are_settled_in_the_browser(rig: Rig, look: Visitor) -> None:
    """The night operator looks, and does not type commands."""
    up = rig.up(workers=1)
    key = rig.backends.api_keys.create("night", Scope.OPERATE, by="test", now=rig.backends.clock.now())[1]
    page = look()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(said(up, r"console on (http://\S+);"))
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Log in").click()

    # Understood: two causes, and one letter with what was answered.
    page.get_by_role("link", name=re.compile("^Dead letters")).first.click()
    expect(page.get_by_text("400 letters in 2 groups")).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("link", name=str(REJECTED), exact=True).click()
    page.locator("tbody a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("138****")
    expect(page.get_by_text("cannot read these requests")).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("link", name="Dead letters", exact=True).first.click()

    # Not mended after all: the canary shows it, and the rest is not sent.
    row = page.get_by_role("row").filter(has_text="request rejected")
    row.get_by_role("link", name="replay …").click()
    fill_in(page, count=REJECTED, reason="entry mended", button="Begin the replay")
    expect(page.get_by_text("stopped", exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text(f"canary: {CANARY} of {CANARY} failed again").first).to_be_visible(timeout=PATIENCE_MS)

    # Mended: it goes on where it was, live.
    rig.world.order(ILL, None)
    page.locator("summary", has_text="Go on").click()
    going_on = page.locator("details[open]")
    going_on.get_by_label("Reason", exact=True).fill("now it is")
    going_on.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("done", exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("[data-settled]")).to_have_text(str(REJECTED - CANARY), timeout=PATIENCE_MS)

    # The rest together, by ticks.
    page.get_by_role("link", name=re.compile("^Dead letters")).first.click()
    page.get_by_label("select page").check()
    page.get_by_role("button", name="replay …").click()
    fill_in(page, count=TIMED_OUT + CANARY, reason="both are well", button="Begin the replay")
    expect(page.get_by_text("done", exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("link", name=re.compile("^Dead letters")).first.click()
    expect(page.get_by_text("No dead letters.")).to_be_visible(timeout=PATIENCE_MS)
    assert all(STATES[job.state].final for _, _, job in rig.jobs.records())
