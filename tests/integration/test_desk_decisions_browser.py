"""Decisions made in a real browser, at the desk and in Prefect's own pages, and what comes of them.

Prefect, MLflow and the desk are real processes; registry and record are looked at afterwards.
"""

import re

import pytest
from chromium import (
    WIDTHS,
    faults,
    keep,
    launched,
    log_in,
    needs_chromium,
    new_page,
    playwright,
    tab_to,
)
from promotion_gate import champions
from promotions_that_wait import Waiting, promotions_that_wait

from tasks import tracking
from tasks.audit import audit_registry
from tasks.decisions import Event, LedgerEvent, read_events

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with promotions_that_wait(tmp_path_factory.mktemp("decisions") / "home") as found:
        yield found


@pytest.fixture(scope="module")
def browser(place):
    with launched() as made:
        yield made


def events_of(place: Waiting, run_id: str) -> list[LedgerEvent]:
    """Return what was recorded of the case of a run."""
    found = read_events(place.settings)
    mine = {
        e.case_id
        for e in found
        if e.event is Event.OPENED and e.body["case"]["flow_run_id"] == run_id
    }
    return [e for e in found if e.case_id in mine and e.event is not Event.GROUNDS]


def names_of(events: list[LedgerEvent]) -> list[str]:
    return [item.event.value for item in events]


def check_moved_once(place: Waiting, run_id: str, version: str) -> None:
    """Check that the approval of a run made a version champion, once, and nothing else did."""
    assert place.state(run_id) == "Completed"
    assert names_of(events_of(place, run_id)).count("moved") == 1
    assert champions(place.settings)[0] == version
    assert audit_registry(place.settings).found == ()


def approve_at_desk(browser, place: Waiting, name: str) -> tuple[str, str]:
    """Approve a new challenger with the mouse; return its version and run."""
    model, run_id = place.challenger()
    page = new_page(browser)
    log_in(page, place.desk_url, name, f"/approve/{run_id}")
    page.get_by_label("Reason").fill("better in every class")
    page.get_by_role("button", name="Approve", exact=True).click()
    page.get_by_role("heading", name="Approved").wait_for()
    page.context.close()
    place.go_on(run_id)
    return model.version, run_id


def test_a_challenger_is_approved_at_the_desk_by_keyboard_alone(browser, place):
    model, run_id = place.challenger()
    before = champions(place.settings)[0]
    page = new_page(browser)
    log_in(page, place.desk_url, "eve", "/approve")
    tab_to(page, f"morphology version {model.version}")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/approve/{run_id}")
    keep(page, "case-1280")
    assert faults(page) == {}
    tab_to(page, "Reason")
    page.keyboard.type("finds more spirals")
    tab_to(page, "Approve")
    keep(page, "case-focus")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Approved").wait_for()
    keep(page, "approved")
    assert faults(page) == {}
    place.go_on(run_id)
    check_moved_once(place, run_id, model.version)
    assert champions(place.settings)[1:] == [before, None]
    decided = events_of(place, run_id)[1]
    assert names_of(events_of(place, run_id)) == ["opened", "decided", "moving", "moved", "closed"]
    assert (decided.body["user"], decided.body["proof"]) == ("eve", "session")
    assert decided.body["reason"] == "finds more spirals"
    tags = tracking.version_tags(place.settings, model)
    assert (tags["decision"], tags["decision.user"]) == ("approved", "eve")


def test_another_is_rejected_on_a_telephone(browser, place):
    champion = champions(place.settings)[:2]
    model, run_id = place.challenger()
    page = new_page(browser, 390)
    log_in(page, place.desk_url, "eve", "/approve")
    keep(page, "approve-waits-390")
    assert faults(page) == {}
    page.get_by_role("link", name=f"morphology version {model.version}").click()
    page.wait_for_url(f"**/approve/{run_id}")
    keep(page, "case-390")
    assert faults(page) == {}
    page.get_by_role("button", name="Reject").click()  # without a reason: it is asked for
    assert page.url.endswith(f"/approve/{run_id}")
    assert names_of(events_of(place, run_id)) == ["opened"]
    page.get_by_label("Reason").fill("misses the faint ones")
    page.get_by_role("button", name="Reject").click()
    page.get_by_role("heading", name="Rejected").wait_for()
    keep(page, "rejected-390")
    assert faults(page) == {}
    place.go_on(run_id)
    assert place.state(run_id) == "Completed"
    assert names_of(events_of(place, run_id)) == ["opened", "decided", "closed"]
    assert champions(place.settings) == [*champion, None]
    assert tracking.version_tags(place.settings, model)["decision"] == "rejected"


