"""The desk in a real browser: log in, label by keyboard, undo, look around, decide.

Prefect and MLflow are not there: what a decision leads to is tested in `test_promote`. Screenshots
are kept in `test-artefacts/desk`.
"""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from desk_home import PASSWORD, SURVEY, make_desk

from flows.review_desk.app import create_app
from storage.label_store import read_labels

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
ARTEFACTS = Path(__file__).resolve().parents[2] / "test-artefacts" / "desk"
WIDTHS = (1280, 390)
LABELLED = 14

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium at /usr/bin/chromium"),
]


@contextmanager
def serving(desk):
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


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield made
        made.close()


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.lineage.trace_model", lambda _, model: model.model_dump())
    return make_desk(tmp_path / "made").fresh(tmp_path)


@pytest.fixture
def url(desk):
    with serving(desk.desk) as address:
        yield address


def new_page(browser, width=1280):
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.set_default_timeout(30_000)
    return page


def log_in(page, url, name, target="/"):
    page.goto(f"{url}{target}")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}{target}")


def keep(page, name):
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


def answers(desk):
    if not desk.settings.labels_path.exists():
        return []
    return read_labels(desk.settings.labels_path, SURVEY, "morphology")["answer"].tolist()


def press_and_wait(page, key):
    """Press a key and wait until another object, or the end, is on the page."""
    before = page.locator("main").element_handle()
    page.keyboard.press(key)
    page.wait_for_function("old => !old.isConnected", arg=before)


def test_a_round_is_labelled_by_keyboard_alone(browser, desk, url):
    number = desk.open_round(LABELLED, blind=False)
    page = new_page(browser)
    log_in(page, url, "ann", f"/label/{number}")
    keep(page, "one")
    keys = "1234" * 4
    for key in keys[: LABELLED - 3]:
        press_and_wait(page, key)
    assert len(answers(desk)) == LABELLED - 3
    press_and_wait(page, "u")
    assert answers(desk)[-1] == answers(desk)[-2]  # the row that takes it back
    press_and_wait(page, "2")
    press_and_wait(page, "0")
    page.keyboard.press("c")
    page.keyboard.type("is it 1 or 2?")  # digits in a comment are no answers
    page.keyboard.press("Escape")
    press_and_wait(page, "3")
    press_and_wait(page, "s")
    assert page.get_by_text("Nothing left for you here").is_visible()
    rows = read_labels(desk.settings.labels_path, SURVEY, "morphology")
    assert rows.iloc[-1]["comment"] == "is it 1 or 2?"
    assert rows.iloc[-2]["answer"] == "unsure"
    assert rows["count"].sum() == LABELLED - 1
    assert page.complaints == []
    keep(page, "one-done")


def test_a_grid_is_labelled_by_keyboard_and_the_rest_accepted(browser, desk, url):
    number = desk.open_round(9, blind=False)
    page = new_page(browser)
    log_in(page, url, "ann", f"/label/{number}/grid")
    for key in ("3", "ArrowRight", "4", "ArrowLeft", "1"):
        page.keyboard.press(key)
    assert page.locator(".cell.answered").count() == 2
    keep(page, "grid")
    press_and_wait(page, "Enter")
    assert sorted(answers(desk)) == ["elliptical", "spiral"]
    before = page.locator("main").element_handle()
    page.get_by_role("button", name="Accept confident ones").click()
    page.wait_for_function("old => !old.isConnected", arg=before)
    assert page.locator(".cell").count() == 2  # of these the model was not sure
    assert len(answers(desk)) == 7
    assert page.complaints == []


def test_the_view_follows_the_keys_and_goes_into_the_ledger(browser, desk, url):
    number = desk.open_round(3)
    page = new_page(browser)
    log_in(page, url, "ann", f"/label/{number}")
    for key in ("]", "]", "b", "z", "n"):
        page.keyboard.press(key)
    source = page.locator("[data-picture]").get_attribute("src")
    for part in ("stretch=2", "layer=g", "zoom=2", "neighbours=1"):
        assert part in source
        assert part in page.url
    press_and_wait(page, "1")
    shown = read_labels(desk.settings.labels_path, SURVEY, "morphology").iloc[0]["shown"]
    assert '"layer": "g", "stretch": 2, "zoom": 2, "neighbours": true' in shown
    assert "stretch=2" in page.locator("[data-picture]").get_attribute("src")
    assert page.complaints == []


def test_labelling_works_without_scripts(browser, desk, url):
    number = desk.open_round(2)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/login?next=/label/{number}")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="spiral").click()
    page.get_by_role("button", name="undo").click()
    page.get_by_role("button", name="other").click()
    assert answers(desk) == ["spiral", "spiral", "other"]


def test_a_server_that_went_away_is_told_and_nothing_is_lost(browser, desk):
    number = desk.open_round(3)
    page = new_page(browser)
    with serving(desk.desk) as url:
        log_in(page, url, "ann", f"/label/{number}")
        page.wait_for_load_state("networkidle")
    page.keyboard.press("1")
    page.get_by_text("nothing was recorded").first.wait_for()
    assert answers(desk) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_fits_and_is_reached_by_tab(browser, desk, url, width):
    number = desk.open_round(6, blind=False)
    page = new_page(browser, width)
    log_in(page, url, "root", "/help")
    paths = {"home": "/", "label": "/label", "one": f"/label/{number}", "history": "/history"}
    paths |= {"grid": f"/label/{number}/grid", "explore": "/explore", "help": "/help"}
    paths |= {"object": f"/object/{desk.ids[0]}?survey={SURVEY}", "approve": "/approve"}
    paths |= {"rounds": "/history?what=rounds", "labels": "/history?what=labels"}
    for name, path in paths.items():
        page.goto(url + path)
        keep(page, f"{name}-{width}")
        assert page.evaluate(_OVERFLOW) <= 0, f"{name} is wider than {width} pixels"
        assert page.evaluate(_UNREACHABLE) == [], name
        assert page.evaluate(_FAINT) == [], name
    assert page.complaints == []


_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Everything that can be operated is reached by Tab, or by the keys of the grid.
_UNREACHABLE = """() => [...document.querySelectorAll("a, button, input, select, summary")]
  .filter((e) => e.type !== "hidden" && e.tabIndex < 0 && !e.closest(".cell"))
  .map((e) => e.outerHTML.slice(0, 80))"""
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
