"""Reliability from gold objects, and votes weighted by it."""

import pandas as pd
import pytest

from storage.label_store import Label, append_labels, read_labels, read_votes
from tasks.annotators import consensus, reliabilities, weight_of, weighted_votes

GROUPS = {"morphology": ("round", "spiral", "edge-on", "other")}
CLASSES = GROUPS["morphology"]
SURVEY = "dr10/south"


def label(objid, who, answer, count=1.0):
    return Label(SURVEY, 1, 2, objid, "morphology", answer, who, count=count)


@pytest.fixture
def ledger(tmp_path):
    """Gold on 20 objects; ann always right, bob always wrong; zoo is a table; eve has no gold."""
    rows = []
    for objid in range(20):
        rows += [
            label(objid, "gold", "round", 3.0),
            label(objid, "ann", "round"),
            label(objid, "bob", "spiral"),
        ]
    rows += [
        label(100, "ann", "edge-on"),
        label(100, "bob", "other"),
        label(100, "bob", "other", -1.0),
        label(100, "bob", "spiral"),
        label(100, "eve", "other"),
        label(100, "zoo", "round", 7.0),
    ]
    append_labels(tmp_path / "labels.sqlite", rows)
    return tmp_path / "labels.sqlite"


def test_reliability_is_the_posterior_of_right_answers(ledger):
    found = {
        r.annotator: r for r in reliabilities(read_labels(ledger, SURVEY, "morphology"), GROUPS)
    }
    assert set(found) == {"ann", "bob", "eve"}
    assert (found["ann"].gold, found["ann"].right) == (20, 20)
    assert found["ann"].rate.value == pytest.approx(24 / 25)
    assert found["ann"].rate.low > 0.85
    assert found["bob"].rate.value == pytest.approx(4 / 25)
    assert found["bob"].weight == 0.0
    assert (found["eve"].gold, found["eve"].weight) == (0, pytest.approx(1.0))


def test_votes_are_weighted_and_tables_are_not(ledger):
    votes = weighted_votes(ledger, SURVEY, "morphology", GROUPS).set_index("objid")
    row = votes.loc[100]
    assert row["edge-on"] == pytest.approx(weight_of(24 / 25, 4))
    assert row["edge-on"] > 1.2
    assert row["spiral"] == 0.0
    assert row["other"] == pytest.approx(1.0)
    assert row["round"] == 7.0


def test_without_gold_nothing_is_weighted(tmp_path):
    path = tmp_path / "labels.sqlite"
    append_labels(path, [label(1, "ann", "round"), label(1, "bob", "spiral")])
    plain = read_votes(path, SURVEY, "morphology", CLASSES)
    pd.testing.assert_frame_equal(weighted_votes(path, SURVEY, "morphology", GROUPS), plain)


def test_consensus_follows_the_votes():
    votes = pd.DataFrame(
        {"release": 1, "brickid": 2, "objid": [1, 2], "round": [3.0, 0.0], "spiral": [1.0, 0.0]}
    )
    found = consensus(votes, ("round", "spiral"))
    assert found[["objid", "answer", "share"]].values.tolist() == [[1, "round", 0.75]]
