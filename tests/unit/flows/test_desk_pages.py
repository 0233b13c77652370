"""The pages of the desk over a small survey, in-process; Prefect is not there."""

import json
import re
import sqlite3

import pytest
from desk_home import SURVEY, login, make_desk, token_of

from storage.label_store import read_labels
from tasks.desk_pages_label import UNSURE


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("desk-home"))


@pytest.fixture
def desk(small, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.lineage.trace_model", lambda _, model: model.model_dump())
    return small.fresh(tmp_path)


def labels(desk):
    return read_labels(desk.settings.labels_path, SURVEY, "morphology")


def test_every_page_answers(desk):
    number = desk.open_round(5, blind=False)
    client = desk.client("ann")
    pages = ("/", "/label", f"/label/{number}", f"/label/{number}/grid", "/explore", "/help")
    pages += ("/history", "/history?what=labels", "/history?what=rounds")
    pages += (f"/object/{desk.ids[0]}?survey={SURVEY}",)
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200, page
        assert "<h1>" in answer.text


def test_an_answer_goes_to_the_ledger_with_what_was_seen(desk):
    number = desk.open_round(3, blind=False)
    client = desk.client("ann")
    text = client.get(f"/label/{number}").text
    item = re.search(r'name="item" value="(\d+)"', text)[1]
    form = {"item": item, "answer": "spiral", "comment": "two arms", "stretch": "2", "layer": "r"}
    answer = client.post(f"/label/{number}/answer", data=form | token_of(text))
    assert answer.status_code == 200
    row = labels(desk).iloc[0]
    assert (row["answer"], row["annotator"], row["comment"]) == ("spiral", "ann", "two arms")
    assert row["round"] == number
    shown = json.loads(row["shown"])
    assert shown["view"] == {"layer": "r", "stretch": 2, "zoom": 1, "neighbours": False}
    assert (shown["proposal"], shown["model"]) == ("elliptical", "morphology v1")


def test_a_blind_round_shows_the_proposal_only_after_the_answer(desk):
    number = desk.open_round(3, blind=True)
    client = desk.client("ann")
    for page in (f"/label/{number}", f"/label/{number}/grid"):
        text = client.get(page).text
        assert "morphology v1" not in text
        assert "Accept confident" not in text
    item = re.search(r'name="item" value="(\d+)"', text)[1]
    form = {"item": item, "answer": "spiral"} | token_of(text)
    after = client.post(f"/label/{number}/answer", data=form).text
    assert "morphology v1" in after
    assert "proposal" not in json.loads(labels(desk).iloc[0]["shown"])


def test_undo_takes_the_last_answer_back_and_asks_again(desk):
    number = desk.open_round(2)
    client = desk.client("ann")
    text = client.get(f"/label/{number}").text
    item = re.search(r'name="item" value="(\d+)"', text)[1]
    secret = token_of(text)
    client.post(f"/label/{number}/answer", data={"item": item, "answer": "spiral"} | secret)
    after = client.post(f"/label/{number}/undo", data=secret).text
    assert f'name="item" value="{item}"' in after
    assert labels(desk)["count"].tolist() == [1.0, -1.0]


def test_unsure_is_an_answer_and_skip_is_none(desk):
    number = desk.open_round(2)
    client = desk.client("ann")
    text = client.get(f"/label/{number}").text
    secret = token_of(text)
    for answer in (UNSURE, "skip"):
        item = re.search(r'name="item" value="(\d+)"', text)[1]
        form = {"item": item, "answer": answer} | secret
        text = client.post(f"/label/{number}/answer", data=form).text
    assert labels(desk)["answer"].tolist() == [UNSURE]
    assert "Nothing left for you here" in text


def test_a_grid_takes_answers_and_accepts_confident_proposals(desk):
    number = desk.open_round(4, blind=False)
    client = desk.client("ann")
    text = client.get(f"/label/{number}/grid").text
    items = re.findall(r'name="item" value="(\d+)"', text)
    form = {"item": items, f"answer-{items[0]}": "other", "accept": "0.9"} | token_of(text)
    client.post(f"/label/{number}/answers", data=form)
    rows = labels(desk)
    assert rows["answer"].tolist() == ["other", "elliptical", "elliptical"]  # one of 4 is below 0.9
    assert [json.loads(shown)["accepted"] for shown in rows["shown"]] == [False, True, True]


def test_proposals_of_a_blind_round_cannot_be_accepted(desk):
    number = desk.open_round(2, blind=True)
    client = desk.client("ann")
    text = client.get(f"/label/{number}/grid").text
    items = re.findall(r'name="item" value="(\d+)"', text)
    form = {"item": items, "accept": "0.1"} | token_of(text)
    assert client.post(f"/label/{number}/answers", data=form).status_code == 400
    assert not desk.settings.labels_path.exists()


def test_an_answer_that_the_question_does_not_have_is_refused(desk):
    number = desk.open_round(2)
    client = desk.client("ann")
    text = client.get(f"/label/{number}").text
    item = re.search(r'name="item" value="(\d+)"', text)[1]
    for form in ({"item": item, "answer": "comet"}, {"item": "999", "answer": "spiral"}):
        answer = client.post(f"/label/{number}/answer", data=form | token_of(text))
        assert answer.status_code == 400
    assert not desk.settings.labels_path.exists()


def test_two_annotators_get_different_objects(desk):
    number = desk.open_round(8)
    taken = [
        set(re.findall(r'name="item" value="(\d+)"', desk.client(name).get(page).text))
        for name in ("ann", "bob")
        for page in (f"/label/{number}",)
    ]
    assert taken[0]
    assert not taken[0] & taken[1]


def test_what_was_found_is_added_to_a_round(desk):
    client = desk.client("ann")
    text = client.get(f"/object/{desk.ids[3]}?survey={SURVEY}").text
    form = {"survey": SURVEY, "object": desk.ids[3:5], "question": "morphology"}
    answer = client.post("/rounds/add", data=form | token_of(text))
    assert "picked by hand" in answer.text
    assert desk.queue.rounds()[0].objects == 2


def test_an_object_that_is_not_in_the_survey_cannot_be_queued(desk):
    client = desk.client("ann")
    secret = token_of(client.get("/label").text)
    form = {"survey": SURVEY, "object": "1-2-3", "question": "morphology"} | secret
    assert client.post("/rounds/add", data=form).status_code == 404
    assert desk.queue.rounds() == []


def test_a_picture_comes_once_and_then_as_not_changed(desk):
    client = desk.client("vic")
    first = client.get(f"/picture/{SURVEY}/{desk.ids[0]}?size=96")
    assert first.headers["content-type"] == "image/jpeg"
    tag = {"if-none-match": first.headers["etag"]}
    again = client.get(f"/picture/{SURVEY}/{desk.ids[0]}?size=96", headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(f"/picture/{SURVEY}/{desk.ids[0]}?size=96&stretch=2", headers=tag)
    assert other.status_code == 200


def test_history_is_filtered_and_exported(desk):
    number = desk.open_round(3)
    client = desk.client("ann")
    text = client.get(f"/label/{number}").text
    item = re.search(r'name="item" value="(\d+)"', text)[1]
    form = {"item": item, "answer": "spiral", "comment": "=HYPERLINK(1)"} | token_of(text)
    client.post(f"/label/{number}/answer", data=form)
    rows = client.get("/history/labels.json?who=ann").json()
    assert [row["answer"] for row in rows] == ["spiral"]
    assert client.get("/history/labels.json?who=bob").json() == []
    assert "'=HYPERLINK(1)" in client.get("/history/labels.csv").text
    assert client.get("/history/secrets.csv").status_code == 404


def test_a_script_labels_with_a_token_and_no_cookie(desk):
    number = desk.open_round(2)
    client = desk.client()
    owner = desk.users.find("ann")
    headers = {"authorization": f"Bearer {desk.users.issue_token(owner, 'script', 1)}"}
    text = client.get(f"/label/{number}", headers=headers).text
    item = re.search(r'name="item" value="(\d+)"', text)[1]
    form = {"item": item, "answer": "other"}
    answer = client.post(f"/label/{number}/answer", data=form, headers=headers)
    assert answer.status_code == 200
    assert labels(desk)["annotator"].tolist() == ["ann"]


def test_the_round_of_a_withdrawn_object_can_go_on(desk):
    number = desk.open_round(1)
    with sqlite3.connect(desk.settings.home / "queue.sqlite") as database:
        database.execute("UPDATE items SET objid = 999999")
    database.close()
    text = desk.client("ann").get(f"/label/{number}").text
    assert "left the survey" in text


def test_logging_in_leads_to_the_page_that_was_asked_for(desk):
    client = desk.client()
    asked = client.get("/history?what=labels")
    assert asked.url.path == "/login"
    answer = login(client, "ann", target="/history?what=labels")
    assert str(answer.url).endswith("/history?what=labels")
