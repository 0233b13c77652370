"""How far people agree: kappas for each question, and the objects that they dispute.

Works on *standing* answers: what is left of the ledger's rows when those that take back are
summed with those that they take back. Rows that stand for many votes are tables, not people, and
are left aside; so are answers that are none of the question's, such as "unsure".
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lvm.downstream import DownstreamTask
from lvm.questions import QuestionTree
from storage.label_store import ID_COLUMNS
from tasks.references import Reference

KEY = list(ID_COLUMNS)
Groups = Mapping[str, tuple[str, ...]]
DISPUTED_BELOW = 2 / 3  # share of the first answer; two against one is settled


class PairAgreement(Reference):
    """Two people on the objects that both answered; `kappa` is None where chance decides all."""

    first: str
    second: str
    objects: int
    same: float
    kappa: float | None


class Agreement(Reference):
    """How people agree on one question.

    `objects` have answers of two or more of them; `same` is the chance that two of the answers to
    an object are equal. `fleiss_kappa` is 1 for full agreement, 0 for that of chance, None where
    chance would give full agreement or no object has two answers.
    """

    question: str
    annotators: int
    objects: int
    same: float | None
    fleiss_kappa: float | None
    pairs: tuple[PairAgreement, ...]


def answer_groups(task: DownstreamTask, classes: Sequence[str] | None = None) -> Groups:
    """Return the answers to the question of a task by sub-question.

    A tree of questions has as many; the only question of another task is called as the task.
    `classes` are those that the votes have, where they are not the task's own.
    """
    own = tuple(getattr(task.config, "classes", ()))
    asked = own if classes is None else tuple(classes)
    tree: QuestionTree | None = getattr(task, "tree", None)
    if tree is not None and tree.choices == asked:
        return {item.name or task.name: item.choices for item in tree.questions}
    return {task.name: asked}


def standing_answers(labels: pd.DataFrame, groups: Groups) -> pd.DataFrame:
    """Return what people say now, one row an object, sub-question and annotator.

    Parameters
    ----------
    labels : DataFrame
        Rows of `storage.label_store.read_labels`.
    groups : mapping
        Of `answer_groups`.

    Returns
    -------
    DataFrame
        ``release``, ``brickid``, ``objid``, ``group``, ``annotator`` and ``answer``. Somebody with
        two standing answers to one sub-question about an object is not in it.
    """
    group_of = {answer: name for name, answers in groups.items() for answer in answers}
    people = labels[(labels["count"].abs() == 1.0) & labels["answer"].isin(list(group_of))]
    on = [*KEY, "annotator", "answer"]
    found = people.groupby(on, as_index=False)["count"].sum()
    found = found[found["count"] > 0].assign(group=lambda rows: rows["answer"].map(group_of))
    alone = ~found.duplicated([*KEY, "group", "annotator"], keep=False)
    columns = [*KEY, "group", "annotator", "answer"]
    return found.loc[alone, columns].reset_index(drop=True)


def agreement(answers: pd.DataFrame, groups: Groups) -> tuple[Agreement, ...]:
    """Return how people agree on every sub-question that anybody answered."""
    found = []
    for name, choices in groups.items():
        part = answers[answers["group"] == name]
        if part.empty:
            continue
        counts = vote_counts(part, choices).to_numpy()
        shared = counts[counts.sum(axis=1) >= 2]
        found.append(
            Agreement(
                question=name,
                annotators=int(part["annotator"].nunique()),
                objects=len(shared),
                same=float(_same(shared).mean()) if len(shared) else None,
                fleiss_kappa=fleiss_kappa(counts),
                pairs=tuple(_pairs(part)),
            )
        )
    return tuple(found)


def disputed(answers: pd.DataFrame, groups: Groups, below: float = DISPUTED_BELOW) -> pd.DataFrame:
    """Return the objects whose answers disagree, the most disputed first.

    Parameters
    ----------
    below : float
        An object is disputed when its first answer has a smaller share than this.

    Returns
    -------
    DataFrame
        ``release``, ``brickid``, ``objid``, ``group``, ``answers`` and ``share`` of the first.
    """
    parts = []
    for name, choices in groups.items():
        counts = vote_counts(answers[answers["group"] == name], choices)
        number = counts.sum(axis=1)
        share = counts.max(axis=1) / number
        table = pd.DataFrame({"group": name, "answers": number, "share": share})
        parts.append(table[(number >= 2) & (share < below)].reset_index())
    return pd.concat(parts, ignore_index=True).sort_values("share", kind="stable")


def vote_counts(answers: pd.DataFrame, choices: Sequence[str]) -> pd.DataFrame:
    """Return how many people gave each answer, one row an object (index: its ids)."""
    counted = answers.groupby([*KEY, "answer"]).size().unstack(fill_value=0)
    return counted.reindex(columns=list(choices), fill_value=0)


def fleiss_kappa(counts: npt.NDArray[Any]) -> float | None:
    """Return Fleiss' kappa of answers (object, answer).

    The number of answers may differ between objects; those with fewer than two do not count.
    """
    shared = counts[counts.sum(axis=1) >= 2].astype(np.float64)
    if not len(shared):
        return None
    share = shared.sum(axis=0) / shared.sum()
    return _beyond_chance(float(_same(shared).mean()), float((share**2).sum()))


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Return Cohen's kappa of the answers of two people to the same objects."""
    if not len(first):
        return None
    one, two = np.asarray(first, dtype=str), np.asarray(second, dtype=str)
    names = np.union1d(one, two)
    by_chance = sum(float((one == name).mean() * (two == name).mean()) for name in names)
    return _beyond_chance(float((one == two).mean()), by_chance)


def _beyond_chance(same: float, by_chance: float) -> float | None:
    return None if by_chance > 1.0 - 1e-12 else (same - by_chance) / (1.0 - by_chance)


def _same(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return for every object the chance that two of its answers are equal."""
    number = counts.sum(axis=1)
    return np.asarray((counts * (counts - 1)).sum(axis=1) / (number * (number - 1)))


def _pairs(answers: pd.DataFrame) -> list[PairAgreement]:
    table = answers.set_index([*KEY, "annotator"])["answer"].unstack("annotator")
    pairs = []
    for first, second in combinations(sorted(table.columns), 2):
        both = table[[first, second]].dropna()
        if both.empty:
            continue
        one, two = both[first].tolist(), both[second].tolist()
        same = float((both[first] == both[second]).mean())
        kappa = cohen_kappa(one, two)
        pairs.append(
            PairAgreement(first=first, second=second, objects=len(both), same=same, kappa=kappa)
        )
    return pairs
