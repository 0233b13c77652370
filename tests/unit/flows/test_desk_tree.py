"""A tree of questions at the desk: one after the other, back, unsure, undo, after a crash."""

import html
import re
from dataclasses import replace

import pytest
from desk_home import SURVEY, make_desk, token_of

from lvm.questions import GZ2
from storage.label_store import read_labels
from tasks.desk_pages_label import repair_queue
from tasks.desk_pages_rounds import RoundChoice, items_of, open_chosen_round
from tasks.label_rounds import RoundPlan

SMOOTH = ("t01_smooth_or_features_a01_smooth", "t06_odd_a15_no", "t07_rounded_a17_in_between")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("tree-home"))


@pytest.fixture
def desk(small, tmp_path):
    return small.fresh(tmp_path)


def open_tree(desk, count):
    items = items_of(desk.settings, SURVEY, "galaxy_zoo", desk.ids[:count], "a test")
    plan = RoundPlan(SURVEY, "galaxy_zoo", GZ2.choices, opened_by="root")
    return desk.queue.open_round(plan, items)


def rows(desk):
    if not desk.settings.labels_path.is_file():
        return []
    found = read_labels(desk.settings.labels_path, SURVEY, "galaxy_zoo")
    return list(zip(found["answer"], found["count"], strict=True))


def say(client, number, page, answer, **more):
    """Press a button of the page; return the next page."""
    form = {
        name: html.unescape(re.search(rf'name="{name}" value="([^"]*)"', page)[1])
        for name in ("item", "path")
    }
    form |= {"answer": answer, **more} | token_of(page)
    return client.post(f"/label/{number}/answer", data=form)


def test_questions_come_one_after_the_other_and_are_written_at_the_end(desk):
    number = open_tree(desk, 2)
    client = desk.client("ann")
    page = client.get(f"/label/{number}").text
    first = re.search(r'name="item" value="(\d+)"', page)[1]
    assert "<h2>smooth or features</h2>" in page
    assert page.count('class="answer"') == 3
    page = say(client, number, page, SMOOTH[0]).text
    assert "<h2>odd</h2>" in page
    assert rows(desk) == []
    page = say(client, number, page, SMOOTH[1]).text
    assert "<h2>rounded</h2>" in page
    assert 'data-key="Backspace"' in page
    page = say(client, number, page, SMOOTH[2], comment="clear").text
    assert rows(desk) == [(choice, 1.0) for choice in SMOOTH]
    assert "<h2>smooth or features</h2>" in page  # the next object starts anew
    assert re.search(r'name="item" value="(\d+)"', page)[1] != first
    assert desk.queue.round(number).missing == 1


def test_one_goes_back_by_the_link_of_an_earlier_answer(desk):
    number = open_tree(desk, 1)
    client = desk.client("ann")
    page = say(client, number, client.get(f"/label/{number}").text, SMOOTH[0]).text
    back = html.unescape(re.search(r'href="(/label/[^"]*)" data-key="Backspace"', page)[1])
    page = client.get(back).text
    page = say(client, number, page, "t01_smooth_or_features_a03_star_or_artifact").text
    assert rows(desk) == [("t01_smooth_or_features_a03_star_or_artifact", 1.0)]
    assert "All done" in page


def test_undo_takes_all_of_a_path_back_and_unsure_keeps_what_was_said(desk):
    number = open_tree(desk, 1)
    client = desk.client("ann")
    page = client.get(f"/label/{number}").text
    for choice in SMOOTH:
        page = say(client, number, page, choice).text
    page = client.post(f"/label/{number}/undo", data=token_of(page)).text
    assert rows(desk)[3:] == [(choice, -1.0) for choice in SMOOTH]
    page = say(client, number, page, SMOOTH[0]).text
    say(client, number, page, "unsure")
    assert rows(desk)[6:] == [(SMOOTH[0], 1.0), ("unsure", 1.0)]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("", "comet"),
        ("", "t02_edgeon_a04_yes"),
        (SMOOTH[0], "t02_edgeon_a04_yes"),
        ("<script>", SMOOTH[0]),
        (" > ".join(SMOOTH), SMOOTH[0]),
    ],
)
def test_what_is_no_way_through_the_tree_is_refused(desk, path, answer):
    number = open_tree(desk, 1)
    client = desk.client("ann")
    found = say(client, number, client.get(f"/label/{number}").text, answer, path=path)
    assert found.status_code == 400
    assert "<script>" not in re.sub(r"<script src[^>]*></script>", "", found.text)
    assert rows(desk) == []


def test_a_path_in_an_address_that_is_a_script_is_refused_as_text(desk):
    number = open_tree(desk, 1)
    client = desk.client("ann")
    item = re.search(r'name="item" value="(\d+)"', client.get(f"/label/{number}").text)[1]
    answer = client.get(f"/label/{number}?item={item}&path=<script>alert(1)</script>")
    assert answer.status_code == 400
    assert "<script>alert" not in answer.text


def test_a_grid_asks_no_tree(desk):
    number = open_tree(desk, 1)
    assert desk.client("ann").get(f"/label/{number}/grid").url.path == f"/label/{number}"


def test_a_crash_between_queue_and_ledger_is_repaired(desk):
    number = open_tree(desk, 2)
    one, other = (claim.item for claim in desk.queue.claim(number, "ann", 2))
    client = desk.client("ann")
    page = client.get(f"/label/{number}").text
    for choice in SMOOTH:
        page = say(client, number, page, choice).text
    begun = desk.queue.begin("ann", {other: " > ".join(SMOOTH)})  # killed before the ledger
    assert len(begun) == 1
    assert repair_queue(desk.settings, desk.queue, before=1e12) == 1
    assert desk.queue.round(number).missing == 1
    assert desk.queue.last(number, "ann")[1].item == one


def test_a_round_of_a_tree_is_opened_as_any_other(desk):
    choice = replace(RoundChoice(), count=3)
    number = open_chosen_round(desk.settings, desk.queue, SURVEY, "galaxy_zoo", choice, "root")
    assert desk.queue.round(number).objects == 3
    assert "a tree of questions" in desk.client("ann").get("/label").text
