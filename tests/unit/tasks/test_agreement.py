"""Kappas against values computed by hand or by others, and which objects are disputed."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from lvm.downstream import create_task
from tasks.agreement import (
    agreement,
    answer_groups,
    cohen_kappa,
    disputed,
    fleiss_kappa,
    standing_answers,
)

GROUPS = {"morphology": ("round", "spiral", "other")}


def said(*rows):
    """Return ledger rows of (objid, annotator, answer[, count])."""
    table = pd.DataFrame(
        [(objid, who, answer, *(rest or (1.0,))) for objid, who, answer, *rest in rows],
        columns=["objid", "annotator", "answer", "count"],
    )
    return table.assign(release=1, brickid=2)


def test_cohen_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    first = rng.choice(["a", "b", "c"], 200)
    second = np.where(rng.random(200) < 0.6, first, rng.choice(["a", "b", "c"], 200))
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    assert cohen_kappa([], []) is None
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None


def test_fleiss_gives_the_value_of_his_paper():
    # Fleiss 1971 as worked out in the literature: 10 subjects, 14 raters, 5 categories.
    counts = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.eye(3, dtype=int)) is None  # one answer an object


def test_standing_answers_follow_corrections_and_leave_tables_aside():
    rows = said(
        (1, "ann", "round"),
        (1, "ann", "round", -1.0),
        (1, "ann", "spiral"),
        (1, "zoo", "round", 30.0),
        (2, "ann", "unsure"),
        (3, "bob", "round"),
        (3, "bob", "spiral"),
    )
    found = standing_answers(rows, GROUPS)
    assert found[["objid", "annotator", "answer"]].values.tolist() == [[1, "ann", "spiral"]]


def test_agreement_of_two_who_agree_and_one_who_does_not():
    rows = said(
        *((n, who, ("round", "spiral")[n % 2]) for n in range(10) for who in ("ann", "bob")),
        *((n, "eve", ("spiral", "round")[n % 2]) for n in range(10)),
    )
    (found,) = agreement(standing_answers(rows, GROUPS), GROUPS)
    kappas = {(pair.first, pair.second): pair.kappa for pair in found.pairs}
    assert kappas["ann", "bob"] == pytest.approx(1.0)
    assert kappas["ann", "eve"] == pytest.approx(-1.0)
    assert (found.objects, found.annotators) == (10, 3)
    assert found.same == pytest.approx(1 / 3)


def test_disputed_objects_come_in_order_and_two_against_one_is_settled():
    rows = said(
        (1, "a", "round"),
        (1, "b", "round"),
        (1, "c", "spiral"),
        (2, "a", "round"),
        (2, "b", "spiral"),
        (3, "a", "round"),
        (3, "b", "spiral"),
        (3, "c", "other"),
        (4, "a", "round"),
    )
    found = disputed(standing_answers(rows, GROUPS), GROUPS)
    assert found["objid"].tolist() == [3, 2]


def test_groups_of_a_tree_are_its_questions():
    groups = answer_groups(create_task("galaxy_zoo"))
    assert groups["t02_edgeon"] == ("t02_edgeon_a04_yes", "t02_edgeon_a05_no")
    assert list(answer_groups(create_task("morphology"))) == ["morphology"]
    assert answer_groups(create_task("morphology"), ("x", "y")) == {"morphology": ("x", "y")}
