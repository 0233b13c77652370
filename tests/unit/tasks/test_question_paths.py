"""A tree of questions is asked along a path, and nothing else is taken for an answer."""

import pytest

from lvm.downstream import create_task
from lvm.questions import GZ2, Question, QuestionTree
from tasks.desk_pages_rounds import questions
from tasks.question_paths import (
    UNSURE,
    BadAnswer,
    check_path,
    join_path,
    next_question,
    split_path,
    step_of,
    tree_of,
    words_of,
)

TREE = QuestionTree(
    (
        Question("t01_shape", ("a01_smooth", "a02_disk")),
        Question("t02_edgeon", ("a03_yes", "a04_no"), ("t01_shape_a02_disk",)),
        Question("t03_odd", ("a05_yes", "a06_no"), ("t02_edgeon_a04_no", "t01_shape_a01_smooth")),
    )
)
SMOOTH, DISK = TREE.questions[0].choices
EDGE, FACE = TREE.questions[1].choices
ODD, PLAIN = TREE.questions[2].choices


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ((), "t01_shape"),
        ((SMOOTH,), "t03_odd"),
        ((DISK,), "t02_edgeon"),
        ((DISK, FACE), "t03_odd"),
        ((DISK, EDGE), None),
        ((SMOOTH, PLAIN), None),
    ],
)
def test_what_is_asked_next_follows_from_what_was_said(path, asked):
    found = next_question(TREE, path)
    assert (found.name if found else None) == asked


@pytest.mark.parametrize(
    ("path", "match"),
    [
        (("comet",), "choose one of t01_shape_a01_smooth"),
        ((SMOOTH, EDGE), "t03_odd"),
        ((DISK, EDGE, ODD), "nothing more is asked"),
        ((SMOOTH,), "t03_odd is not answered"),
        ((), "t01_shape is not answered"),
        ((DISK, EDGE, UNSURE), "nothing more is asked that"),
        ((UNSURE, SMOOTH), "unsure"),
    ],
)
def test_what_is_no_way_to_an_end_is_refused(path, match):
    with pytest.raises(BadAnswer, match=match):
        check_path(TREE, path)


@pytest.mark.parametrize("path", [(DISK, EDGE), (SMOOTH, ODD), (UNSURE,), (DISK, UNSURE)])
def test_an_end_or_unsure_is_enough(path):
    check_path(TREE, path)
    assert split_path(join_path(path)) == path


def test_every_way_through_galaxy_zoo_ends():
    paths, ends = [()], 0
    while paths:
        path = paths.pop()
        question = next_question(GZ2, path)
        if question is None:
            ends += 1
            assert len(path) <= len(GZ2.questions)
            continue
        paths += [(*path, choice) for choice in question.choices[:2]]
    assert ends > 20


def test_people_read_words():
    step = step_of(GZ2.questions[0])
    assert step.title == "smooth or features"
    assert step.choices[1] == (GZ2.questions[0].choices[1], "features or disk")
    assert words_of(GZ2, (GZ2.questions[0].choices[2], UNSURE)) == ("star or artifact", "unsure")


def test_only_a_round_that_asks_the_whole_tree_is_a_tree():
    assert tree_of("galaxy_zoo", create_task("galaxy_zoo").tree.choices) == GZ2
    assert tree_of("galaxy_zoo", GZ2.questions[0].choices) is None
    assert tree_of("morphology", questions()["morphology"]) is None
    assert tree_of("nothing", ("a", "b")) is None
    assert questions()["galaxy_zoo"] == GZ2.choices
