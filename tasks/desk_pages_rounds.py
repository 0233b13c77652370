"""Open a round of labelling: which objects, with which proposals of which model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lvm.downstream import DOWNSTREAM_TASKS
from storage.brick_store import read_objects
from storage.catalogue import parse_object_id, read_catalogue, read_metadata
from tasks.datasets import KEY, object_ids
from tasks.label_queue import LabelQueue
from tasks.label_rounds import QueueItem, QueueProblem, RoundPlan
from tasks.question_paths import tree_of
from tasks.settings import Settings
from tasks.snapshots import find_snapshot, open_snapshot

RANDOM_SHARE = 0.25  # kept for unbiased estimates of how common answers are
PICKED = "picked by hand"
MOST_ANSWERS = 9  # keys 1 to 9; a tree of questions is asked one question after the other


@dataclass(frozen=True)
class RoundChoice:
    """How a round is filled.

    Parameters
    ----------
    count : objects
    blind, wanted : see `tasks.label_rounds.RoundPlan`
    random_share : of the objects, drawn from all; the others are those the model is least sure of
    seed : of the random share
    """

    count: int = 100
    blind: bool = True
    wanted: int = 1
    random_share: float = RANDOM_SHARE
    seed: int = 0
    title: str = ""


def questions() -> dict[str, tuple[str, ...]]:
    """Return the questions that can be asked, each with its answers; a tree has those of all."""
    found = {}
    for name, task in DOWNSTREAM_TASKS.items():
        classes = tuple(str(item) for item in getattr(task.config_class(), "classes", ()))
        tree = tree_of(name, classes)
        parts = [item.choices for item in tree.questions] if tree else [classes]
        if all(2 <= len(part) <= MOST_ANSWERS for part in parts):
            found[name] = classes
    return found


def answers_of(question: str) -> tuple[str, ...]:
    """Return the answers of a question, or raise `QueueProblem`."""
    known = questions()
    if question not in known:
        raise QueueProblem(f"no question {question!r}: there are {', '.join(sorted(known))}")
    return known[question]


def open_chosen_round(
    settings: Settings,
    queue: LabelQueue,
    survey: str,
    question: str,
    choice: RoundChoice,
    user: str,
) -> int:
    """Open a round on objects that a model is unsure of and on random ones; return its number.

    Without a published catalogue of the question all objects are random ones. None is asked about
    in another open round.
    """
    plan = RoundPlan(
        survey,
        question,
        answers_of(question),
        title=choice.title,
        blind=choice.blind,
        wanted=choice.wanted,
        opened_by=user,
    )
    return queue.open_drawn_round(
        plan, lambda asked: choose_items(settings, survey, question, choice, asked)
    )


def choose_items(
    settings: Settings,
    survey: str,
    question: str,
    choice: RoundChoice,
    asked: frozenset[str] = frozenset(),
) -> list[QueueItem]:
    """Return the least certain objects of the newest catalogue, mixed with random ones.

    Those `asked` about already (object ids) are left out.
    """
    rng = np.random.default_rng(choice.seed)
    table = proposals(settings, survey, question)
    if table.empty:
        snapshot = find_snapshot(settings, survey, None)
        table = read_objects(open_snapshot(snapshot), survey, catalogue=False)[KEY].assign(
            proposal="", confidence=0.0, model=""
        )
        table = _without(table, asked)
        chosen = rng.permutation(len(table))[: choice.count]
        return _items(table.iloc[chosen].assign(why="random"))
    table = _without(table, asked)
    random = rng.permutation(len(table))[: round(choice.count * choice.random_share)]
    rest = table.drop(index=table.index[random]).nsmallest(
        choice.count - len(random), "confidence", keep="first"
    )
    mixed = pd.concat([table.iloc[random].assign(why="random"), rest.assign(why="model is unsure")])
    return _items(mixed.iloc[rng.permutation(len(mixed))])


def items_of(
    settings: Settings, survey: str, question: str, object_ids: Sequence[str], why: str
) -> list[QueueItem]:
    """Return objects for the queue, with the newest model's proposals where there are any."""
    known = proposals(settings, survey, question).set_index(KEY)
    items = []
    for key in map(parse_object_id, object_ids):
        if key in known.index:
            row = known.loc[key]
            proposal, model = str(row["proposal"]), str(row["model"])
            items.append(QueueItem(*key, why, proposal, float(row["confidence"]), model))
        else:
            items.append(QueueItem(*key, why))
    return items


def proposals(settings: Settings, survey: str, question: str) -> pd.DataFrame:
    """Return what the newest catalogue of a question says of every object.

    Returns
    -------
    DataFrame
        ``release``, ``brickid``, ``objid``, ``proposal``, ``confidence`` and ``model``; empty where
        there is no catalogue.
    """
    folder = newest_catalogue(settings, survey, question)
    columns = [*KEY, "proposal", "confidence", "model"]
    if folder is None:
        return pd.DataFrame(columns=columns)
    table, metadata = read_catalogue(folder)
    probabilities = [name for name in table if str(name).startswith("p_")]
    if "answer" not in table or not probabilities:
        return pd.DataFrame(columns=columns)
    made = table.rename(columns={"answer": "proposal"}).assign(
        confidence=table[probabilities].max(axis=1).astype("float64"),
        model=f"{question} v{metadata['model']['version']}",
    )
    return made[columns]


def newest_catalogue(settings: Settings, survey: str, question: str) -> Path | None:
    """Return the folder of the catalogue that was published last for a question."""
    found = []
    for file in settings.catalogue_path.rglob("catalogue.parquet"):
        metadata = read_metadata(file.parent)
        if (metadata["survey"], metadata["model"]["downstream"]) == (survey, question):
            found.append((metadata["created_at"], file.parent))
    return max(found)[1] if found else None


def _without(table: pd.DataFrame, asked: frozenset[str]) -> pd.DataFrame:
    return table[~np.isin(object_ids(table), list(asked))] if asked else table


def _items(table: pd.DataFrame) -> list[QueueItem]:
    return [
        QueueItem(
            int(row["release"]),
            int(row["brickid"]),
            int(row["objid"]),
            str(row["why"]),
            str(row["proposal"]),
            float(row["confidence"]),
            str(row["model"]),
        )
        for row in table.to_dict("records")
    ]
