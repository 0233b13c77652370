"""What pages of the desk say, and what they leave out where there is nothing to say."""

import re
from datetime import UTC, datetime

import pytest
from desk_home import SURVEY, make_desk, token_of
from shown_evidence import measured, open_case

from lvm.questions import GZ2
from tasks.desk_pages import ChampionSummary, Kept, Return
from tasks.desk_pages_label import Given, Shown, submit
from tasks.desk_pages_rounds import items_of
from tasks.label_rounds import RoundPlan
from tasks.round_history import Closed, Measured, Opened, record

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("views-home"))


@pytest.fixture
def desk(small, tmp_path):
    return small.fresh(tmp_path)


@pytest.fixture
def case(desk, monkeypatch):
    """Return a function that returns the page of a promotion."""
    return lambda **changes: open_case(desk, monkeypatch, None, **changes)[1]


def row_of(text, name):
    """Return the words of the row of a table."""
    [found] = [row for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL) if name in row]
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def learn(desk, number, evaluation=None, why="", closed="enough"):
    """Record what a campaign of active learning did with a round."""
    opened = Opened(
        queue_round=number,
        strategy="random",
        seed=0,
        snapshot_id="S",
        model=None,
        objects={},
        deadline=datetime.now(UTC),
    )
    record(desk.settings, "morphology/dr10/south", number, "opened", opened)
    if closed:
        desk.queue.close_round(number)
        body = Closed(why=closed, labels=2, by_annotator={})
        record(desk.settings, "morphology/dr10/south", number, "closed", body)
    if evaluation or why:
        body = Measured(evaluation=evaluation, why=why)
        record(desk.settings, "morphology/dr10/south", number, "measured", body)


def test_the_history_tells_how_rounds_ended_and_what_was_measured(desk):
    names = ("asked", "shut", "learnt", "late", "fitting")
    asked, shut, learnt, late, fitting = (desk.open_round(2, title=name) for name in names)
    [claim, _] = desk.queue.claim(asked, "ann", 2)
    submit(desk.settings, desk.queue, "ann", asked, [Given(claim.item, "spiral")], Shown("one", ""))
    desk.queue.close_round(shut)
    learn(desk, learnt, measured("7", "NOW", 0.71, 1.0))
    learn(desk, late, why=f"too few labels {SCRIPT}", closed="deadline")
    learn(desk, fitting)
    text = desk.client("vic").get("/history?what=rounds").text
    assert "waits for answers 1 of 2 objects" in row_of(text, "asked")
    assert "ann 1" in row_of(text, "asked")
    assert row_of(text, "shut").endswith("closed 0 of 2 objects have their answers")
    found = row_of(text, "learnt")
    assert "ended: the answers are in" in found
    assert "balanced accuracy 0.710 (0.660–0.760) version 7, 210 test objects" in found
    assert "ended: the deadline passed" in row_of(text, "late")
    assert "too few labels &lt;script&gt;" in row_of(text, "late")
    assert row_of(text, "fitting").endswith("not yet")


def test_a_first_challenger_has_no_column_of_a_champion(case):
    slices = {"z 16-17 mag": {"objects": 60.0, "balanced_accuracy": 0.8}}
    challenger = measured("2", "NOW", 0.78, 0.95).model_copy(update={"slices": slices})
    both, first = case(challenger=challenger), case(challenger=challenger, champion=None)
    assert 'class="dot other"' in both
    column = '<th class="n">champion</th>'
    assert column in both
    assert 'class="dot other"' not in first
    assert column not in first
    assert "There is no champion yet" in first
    for text in (both, first):  # as many cells as there are heads
        for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
            head, *rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
            widths = {len(re.findall(r"<t[hd]\b", row)) for row in rows}
            assert widths == {len(re.findall(r"<th\b", head))}, table


def test_nothing_is_announced_that_is_not_there(case):
    bare = measured("2", "NOW", 0.7, 1.0).model_copy(update={"classes": (), "reliability": ()})
    told = "What its run drew is below"
    assert told in case(challenger=bare, champion=None)
    assert told not in case(challenger=bare, champion=None, figures={})


def test_a_code_is_shown_and_is_no_alarm(desk, case):
    page = case()
    client = desk.client("eve")
    address = re.search(r'action="(/approve/[^"]+/code)"', page)[1]
    text = client.post(address, data=token_of(client.get("/help").text)).text
    box = re.search(r'<section class="(\w+)"[^>]*><h2>Your code', text)
    assert box[1] == "secret"


def card(desk, **changes):
    plain = {"run_id": "r", "published": "", "undecided": 0, "decided_at": "2026-01-01 10:00"}
    item = ChampionSummary(
        **{"downstream": "morphology", "version": "2", "decided_by": "ann", **plain, **changes}
    )
    desk.desk.champions = Kept(lambda: [item])
    return {path: desk.client("eve").get(path).text for path in ("/approve", "/")}


def test_the_card_of_a_champion_that_came_back_says_instead_of_which(desk):
    returned = Return(instead_of="3", by="eve", at="2026-02-03 11:30", reason=SCRIPT)
    pages = card(desk, previous="1", returned=returned)
    assert "Came back on 2026-02-03 11:30: eve took version 3 back" in pages["/approve"]
    assert "Version 1, the champion before it, becomes champion again" in pages["/approve"]
    assert "back since 2026-02-03 11:30, instead of version 3" in pages["/"]
    assert not [path for path, text in pages.items() if SCRIPT in text]
    assert "Came back" not in card(desk, previous="1")["/approve"]


def test_where_there_is_none_to_go_back_to_no_button_says_so(desk):
    text = card(desk)["/approve"]
    assert "Take it back" not in text
    assert "there is none to go back to" in text


def test_a_path_through_a_tree_is_told_in_words(desk):
    items = items_of(desk.settings, SURVEY, "galaxy_zoo", desk.ids[:2], "a test")
    plan = RoundPlan(SURVEY, "galaxy_zoo", GZ2.choices, opened_by="root")
    number = desk.queue.open_round(plan, items)
    path = ("t01_smooth_or_features_a01_smooth", "t06_odd_a15_no", "t07_rounded_a17_in_between")
    [claim, _] = desk.queue.claim(number, "ann", 2)
    said = [Given(claim.item, " > ".join(path))]
    submit(desk.settings, desk.queue, "ann", number, said, Shown("one", ""))
    text = desk.client("ann").get(f"/label/{number}").text
    assert "You said <b>smooth, no, in between</b>" in text
