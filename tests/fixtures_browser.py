"""Fixtures: a browser, and our app where it can reach it. What the browser complains of fails the test."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.command import wait_until

Visitor = Callable[..., Page]
# The text of every element that has any, with its contrast to what is behind it (WCAG 2.2, 1.4.3), where that is low.
_FAINT = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const opacity = (element) => {
    let all = 1;
    for (let e = element; e; e = e.parentElement) all *= Number(getComputedStyle(e).opacity);
    return all;
  };
  return [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && e.closest("svg") === null
    && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())).map((e) => {
      const ground = behind(e), part = opacity(e);
      const ink = channels(getComputedStyle(e).color).slice(0, 3).map((c, i) => c * part + ground[i] * (1 - part));
      const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), e.textContent.trim().slice(0, 40)];
    }).filter(([contrast]) => contrast < 4.5).map(([contrast, text]) => `${contrast.toFixed(2)} ${text}`);
}"""


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app of this process on a free port. Yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            wait_until(lambda: server.started, what="the server")
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            app.state.door.ending.set()
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium without a screen, as the system has it; its loop must be gone before another module has one."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium: the pages were looked at by nobody (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(chromium: Browser) -> Iterator[Visitor]:
    """Return what opens a page: of a width, in a language and a theme, with or without JavaScript."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def opened(*, width: int = 1280, language: str = "en", theme: str = "light", script: bool = True) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, locale={"en": "en-GB", "zh": "zh-CN"}[language],
            color_scheme="dark" if theme == "dark" else "light", java_script_enabled=script,
        )  # fmt: skip
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("console", lambda told: complaints.append(told.text) if told.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [] == complaints


def faults_of(page: Page) -> list[str]:
    """Return what is wrong with a page as it is drawn: wider than its window, or text that is hard to read."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    faint: list[str] = page.evaluate(_FAINT)
    return ([f"{wide} pixels wider than the window"] if wide > 0 else []) + faint
