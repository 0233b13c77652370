"""Decision trees of questions about a galaxy, as data: what is asked, of whom, what can be said.

A *choice* is one answer to one question; votes and probabilities are (object, choice), the choices
of all questions in turn. Nothing here knows a model or a loss.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Question:
    """One question with its possible answers.

    Parameters
    ----------
    name : empty for the only question of its tree: its choices are then called as its answers
    answers : what can be said
    after : the choices of earlier questions that lead here; empty: everybody is asked
    """

    name: str
    answers: tuple[str, ...]
    after: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        """Return `<question>_<answer>` of every answer."""
        return tuple(f"{self.name}_{answer}" if self.name else answer for answer in self.answers)


@dataclass(frozen=True)
class QuestionTree:
    """Questions in an order in which each comes after those that lead to it.

    The first one is asked of everybody. A tree that breaks these rules raises ValueError.
    """

    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for question in self.questions:
            _check(question, seen)
            seen.update(question.choices)
        if not self.questions or self.questions[0].after:
            raise ValueError("a tree starts with a question that is asked of everybody")

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the names of all choices, in the order of the columns of votes."""
        return tuple(choice for question in self.questions for choice in question.choices)

    @property
    def columns(self) -> tuple[slice, ...]:
        """Return for every question where its answers stand among the choices."""
        ends = np.cumsum([len(question.answers) for question in self.questions]).tolist()
        pairs = zip(ends, self.questions, strict=True)
        return tuple(slice(end - len(question.answers), end) for end, question in pairs)

    def reach(self, fractions: Array) -> Array:
        """Return which part of the people come to each question.

        Parameters
        ----------
        fractions : (object, choice) float, of those who are asked a question; 0 and 1 along a
            single path, or probabilities

        Returns
        -------
        (object, question) float64, 1 for questions that everybody is asked
        """
        places = {choice: index for index, choice in enumerate(self.choices)}
        asked = np.ones((len(fractions), len(self.questions)))
        said = np.zeros(fractions.shape)  # of all people, not only of those who are asked
        pairs = zip(self.questions, self.columns, strict=True)
        for index, (question, columns) in enumerate(pairs):
            if question.after:
                parents = [places[choice] for choice in question.after]
                asked[:, index] = said[:, parents].sum(axis=1)
            said[:, columns] = asked[:, index, None] * fractions[:, columns]
        return asked

    def counts(self, fractions: Array, people: Array) -> Array:
        """Return votes from a table of vote fractions, as Galaxy Zoo publishes them.

        Parameters
        ----------
        fractions : (object, choice) float, of those who were asked; NaN for a question that
            nobody came to
        people : (object,) how many looked at the object

        Returns
        -------
        (object, choice) float32: people who made each choice, not rounded
        """
        fractions = np.nan_to_num(np.asarray(fractions, dtype=np.float64))
        if fractions.ndim != 2 or fractions.shape[1] != len(self.choices):
            raise ValueError(
                f"fractions have shape {fractions.shape}; expected (object, choice) with the "
                f"{len(self.choices)} choices {self.choices[:3]}..."
            )
        asked = self.reach(fractions) * np.asarray(people, dtype=np.float64)[:, None]
        sizes = [len(question.answers) for question in self.questions]
        said: Array = np.repeat(asked, sizes, axis=1) * fractions
        return said.astype(np.float32)

    def path(self, fractions: Array) -> Array:
        """Return which questions are asked when each is answered by its likeliest choice.

        Parameters
        ----------
        fractions : (object, choice) float

        Returns
        -------
        (object, question) bool
        """
        sure = np.zeros(fractions.shape)
        for columns in self.columns:
            part = fractions[:, columns]
            sure[:, columns] = np.eye(part.shape[1])[part.argmax(axis=1)]
        on_path: Array = self.reach(sure) > 0.5
        return on_path


def _check(question: Question, seen: set[str]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]*", question.name):  # it becomes part of file names
        raise ValueError(f"a question is called {question.name!r}: use letters, digits, _ and -")
    if len(question.answers) < 2:
        raise ValueError(f"question {question.name!r} needs at least two answers")
    taken = [name for name in question.choices if name in seen or question.choices.count(name) > 1]
    if taken:
        raise ValueError(f"two choices are called {taken[0]!r}")
    unknown = sorted(set(question.after) - seen)
    if unknown:
        raise ValueError(
            f"question {question.name!r} comes after {unknown}, which no earlier question offers; "
            f"earlier ones offer {sorted(seen)}"
        )


def single_question(answers: Sequence[str]) -> QuestionTree:
    """Return the tree of one question, whose choices are called as its answers."""
    return QuestionTree((Question("", tuple(answers)),))


_SMOOTH, _FEATURES = (
    "t01_smooth_or_features_a01_smooth",
    "t01_smooth_or_features_a02_features_or_disk",
)
_FACE_ON, _SPIRAL = ("t02_edgeon_a05_no",), ("t04_spiral_a08_spiral",)

# Willett et al. 2013 (MNRAS 435, 2835), their table 2 and figure 1; names as in their catalogue, so
# that `<choice>_weighted_fraction` is a column of it.
GZ2 = QuestionTree(
    (
        Question(
            "t01_smooth_or_features", ("a01_smooth", "a02_features_or_disk", "a03_star_or_artifact")
        ),
        Question("t02_edgeon", ("a04_yes", "a05_no"), (_FEATURES,)),
        Question("t03_bar", ("a06_bar", "a07_no_bar"), _FACE_ON),
        Question("t04_spiral", ("a08_spiral", "a09_no_spiral"), _FACE_ON),
        Question(
            "t05_bulge_prominence",
            ("a10_no_bulge", "a11_just_noticeable", "a12_obvious", "a13_dominant"),
            _FACE_ON,
        ),
        Question("t06_odd", ("a14_yes", "a15_no"), (_SMOOTH, _FEATURES)),
        Question(
            "t07_rounded",
            ("a16_completely_round", "a17_in_between", "a18_cigar_shaped"),
            (_SMOOTH,),
        ),
        Question(
            "t08_odd_feature",
            (
                "a19_ring",
                "a20_lens_or_arc",
                "a21_disturbed",
                "a22_irregular",
                "a23_other",
                "a24_merger",
                "a38_dust_lane",
            ),
            ("t06_odd_a14_yes",),
        ),
        Question(
            "t09_bulge_shape",
            ("a25_rounded", "a26_boxy", "a27_no_bulge"),
            ("t02_edgeon_a04_yes",),
        ),
        Question("t10_arms_winding", ("a28_tight", "a29_medium", "a30_loose"), _SPIRAL),
        Question(
            "t11_arms_number",
            ("a31_1", "a32_2", "a33_3", "a34_4", "a36_more_than_4", "a37_cant_tell"),
            _SPIRAL,
        ),
    )
)

# The least that tells apart the four classes of the paper: smooth, edge-on, spiral, odd.
SHORT = QuestionTree(
    (
        Question("shape", ("smooth", "featured", "artifact")),
        Question("edge_on", ("yes", "no"), ("shape_featured",)),
        Question("spiral", ("yes", "no"), ("edge_on_no",)),
        Question("odd", ("yes", "no"), ("shape_smooth", "shape_featured")),
    )
)

TREES = {"gz2": GZ2, "short": SHORT}
