"""The desk in a real browser: log in, label by keyboard, undo, look around.

Prefect and MLflow are not there: decisions are made in `test_desk_decisions_browser`.
"""

import pytest
from chromium import (
    WIDTHS,
    faults,
    keep,
    launched,
    log_in,
    needs_chromium,
    new_page,
    press_and_wait,
    serving,
)
from desk_home import PASSWORD, SURVEY, make_desk

from storage.label_store import read_labels

LABELLED, LEFT = 20, 2  # objects answered, and objects skipped or unsure, of one round

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with launched() as made:
        yield made


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.lineage.trace_model", lambda _, model: model.model_dump())
    monkeypatch.setattr("desk_home.COUNT", 12)  # of each of two bricks: more than are labelled
    return make_desk(tmp_path / "made").fresh(tmp_path)


@pytest.fixture
def url(desk):
    with serving(desk.desk) as address:
        yield address


def answers(desk):
    if not desk.settings.labels_path.exists():
        return []
    return read_labels(desk.settings.labels_path, SURVEY, "morphology")["answer"].tolist()


def test_a_round_is_labelled_by_keyboard_alone(browser, desk, url):
    number = desk.open_round(LABELLED + LEFT, blind=False)
    page = new_page(browser)
    log_in(page, url, "ann", f"/label/{number}")
    keep(page, "one")
    for key in ("1234" * LABELLED)[: LABELLED - 1]:
        press_and_wait(page, key)
    assert len(answers(desk)) == LABELLED - 1
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
    assert rows["count"].sum() == LABELLED + 1  # the skipped one has no row
    said = rows.groupby("answer")["count"].sum()
    assert said.to_dict() == {"elliptical": 5, "edge-on": 6, "spiral": 5, "other": 4, "unsure": 1}
    assert desk.queue.round(number).missing == 1
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


def test_every_page_fits_and_is_reached_by_tab(browser, desk, url):
    number = desk.open_round(6, blind=False)
    page = new_page(browser)
    log_in(page, url, "root", "/help")
    paths = {"home": "/", "label": "/label", "one": f"/label/{number}", "history": "/history"}
    paths |= {"grid": f"/label/{number}/grid", "explore": "/explore", "help": "/help"}
    paths |= {"object": f"/object/{desk.ids[0]}?survey={SURVEY}", "approve": "/approve"}
    paths |= {"rounds": "/history?what=rounds", "labels": "/history?what=labels"}
    for name, path in paths.items():
        page.goto(url + path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            keep(page, f"{name}-{width}")
            assert faults(page) == {}, (name, width)
