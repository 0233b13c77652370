"""Objects on which annotators disagree, and how one who may decide settles them.

What is settled is known from then on: it is a row of the annotator `GOLD` (`tasks.annotators`),
which says in `shown` who settled it and what people had said, and counts one vote more than there
are people, so that it wins. It shows how reliable those people are, as every gold answer does.
Settling again takes the earlier row back with another one; nothing is ever removed.
"""

import json
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from lvm.downstream import DOWNSTREAM_TASKS, create_task
from storage.catalogue import parse_object_id
from storage.label_store import Label, append_labels, read_labels, read_object_labels
from tasks.agreement import KEY, Groups, answer_groups, disputed, standing_answers
from tasks.annotators import GOLD, gold_answers, reliabilities
from tasks.dataset_columns import question_of
from tasks.datasets import object_ids
from tasks.errors import TaskError
from tasks.events import tell_labels
from tasks.labels import check_question
from tasks.locks import held
from tasks.references import Reference
from tasks.roles import User
from tasks.settings import Settings

REASON_LENGTH = 2000
LOCK_SECONDS = 60
TRY_AGAIN = "nothing was written; try again, or end that process first"


class CannotSettle(TaskError, ValueError):
    """A dispute cannot be settled like this; nothing was written."""


class Vote(Reference):
    """What somebody says now about an object; `right` of `gold` known answers were theirs."""

    annotator: str
    answer: str
    at: str
    comment: str
    right: int
    gold: int


class Conflict(Reference):
    """An object in dispute; `seen` is the newest row of the ledger about it."""

    object_id: str
    group: str
    choices: tuple[str, ...]
    share: float
    votes: tuple[Vote, ...]
    seen: int


class Settlement(Reference):
    """What somebody decides about an object, after seeing the ledger up to the row `seen`."""

    survey: str
    question: str
    object_id: str
    group: str
    answer: str
    reason: str
    seen: int
    proof: str = "session"


def disputable_questions() -> tuple[str, ...]:
    """Return the questions that people are asked."""
    asked = {question_of(task()) for task in DOWNSTREAM_TASKS.values()}
    return tuple(sorted(asked - {""}))


def find_conflicts(settings: Settings, survey: str, question: str) -> list[Conflict]:
    """Return the objects in dispute that nobody settled, the most disputed first.

    Raises
    ------
    SchemaMismatch
        If no downstream task asks the question.
    """
    check_question(question)
    if not settings.labels_path.is_file():
        return []
    groups = answer_groups(create_task(question))
    labels = read_labels(settings.labels_path, survey, question)
    people = standing_answers(labels[labels["annotator"] != GOLD], groups)
    found = _unsettled(disputed(people, groups), gold_answers(labels, groups))
    if found.empty:
        return []
    newest = labels.groupby(KEY)["id"].max()
    votes = _votes(people.merge(found[[*KEY, "group"]]), labels, groups)
    return [
        Conflict(
            object_id=name,
            group=row["group"],
            choices=groups[row["group"]],
            share=row["share"],
            votes=votes[(*_key(row), row["group"])],
            seen=int(newest[_key(row)]),
        )
        for name, row in zip(object_ids(found), found.to_dict("records"), strict=True)
    ]


def settle(settings: Settings, user: User, wanted: Settlement) -> Label:
    """Write down what an object is, whatever people said of it; return the row.

    Raises
    ------
    NotAllowed
        If the user may not decide.
    CannotSettle
        If the answer is none of the question's, the reason is blank or too long, nobody answered,
        or the ledger has rows about the object that the user has not seen.
    """
    user.must("decide")
    check_question(wanted.question)
    groups = answer_groups(create_task(wanted.question))
    _check(wanted, groups)
    home = settings.home.resolve()
    with held(home / "conflicts.lock", LOCK_SECONDS, "settles a dispute", TRY_AGAIN):
        rows = read_object_labels(
            settings.labels_path, wanted.survey, *parse_object_id(wanted.object_id)
        )
        rows = rows[rows["question"] == wanted.question]
        people = standing_answers(rows[rows["annotator"] != GOLD], groups)
        people = people[people["group"] == wanted.group]
        if people.empty:
            raise CannotSettle(f"nobody answered about {wanted.object_id}: nothing is in dispute")
        if int(rows["id"].max()) != wanted.seen:
            raise CannotSettle(
                f"somebody answered about {wanted.object_id} meanwhile: look at it again"
            )
        made = _row(user, wanted, people)
        append_labels(settings.labels_path, [*_taken_back(rows, wanted, groups), made])
    tell_labels(wanted.survey, wanted.question, 1)
    return made


def _check(wanted: Settlement, groups: Groups) -> None:
    if wanted.answer not in groups.get(wanted.group, ()):
        choices = ", ".join(groups.get(wanted.group, ())) or f"(no question {wanted.group!r})"
        raise CannotSettle(f"answer {wanted.answer!r}: choose one of {choices}")
    if not 0 < len(wanted.reason.strip()) <= REASON_LENGTH:
        raise CannotSettle(f"give a reason, of at most {REASON_LENGTH} characters")


def _row(user: User, wanted: Settlement, people: pd.DataFrame) -> Label:
    said = dict(zip(people["annotator"], people["answer"], strict=True))
    shown = {"page": "conflicts", "settled_by": user.name, "proof": wanted.proof, "said": said}
    return Label(
        wanted.survey,
        *parse_object_id(wanted.object_id),
        question=wanted.question,
        answer=wanted.answer,
        annotator=GOLD,
        count=float(len(people) + 1),
        shown=json.dumps(shown),
        comment=f"settled by {user.name}: {wanted.reason.strip()}",
    )


def _taken_back(rows: pd.DataFrame, wanted: Settlement, groups: Groups) -> list[Label]:
    """Return rows that take back what was settled before about this question."""
    known = rows[(rows["annotator"] == GOLD) & rows["answer"].isin(groups[wanted.group])]
    left = known.groupby("answer")["count"].sum()
    return [
        Label(
            wanted.survey,
            *parse_object_id(wanted.object_id),
            question=wanted.question,
            answer=str(answer),
            annotator=GOLD,
            count=-float(count),
            comment="settled anew",
        )
        for answer, count in left.items()
        if count > 0
    ]


def _unsettled(found: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return the disputes that have no known answer."""
    on = [*KEY, "group"]
    marked = found.merge(known[on], on=on, how="left", indicator="place")
    return marked[marked["place"] == "left_only"]


def _votes(
    people: pd.DataFrame, labels: pd.DataFrame, groups: Groups
) -> dict[tuple[Any, ...], tuple[Vote, ...]]:
    """Return what is said of each object and sub-question, and by whom, as of the newest rows."""
    known = {
        (item.question, item.annotator): (item.right, item.gold)
        for item in reliabilities(labels, groups)
    }
    on = [*KEY, "annotator", "answer"]
    newest = labels.drop_duplicates(on, keep="last")[[*on, "created_at", "comment"]]
    said = people.merge(newest, on=on).sort_values(["answer", "annotator"])
    found: dict[tuple[Any, ...], tuple[Vote, ...]] = {}
    for row in said.to_dict("records"):
        right, gold = known.get((row["group"], row["annotator"]), (0, 0))
        vote = Vote(
            annotator=row["annotator"],
            answer=row["answer"],
            at=row["created_at"],
            comment=row["comment"],
            right=right,
            gold=gold,
        )
        place = (*_key(row), row["group"])
        found[place] = (*found.get(place, ()), vote)
    return found


def _key(row: Mapping[Hashable, Any]) -> tuple[int, ...]:
    return tuple(int(row[name]) for name in KEY)
