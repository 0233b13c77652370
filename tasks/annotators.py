"""How reliable each annotator is, known from gold objects, and what their votes count.

A gold object is one with an answer by the annotator `GOLD` in the label ledger: somebody who
knows. Nobody else is told. How often a person is right on gold objects has a beta posterior,
which starts at `PRIOR_RIGHT` and `PRIOR_WRONG`: people are right about four times in five.

**The weight of a vote.** Of K answers, whoever knows the answer with probability p and guesses
otherwise is right with probability a = p + (1 - p) / K. A vote counts p(a) / p(prior), with the
posterior mean for a, and nothing where p would be negative. So somebody who answered no gold
object counts 1, and so do tables of votes; one who is always right counts up to 1.36 (K = 4), one
who guesses nothing. Since gold answers are rows of the same append-only ledger, a training can
compute the same weights again for any time.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd
from scipy.special import betaincinv

from storage.label_store import ID_COLUMNS, read_labels, votes_table
from tasks.agreement import Groups, standing_answers
from tasks.references import Interval, Reference

KEY = list(ID_COLUMNS)
GOLD = "gold"
PRIOR_RIGHT, PRIOR_WRONG = 4.0, 1.0


class Reliability(Reference):
    """How often an annotator is right on the gold objects of one question, and their weight."""

    question: str
    annotator: str
    gold: int
    right: int
    rate: Interval
    weight: float


def reliabilities(labels: pd.DataFrame, groups: Groups) -> tuple[Reliability, ...]:
    """Return the reliability of everybody who answered, for every sub-question they answered.

    Parameters
    ----------
    labels : DataFrame
        Rows of `storage.label_store.read_labels`, those of `GOLD` among them.
    groups : mapping
        Of `tasks.agreement.answer_groups`.
    """
    people = standing_answers(labels[labels["annotator"] != GOLD], groups)
    known = gold_answers(labels, groups)
    judged = people.merge(known, on=[*KEY, "group"], how="left", suffixes=("", "_gold"))
    judged["known"] = judged["answer_gold"].notna()
    judged["right"] = judged["answer_gold"] == judged["answer"]
    counts = judged.groupby(["group", "annotator"], as_index=False)[["known", "right"]].sum()
    return tuple(
        _reliability(str(name), str(who), int(gold), int(right), len(groups[str(name)]))
        for name, who, gold, right in counts.itertuples(index=False)
    )


def gold_answers(labels: pd.DataFrame, groups: Groups) -> pd.DataFrame:
    """Return the known answers: ids, ``group`` and ``answer``, one row an object and question."""
    mine = labels[labels["annotator"] == GOLD]
    # A gold table may count its answer more than once: it is one answer all the same.
    alike = mine.assign(count=mine["count"].clip(-1.0, 1.0))
    return standing_answers(alike, groups).drop(columns="annotator")


def weighted_votes(
    path: Path, survey: str, question: str, groups: Groups, as_of: datetime | None = None
) -> pd.DataFrame:
    """Return the votes that a training uses: those of the ledger, each times its weight.

    Returns
    -------
    DataFrame
        As `storage.label_store.read_votes`, with the answers of all groups as columns.
    """
    labels = read_labels(path, survey, question, as_of=as_of)
    classes = [answer for answers in groups.values() for answer in answers]
    return votes_table(weighted(labels, groups), classes)


def weighted(labels: pd.DataFrame, groups: Groups) -> pd.DataFrame:
    """Return rows of the ledger with `count` times the weight of their annotator."""
    if not (labels["annotator"] == GOLD).any():
        return labels
    weights = {
        (item.question, item.annotator): item.weight for item in reliabilities(labels, groups)
    }
    group_of = _group_of(groups)
    keys = zip(labels["answer"].map(group_of), labels["annotator"], strict=True)
    factor = [weights.get(key, 1.0) for key in keys]
    return labels.assign(count=labels["count"] * factor)


def consensus(votes: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the answer with most votes of every object, and its share of them.

    Objects without votes are left out.
    """
    columns = list(classes)
    total = votes[columns].sum(axis=1)
    voted = votes[total > 0]
    share = voted[columns].max(axis=1) / total[total > 0]
    answer = voted[columns].idxmax(axis=1)
    return voted[KEY].assign(answer=answer, share=share).reset_index(drop=True)


def weight_of(rate: float, answers: int) -> float:
    """Return what a vote counts of somebody who is right at this rate, of so many answers."""
    prior = PRIOR_RIGHT / (PRIOR_RIGHT + PRIOR_WRONG)
    guess = 1.0 / answers
    return max(0.0, rate - guess) / (prior - guess)


def _reliability(question: str, who: str, gold: int, right: int, answers: int) -> Reliability:
    a, b = PRIOR_RIGHT + right, PRIOR_WRONG + gold - right
    mean = a / (a + b)
    low, high = (float(value) for value in betaincinv(a, b, [0.025, 0.975]))
    return Reliability(
        question=question,
        annotator=who,
        gold=gold,
        right=right,
        rate=Interval(value=mean, low=low, high=high),
        weight=weight_of(mean, answers),
    )


def _group_of(groups: Groups) -> Mapping[str, str]:
    return {answer: name for name, answers in groups.items() for answer in answers}
