import numpy as np
import pandas as pd
import pytest

from lvm.questions import GZ2, SHORT, Question, QuestionTree, single_question

TREE = QuestionTree(
    (
        Question("shape", ("smooth", "featured")),
        Question("edge", ("yes", "no"), ("shape_featured",)),
        Question("arms", ("one", "two", "many"), ("edge_no",)),
        Question("odd", ("yes", "no"), ("shape_smooth", "shape_featured")),
    )
)


@pytest.fixture(scope="module")
def gz2_table(real_data):
    return pd.read_csv(real_data / "gz2_sdss" / "labels.csv")


def test_choices_stand_in_the_order_of_the_questions():
    assert TREE.choices[:5] == ("shape_smooth", "shape_featured", "edge_yes", "edge_no", "arms_one")
    assert TREE.columns == (slice(0, 2), slice(2, 4), slice(4, 7), slice(7, 9))
    assert single_question(("a", "b")).choices == ("a", "b")


def test_people_come_to_a_question_by_the_choices_that_lead_to_it():
    fractions = np.array([[0.2, 0.8, 0.25, 0.75, 1.0, 0.0, 0.0, 0.5, 0.5]])
    assert TREE.reach(fractions)[0] == pytest.approx([1.0, 0.8, 0.6, 1.0])


def test_counts_are_people_and_never_more_than_came():
    fractions = np.array([[0.2, 0.8, 0.25, 0.75, 0.5, 0.5, np.nan, 0.1, 0.9]])
    found = TREE.counts(fractions, np.array([40]))
    assert found.dtype == np.float32
    assert found[0] == pytest.approx([8, 32, 8, 24, 12, 12, 0, 4, 36])


def test_a_path_is_that_of_the_likeliest_answers():
    fractions = np.array(
        [[0.4, 0.6, 0.3, 0.7, 0.5, 0.3, 0.2, 0.5, 0.5], [0.9, 0.1, 0.0, 1.0, 1.0, 0.0, 0.0, 1, 0]]
    )
    assert TREE.path(fractions).tolist() == [[True] * 4, [True, False, False, True]]


def test_the_tree_of_galaxy_zoo_2_explains_how_many_votes_were_cast(gz2_table):
    columns = [f"{choice}_weighted_fraction" for choice in GZ2.choices]
    counts = GZ2.counts(gz2_table[columns].to_numpy(), gz2_table["total_classifications"])
    # `total_votes` counts the answers of all people to all questions; the fractions are weighted
    # by how consistent people are, so the two agree to a percent or so, and not exactly.
    ratio = counts.sum(axis=1) / gz2_table["total_votes"].to_numpy()
    assert np.median(ratio) == pytest.approx(1.0, abs=0.005)
    assert np.abs(ratio - 1).max() < 0.08


def test_a_question_left_out_of_the_tree_would_be_noticed(gz2_table):
    without = QuestionTree(tuple(q for q in GZ2.questions if q.name != "t07_rounded"))
    columns = [f"{choice}_weighted_fraction" for choice in without.choices]
    counts = without.counts(gz2_table[columns].to_numpy(), gz2_table["total_classifications"])
    assert np.median(counts.sum(axis=1) / gz2_table["total_votes"]) < 0.98


def test_the_paths_of_real_votes_agree_with_the_classes_of_the_table(gz2_table):
    columns = [f"{choice}_debiased" for choice in GZ2.choices]
    path = GZ2.path(gz2_table[columns].to_numpy())
    names = [question.name for question in GZ2.questions]
    label = gz2_table["derived_label"].to_numpy()
    share = {
        kind: path[label == kind][:, names.index(question)].mean()
        for kind, question in (
            ("elliptical", "t07_rounded"),
            ("edge-on", "t09_bulge_shape"),
            ("spiral", "t10_arms_winding"),
        )
    }
    assert min(share.values()) > 0.6, share


@pytest.mark.parametrize("tree", [GZ2, SHORT])
def test_the_trees_that_come_along_have_reachable_questions(tree):
    even = np.concatenate([np.full(len(q.answers), 1 / len(q.answers)) for q in tree.questions])
    assert (tree.reach(even[None]) > 0).all()
    assert len(set(tree.choices)) == len(tree.choices)


def test_galaxy_zoo_2_has_11_questions_and_37_answers():
    assert (len(GZ2.questions), len(GZ2.choices)) == (11, 37)


def test_a_senseless_tree_is_refused():
    first = Question("a", ("x", "y"))
    with pytest.raises(ValueError, match="which no earlier question offers"):
        QuestionTree((first, Question("b", ("x", "y"), ("c_x",))))
    with pytest.raises(ValueError, match="two choices"):
        QuestionTree((first, first))
    with pytest.raises(ValueError, match="two choices"):
        single_question(("x", "x"))
    with pytest.raises(ValueError, match="at least two answers"):
        QuestionTree((Question("a", ("x",)),))
    with pytest.raises(ValueError, match="asked of everybody"):
        QuestionTree(())
    with pytest.raises(ValueError, match="letters, digits"):
        QuestionTree((Question("../a", ("x", "y")),))


def test_fractions_of_another_tree_are_refused():
    with pytest.raises(ValueError, match="9 choices"):
        TREE.counts(np.zeros((2, 3)), np.ones(2))
