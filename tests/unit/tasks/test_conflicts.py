"""Disputes are found, and settled by new rows only, once, by somebody who may."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from storage.errors import SchemaMismatch
from storage.label_store import Label, append_labels, read_labels, read_votes
from tasks.annotators import GOLD
from tasks.conflicts import CannotSettle, Settlement, find_conflicts, settle
from tasks.roles import NotAllowed, User
from tasks.settings import Settings

SURVEY, CLASSES = "dr10/south", ("elliptical", "edge-on", "spiral", "other")
EVE = User("eve", frozenset({"approver"}))


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def say(settings, objid, *said, question="morphology", count=1.0):
    rows = [
        Label(SURVEY, 10000, 1, objid, question, answer, who, count=count, comment=f"says {who}")
        for who, answer in said
    ]
    append_labels(settings.labels_path, rows)


def find(settings, question="morphology"):
    return find_conflicts(settings, SURVEY, question)


def wanted(conflict, answer="spiral", **changes):
    given = Settlement(
        survey=SURVEY,
        question="morphology",
        object_id=conflict.object_id,
        group=conflict.group,
        answer=answer,
        reason="two arms at zoom 2",
        seen=conflict.seen,
    )
    return given.model_copy(update=changes)


def test_disputed_objects_are_found_with_who_said_what(settings):
    assert find(settings) == []  # there is no ledger yet
    say(settings, 1, ("ann", "spiral"), ("bob", "other"))
    say(settings, 2, ("ann", "spiral"), ("bob", "spiral"), ("cat", "other"))  # two of three agree
    say(settings, 3, ("ann", "spiral"), ("bob", "other"), ("cat", "edge-on"))
    say(settings, 4, ("ann", "spiral"))
    found = find(settings)
    assert [item.object_id for item in found] == ["10000-1-3", "10000-1-1"]
    assert found[0].share == pytest.approx(1 / 3)
    said = [(vote.annotator, vote.answer, vote.comment) for vote in found[1].votes]
    assert said == [("bob", "other", "says bob"), ("ann", "spiral", "says ann")]
    say(settings, 1, ("bob", "other"), count=-1.0)  # taken back
    assert [item.object_id for item in find(settings)] == ["10000-1-3"]


def test_what_is_settled_wins_and_leaves_the_queue(settings):
    say(settings, 1, ("ann", "spiral"), ("bob", "other"), ("cat", "edge-on"))
    before = read_labels(settings.labels_path, SURVEY, "morphology")
    made = settle(settings, EVE, wanted(find(settings)[0], "elliptical"))
    rows = read_labels(settings.labels_path, SURVEY, "morphology")
    assert rows.iloc[:3].equals(before)  # nothing that was said is touched
    assert len(rows) == 4
    assert (made.annotator, made.count) == (GOLD, 4.0)
    assert made.comment == "settled by eve: two arms at zoom 2"
    shown = json.loads(rows.iloc[3]["shown"])
    assert shown["settled_by"] == "eve"
    assert shown["said"] == {"ann": "spiral", "bob": "other", "cat": "edge-on"}
    votes = read_votes(settings.labels_path, SURVEY, "morphology", CLASSES)
    assert votes[list(CLASSES)].idxmax(axis=1).tolist() == ["elliptical"]
    assert find(settings) == []
    say(settings, 2, ("ann", "spiral"), ("bob", "other"))
    assert [(vote.right, vote.gold) for vote in find(settings)[0].votes] == [(0, 1), (0, 1)]


def test_settling_again_is_a_correction_by_new_rows(settings):
    say(settings, 1, ("ann", "spiral"), ("bob", "other"))
    [conflict] = find(settings)
    settle(settings, EVE, wanted(conflict, "spiral"))
    newest = int(read_labels(settings.labels_path, SURVEY, "morphology")["id"].max())
    settle(settings, EVE, wanted(conflict, "other", seen=newest))
    rows = read_labels(settings.labels_path, SURVEY, "morphology")
    gold = rows[rows["annotator"] == GOLD]
    assert list(zip(gold["answer"], gold["count"], strict=True)) == [
        ("spiral", 3.0),
        ("spiral", -3.0),
        ("other", 3.0),
    ]
    assert find(settings) == []


def test_what_the_user_has_not_seen_is_not_settled(settings):
    say(settings, 1, ("ann", "spiral"), ("bob", "other"))
    [conflict] = find(settings)
    say(settings, 1, ("cat", "other"))
    with pytest.raises(CannotSettle, match="meanwhile"):
        settle(settings, EVE, wanted(conflict))
    assert GOLD not in set(read_labels(settings.labels_path, SURVEY, "morphology")["annotator"])


def test_two_at_once_settle_it_once(settings):
    say(settings, 1, ("ann", "spiral"), ("bob", "other"))
    [conflict] = find(settings)

    def attempt(answer):
        try:
            return settle(settings, EVE, wanted(conflict, answer)).answer
        except CannotSettle:
            return ""

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(attempt, ["spiral", "other", "spiral", "other"]))
    assert sorted(found)[:3] == ["", "", ""]
    with closing(sqlite3.connect(settings.labels_path)) as database:
        [(count,)] = database.execute("SELECT COUNT(*) FROM labels WHERE annotator = 'gold'")
    assert count == 1


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"answer": "comet"}, CannotSettle, "choose one of elliptical"),
        ({"group": "nothing"}, CannotSettle, "no question 'nothing'"),
        ({"reason": "  "}, CannotSettle, "reason"),
        ({"reason": "x" * 2001}, CannotSettle, "2000"),
        ({"object_id": "10000-1-77"}, CannotSettle, "nobody answered"),
        ({"question": "comets"}, SchemaMismatch, "no downstream task asks"),
    ],
)
def test_a_wrong_settlement_writes_nothing(settings, changes, error, match):
    say(settings, 1, ("ann", "spiral"), ("bob", "other"))
    [conflict] = find(settings)
    with pytest.raises(error, match=match):
        settle(settings, EVE, wanted(conflict, **changes))
    assert len(read_labels(settings.labels_path, SURVEY, "morphology")) == 2


def test_an_annotator_settles_nothing(settings):
    say(settings, 1, ("ann", "spiral"), ("bob", "other"))
    ann = User("ann", frozenset({"annotator"}))
    with pytest.raises(NotAllowed, match="ann may not decide"):
        settle(settings, ann, wanted(find(settings)[0]))


def test_questions_of_a_tree_are_disputed_one_by_one(settings):
    smooth, disk = (f"t01_smooth_or_features_{x}" for x in ("a01_smooth", "a02_features_or_disk"))
    say(settings, 1, ("ann", smooth), ("bob", disk), question="galaxy_zoo")
    say(settings, 1, ("bob", "t02_edgeon_a05_no"), question="galaxy_zoo")
    [conflict] = find(settings, "galaxy_zoo")
    assert conflict.group == "t01_smooth_or_features"
    assert smooth in conflict.choices
    settle(settings, EVE, wanted(conflict, disk, question="galaxy_zoo"))
    assert find(settings, "galaxy_zoo") == []
