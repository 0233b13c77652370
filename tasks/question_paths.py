"""Ways through a tree of questions: what is asked next, and when somebody has said enough.

A *path* is the choices that one person makes about one object, in order. In the queue it is one
answer, its choices joined; in the label ledger each choice is a row of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from lvm.downstream import DOWNSTREAM_TASKS
from lvm.questions import Question, QuestionTree
from tasks.errors import TaskError

SEPARATOR = " > "
UNSURE = "unsure"  # in the ledger as any answer; no data set counts it as a class
_PREFIX = re.compile(r"^[at]\d+ ")  # catalogues number questions and answers: t01, a02


class BadAnswer(TaskError, ValueError):
    """An answer that the question does not have, or an object that is not in the round."""


@dataclass(frozen=True)
class Step:
    """A question of a tree as it is asked: its choices, each with the text on its button."""

    title: str
    choices: tuple[tuple[str, str], ...]


def tree_of(question: str, answers: Sequence[str]) -> QuestionTree | None:
    """Return the tree of a round whose answers are those of a tree of several questions."""
    tree = _tree(question)
    if tree is None or len(tree.questions) < 2 or tree.choices != tuple(answers):
        return None
    return tree


def next_question(tree: QuestionTree, path: Sequence[str]) -> Question | None:
    """Return what is asked after a path; None when nothing is.

    Raises
    ------
    BadAnswer
        If the path is none through the tree.
    """
    left = list(path)
    for question in tree.questions:
        if question.after and not set(question.after) & set(path):
            continue
        if not left:
            return question
        choice = left.pop(0)
        if choice not in question.choices:
            raise BadAnswer(
                f"answer {choice!r} to {question.name}: choose one of {', '.join(question.choices)}"
            )
    if left:
        raise BadAnswer(f"answer {left[0]!r}: nothing more is asked")
    return None


def check_path(tree: QuestionTree, path: Sequence[str]) -> None:
    """Refuse a path that does not go to an end of the tree, or to "unsure", with `BadAnswer`."""
    if path and path[-1] == UNSURE:
        if next_question(tree, path[:-1]) is None:
            raise BadAnswer("nothing more is asked that one could be unsure of")
        return
    question = next_question(tree, path)
    if question is not None:
        raise BadAnswer(f"{question.name} is not answered: choose one of {question.choices}")


def step_of(question: Question) -> Step:
    """Return a question as people read it."""
    pairs = zip(question.choices, question.answers, strict=True)
    return Step(_words(question.name), tuple((choice, _words(answer)) for choice, answer in pairs))


def words_of(tree: QuestionTree, path: Sequence[str]) -> tuple[str, ...]:
    """Return what was said on a path, as people read it."""
    text = {c: t for question in tree.questions for c, t in step_of(question).choices}
    return tuple(text.get(choice, choice) for choice in path)


def split_path(text: str) -> tuple[str, ...]:
    """Return the choices of a path that was joined; one answer is a path of one choice."""
    return tuple(text.split(SEPARATOR)) if text else ()


def join_path(path: Sequence[str]) -> str:
    """Return a path as one text."""
    return SEPARATOR.join(path)


@cache
def _tree(question: str) -> QuestionTree | None:
    found = DOWNSTREAM_TASKS.get(question)
    return getattr(found(), "tree", None) if found else None


def _words(name: str) -> str:
    return _PREFIX.sub("", name.replace("_", " "))