@pytest.mark.drill
def test_a_champion_is_taken_back(browser, place):
    old, _ = approve_at_desk(browser, place, "eve")
    new, _ = approve_at_desk(browser, place, "root")
    assert champions(place.settings)[:2] == [new, old]
    page = new_page(browser)
    log_in(page, place.desk_url, "eve", "/approve")
    tab_to(page, f"Take version {new} back")
    page.keyboard.press("Enter")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        keep(page, f"take-back-{width}")
        assert faults(page) == {}, width
    tab_to(page, "Reason")
    page.keyboard.type("wrong on edge-on ones")
    tab_to(page, "Take it back")
    page.keyboard.press("Enter")
    page.get_by_text(f"morphology: version {old}").wait_for()
    keep(page, "taken-back")
    assert faults(page) == {}
    assert champions(place.settings)[0] == old
    assert audit_registry(place.settings).found == ()
    model = tracking.read_version(place.settings, "morphology", new)
    assert model.tags["rolled_back.user"] == "eve"
    page.goto(f"{place.desk_url}/history")
    assert page.get_by_text("wrong on edge-on ones").first.is_visible()


def open_form(page, place: Waiting, run_id: str) -> None:
    """Open the form of a run that is held, in Prefect's pages."""
    page.goto(f"{place.prefect_url}/runs/flow-run/{run_id}", wait_until="commit")
    page.get_by_role("button", name="Resume", exact=True).press("Enter")
    field_of(page, "Reason").wait_for()


def field_of(page, name: str):
    """Return the part of Prefect's form of this name; its labels are not tied to its inputs."""
    label = page.locator(".schema-form-property__label", has_text=re.compile(f"^{name}"))
    return page.locator(".p-label.schema-form-property").filter(has=label)


def submit(page, reason: str, code: str) -> None:
    """Approve in Prefect's form, hand it in and wait until it is taken."""
    switch = field_of(page, "Approve").get_by_role("switch")
    switch.press("Space")
    playwright.expect(switch).to_have_attribute(
        "aria-checked", "true", timeout=30_000
    )  # the page is slow
    field_of(page, "Reason").locator("textarea").fill(reason)
    field_of(page, "Your code").locator("textarea").fill(code)
    keep(page, "prefect-form" if code else "prefect-form-unsigned")
    page.get_by_role("button", name="Submit").press("Enter")
    page.get_by_role("dialog").wait_for(state="hidden")


@pytest.mark.drill
def test_prefects_own_form_decides_with_a_code_of_the_desk_and_not_without(browser, place):
    model, run_id = place.challenger()
    before = champions(place.settings)
    form = new_page(browser)
    open_form(form, place, run_id)
    submit(form, "nobody knows who I am", "")
    assert place.go_on(run_id) == "Suspended"
    opened, refused = events_of(place, run_id)
    assert (opened.event, refused.event) == (Event.OPENED, Event.REFUSED)
    assert "no code" in refused.body["refusal"]
    assert champions(place.settings) == before

    desk = new_page(browser)
    log_in(desk, place.desk_url, "eve", f"/approve/{run_id}")
    assert desk.get_by_text("no code").first.is_visible()
    desk.get_by_role("button", name="give me a code").click()
    code = desk.locator(".code code").inner_text()
    assert re.fullmatch(r"[A-Z0-9]{4}(-[A-Z0-9]{4}){3}", code)
    keep(desk, "code")
    assert faults(desk) == {}

    open_form(form, place, run_id)
    submit(form, "signed with my code", code)
    assert place.go_on(run_id) == "Completed"
    check_moved_once(place, run_id, model.version)
    decided = events_of(place, run_id)[2]
    assert (decided.body["user"], decided.body["proof"]) == ("eve", "code")
    assert code not in str([item.body for item in read_events(place.settings)])
