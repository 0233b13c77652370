"""Debian's Chromium without a window: pages, keys, pictures of pages, and what is wrong with one.

Screenshots are kept in `test-artefacts/desk`, or where BRICKYARD_TEST_ARTEFACTS says.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from desk_home import PASSWORD

from flows.review_desk.app import create_app

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
REPOSITORY = Path(__file__).resolve().parents[1]
WIDTHS = (1280, 390)
TWO_ROWS = 104  # pixels
# Without WebGL: Prefect's page of a run draws a graph with it, which takes a core for itself.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-software-rasterizer")

needs_chromium = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="no chromium at /usr/bin/chromium"
)


@contextmanager
def launched() -> Iterator:
    """Run a browser while the block runs."""
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield made
        made.close()


@contextmanager
def serving(desk) -> Iterator[str]:
    """Run the desk in a thread and give its address."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(desk, ["127.0.0.1"]), port=0, log_level="warning")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def new_page(browser, width: int = 1280):
    """Open a page in which nobody is logged in; its `complaints` are errors of scripts."""
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.set_default_timeout(60_000)
    return page


def log_in(page, url: str, name: str, target: str = "/") -> None:
    """Log in at the desk with the keyboard."""
    page.goto(f"{url}{target}")
    page.wait_for_function("document.activeElement.name === 'name'")  # by itself, a moment later
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}{target}")


def press_and_wait(page, key: str) -> None:
    """Press a key and wait until another object, or the end, is on the page."""
    before = page.locator("main").element_handle()
    page.keyboard.press(key)
    page.wait_for_function("old => !old.isConnected", arg=before)


def tab_to(page, name: str, most: int = 60) -> None:
    """Press Tab until something of this name has the focus; it must be seen to have it, always.

    Raises
    ------
    LookupError
        If it is not reached.
    """
    for _ in range(most):
        page.keyboard.press("Tab")
        here = page.evaluate(_FOCUSED)
        assert here["seen"], f"nobody sees that {here['name']!r} has the focus"
        if here["name"].startswith(name):
            return
    raise LookupError(f"{name!r} is not reached with {most} times Tab")


def keep(page, name: str) -> None:
    """Keep a picture of the whole page."""
    folder = os.environ.get("BRICKYARD_TEST_ARTEFACTS", str(REPOSITORY / "test-artefacts"))
    page.wait_for_load_state("networkidle")
    page.screenshot(path=Path(folder) / "desk" / f"{name}.png", full_page=True)


def faults(page) -> dict[str, object]:
    """Return what keeps somebody from using a page of the desk; nothing when all is well."""
    found = {
        "wider than the window by": max(0, page.evaluate(_OVERFLOW)),
        "not reached by Tab": page.evaluate(_UNREACHABLE),
        "too faint": page.evaluate(_FAINT),
        "hides something at its side": page.evaluate(_MUTE),
        "header higher than two rows": max(0, page.evaluate(_HEADER) - TWO_ROWS),
        "complaints": page.complaints,
    }
    return {name: what for name, what in found.items() if what}


_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_HEADER = "document.querySelector('header').offsetHeight"
# What scrolls sideways says so, and the keyboard gets there.
_MUTE = """() => [...document.querySelectorAll("main *")]
  .filter((e) => /auto|scroll/.test(getComputedStyle(e).overflowX))
  .filter((e) => e.scrollWidth > e.clientWidth + 1 && !(e.matches(".wide") && e.tabIndex === 0))
  .map((e) => e.outerHTML.slice(0, 80))"""
# Everything that can be operated is reached by Tab, or by the keys of the grid.
_UNREACHABLE = """() => [...document.querySelectorAll("a, button, input, select, summary")]
  .filter((e) => e.type !== "hidden" && e.tabIndex < 0 && !e.closest(".cell"))
  .map((e) => e.outerHTML.slice(0, 80))"""
# What has the focus, and whether it differs for the eye from when it had not.
_FOCUSED = """() => {
  const e = document.activeElement, style = getComputedStyle(e);
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const box = e.getBoundingClientRect();
  const label = e.labels?.length ? e.labels[0].textContent : "";
  const inside = box.width > 0 && box.bottom > 0 && box.top < innerHeight;
  const name = (label || e.getAttribute("aria-label") || e.textContent || e.tagName).trim();
  return { name, seen: e === document.body || (inside && (ring || style.boxShadow !== "none")) };
}"""
# Text whose contrast with what is behind it is below 4.5 (WCAG AA).
_FAINT = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [0, 0, 0];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim()) continue;
    if (!e.checkVisibility() || e.closest("title")) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(1)} ${e.textContent.trim().slice(0, 40)}`);
  }
  return found;
}"""
