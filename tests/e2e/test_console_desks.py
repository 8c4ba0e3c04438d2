"""The desks in a real browser: every page fits and is readable, and what is ticked is what is meant."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backends.api_keys import Scope
from backends.bootstrap import Backends
from backends.dead import DeadFilter
from backends.sweeps import Ending, Night
from ops.api.app import make_app
from ops.api.door import Door
from ops.replay_desk import ReplayDesk
from producers.foresight import foresee
from schemas.ids import job_id, new_id
from schemas.outcome import Fault
from schemas.state import State
from tests.fixtures_browser import Visitor, faults_of, served
from tests.fixtures_valkey import NOON
from tests.letters import accept, record, wait
from tests.snapshots import PLATFORMS, catalogue_of

LOOKS = [(1280, "en", "light"), (390, "zh", "dark")]
DAY = date(2026, 10, 31)
SWEEP = """
name: pool
inventory: {path: pool.csv}
at: "22:30"
days_before_release: 7
catch_up: {rule: none}
"""


@dataclass(frozen=True, kw_only=True)
class Desks:
    """The console where a browser can reach it, with something on every desk."""

    backends: Backends
    address: str
    key: str
    pages: tuple[str, ...]

    def enter(self, page: Page, path: str) -> None:
        """Come in, to a page."""
        page.goto(f"{self.address}/console{path}")
        page.get_by_label(re.compile("Key|密钥")).fill(self.key)
        page.get_by_role("button", name=re.compile("Log in|登录")).click()
        expect(page.get_by_role("heading", level=1)).to_have_count(1)


@pytest.fixture
def desks(backends: Backends, tmp_path: Path) -> Iterator[Desks]:
    """Letters of two causes, old and new, a replay, batches that wait, a run, a sweep with a night and its forecast."""
    catalogue = catalogue_of(tmp_path / "catalogue")
    run = new_id()
    cases = accept(backends, PLATFORMS, count=6, run=run)
    for attempt in (1, 2, 3):
        record(backends, "alpha", cases[:4], state=State.WAITING, reason=Fault.SERVER_ERROR, attempt=attempt)
    record(backends, "alpha", cases[:4], reason=Fault.SERVER_ERROR, attempt=4, at=NOON - timedelta(days=3))
    record(backends, "beta", cases[:2], detail="field phone: expected 11 digits")
    record(backends, "beta", cases[2:], state=State.UNBOUND)
    batch = wait(backends, "alpha", cases[4:], due=NOON + timedelta(hours=1), run=run)
    wanted = DeadFilter(platforms=frozenset({"beta"}))
    jobs = [job_id(case, "beta") for case in cases[:2]]
    replay = ReplayDesk(backends, who="console:day").ask(jobs, reason="mended", wanted=wanted, state="DEAD", canary=10)
    folder = tmp_path / "sweeps"
    folder.mkdir()
    (folder / "pool.yaml").write_text(SWEEP)
    object.__setattr__(backends.settings, "sweeps", folder)
    night = Night(day=DAY.isoformat(), run=run, begun_ms=int(NOON.timestamp() * 1000), planned=6, accepted=6,
                  ending=Ending.OVERTAKEN, refused={"too_early": 3}, why="the next night began")  # fmt: skip
    backends.redis.hset(backends.keys.sweep_nights("pool"), night.day, night.packed())
    release = {DAY + timedelta(days=5): 6}
    foreseen = foresee(
        list(catalogue), dict.fromkeys(PLATFORMS, release), start=NOON, until=NOON + timedelta(hours=8), standings={}
    )
    backends.sweeps.keep_forecast("pool", DAY, foreseen.to_json())
    _, key = backends.api_keys.create("night", Scope.ADMIN, by="test", now=NOON)
    pages = (
        "/dead", "/dead/letters", f"/dead/jobs/{jobs[0]}", "/dead/replay?cause=alpha:server_error",
        "/dead/discard?cause=alpha:server_error", "/dead/replays", f"/dead/replays/{replay}", "/retries",
        "/retries/batches", f"/retries/batches/{batch.id}", "/retries/act?verb=cancel&platform=alpha", "/runs",
        f"/runs/{run}", f"/runs/{run}/platforms", f"/runs/{run}/cancel", "/sweeps", "/sweeps/pool",
        f"/sweeps/pool/nights/{DAY}", f"/sweeps/pool/nights/{DAY}?compare=1", "/withdrawals",
    )  # fmt: skip
    with served(make_app(Door(backends=backends, catalogue=catalogue))) as address:
        yield Desks(backends=backends, address=address, key=key, pages=pages)


@pytest.mark.parametrize(("width", "language", "theme"), LOOKS)
def test_every_page_of_the_desks_fits_is_readable_and_breaks_no_policy(
    desks: Desks, look: Visitor, *, width: int, language: str, theme: str
) -> None:
    """On a desk and on a phone, in both languages and themes; a blocked style or script would be a complaint."""
    page = look(width=width, language=language, theme=theme)
    desks.enter(page, "/dead")
    for path in desks.pages:
        page.goto(f"{desks.address}/console{path}")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert [] == faults_of(page), path


def test_what_a_filter_hides_is_not_swept_along(desks: Desks, look: Visitor) -> None:
    """The page of letters is filtered in place: ticks and `all that fit` mean what is seen after it, and no more."""
    page = look()
    desks.enter(page, "/dead")
    expect(page.get_by_text("6 letters in 2 groups")).to_be_visible()
    page.get_by_label("Died within").select_option("24h")
    expect(page.get_by_text("2 letters in 1 groups")).to_be_visible()
    page.get_by_label("select page").check()
    expect(page.locator("[data-count-selected]")).to_have_text("1")
    page.get_by_role("button", name="discard …").click()
    page.get_by_label("Reason", exact=True).fill("rows are wrong")
    page.get_by_label("Type 2 to confirm").fill("2")
    page.get_by_role("button", name="Discard them").click()
    expect(page.get_by_text("2 of 2 letters are discarded")).to_be_visible()
    assert 4 == desks.backends.dead.count()
