"""What the labelling pages do: hand answers to the ledger, take them back, open rounds.

The label ledger (`storage.label_store`) is the record; the queue (`tasks.label_queue`) follows it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.label_store import Label, append_labels, read_object_labels
from tasks.events import tell_labels
from tasks.label_queue import LabelQueue
from tasks.label_rounds import Claim, Round
from tasks.question_paths import UNSURE, BadAnswer, check_path, split_path, tree_of
from tasks.settings import Settings

COMMENT_LENGTH = 2000
_STARTED = time.time()  # of this process, the desk


@dataclass(frozen=True)
class Given:
    """What somebody said about one object of the queue; of a tree of questions, a joined path."""

    item: int
    answer: str
    comment: str = ""


@dataclass(frozen=True)
class Shown:
    """What they saw when they said it; kept with every label.

    `accepted` marks proposals that were accepted many at a time.
    """

    page: str
    snapshot: str
    view: Mapping[str, Any] = field(default_factory=dict)
    accepted: bool = False


def submit(
    settings: Settings,
    queue: LabelQueue,
    annotator: str,
    number: int,
    given: Sequence[Given],
    shown: Shown,
) -> list[Claim]:
    """Write answers to the ledger, all or none, and return the objects that they are about.

    An object that this annotator answered before in the round is left out: sending a form twice
    adds nothing. When this returns, the answers are on disk.

    Raises
    ------
    BadAnswer
        If an answer is none of the question's, or an object is not in the round.
    """
    asked = queue.round(number)
    claims = {claim.item: claim for claim in queue.find(number, [item.item for item in given])}
    _check(asked, claims, given)
    begun = queue.begin(annotator, {item.item: item.answer for item in given})
    if len(begun) < len(given):
        # Answered before; or begun by a desk that was killed, and then it may not be in the ledger.
        repair_queue(settings, queue, before=_STARTED)
        begun |= queue.begin(annotator, {item.item: item.answer for item in given})
    fresh = {item.item: item for item in given if item.item in begun}
    try:
        append_labels(
            settings.labels_path,
            [
                _label(asked, claims[key], (item, answer), annotator, shown)
                for key, item in fresh.items()
                for answer in _choices(asked, item.answer)
            ],
        )
    except BaseException:
        for answer in begun.values():
            queue.finish_undo(answer, annotator)
        raise
    queue.finish(list(begun.values()))
    complete = queue.round(number).missing == 0
    tell_labels(asked.plan.survey, asked.plan.question, len(fresh), now=complete)
    return [claims[item] for item in fresh]


def undo(settings: Settings, queue: LabelQueue, annotator: str, number: int) -> Claim | None:
    """Take back what an annotator said last in a round; the object is theirs to answer again.

    The ledger gets rows that count -1; nothing in it is removed.
    """
    found = queue.last(number, annotator)
    if found is None or not queue.begin_undo(found[0], annotator):
        return None
    answer, claim = found
    if claim.answer:
        asked = queue.round(number)
        plan = asked.plan
        rows = [
            Label(
                plan.survey,
                *claim.key,
                question=plan.question,
                answer=said,
                annotator=annotator,
                count=-1.0,
                round=number,
                guideline=plan.guideline,
                comment="taken back",
            )
            for said in _choices(asked, claim.answer)
        ]
        append_labels(settings.labels_path, rows)
    queue.finish_undo(answer, annotator)
    return claim


def repair_queue(settings: Settings, queue: LabelQueue, before: float = 0.0) -> int:
    """Bring the queue into line with the ledger after a crash; return how many answers.

    What was begun `before` that time [s] is of a process that is gone.
    """

    def stands(claim: Claim, annotator: str, survey: str) -> bool:
        if not settings.labels_path.is_file():
            return False
        rows = read_object_labels(settings.labels_path, survey, *claim.key)
        mine = (rows["annotator"] == annotator) & (rows["round"] == claim.round)
        last = _choices(queue.round(claim.round), claim.answer)[
            -1
        ]  # the rows of a path are written all or none
        return float(rows.loc[mine & (rows["answer"] == last), "count"].sum()) > 0

    return queue.repair(stands, before)


def confident(claims: Sequence[Claim], threshold: float) -> list[Claim]:
    """Return the objects whose proposal is at least so confident."""
    return [item for item in claims if item.proposal and item.confidence >= threshold]


def _check(asked: Round, claims: Mapping[int, Claim], given: Sequence[Given]) -> None:
    if asked.closed_at is not None:
        raise BadAnswer(f"{asked.name} was closed meanwhile: nothing was recorded")
    choices = (*asked.plan.answers, UNSURE)
    tree = tree_of(asked.plan.question, asked.plan.answers)
    for item in given:
        if tree is not None:
            check_path(tree, split_path(item.answer))
        elif item.answer not in choices:
            raise BadAnswer(f"answer {item.answer!r}: choose one of {', '.join(choices)}")
        if item.item not in claims:
            raise BadAnswer(f"object {item.item} is not in {asked.name}")
        if len(item.comment) > COMMENT_LENGTH:
            raise BadAnswer(f"a comment has at most {COMMENT_LENGTH} characters")


def _choices(asked: Round, answer: str) -> tuple[str, ...]:
    """Return the answers that an answer of the queue is in the ledger: of a tree, its path."""
    plan = asked.plan
    return split_path(answer) if tree_of(plan.question, plan.answers) else (answer,)


def _label(
    asked: Round, claim: Claim, said: tuple[Given, str], annotator: str, shown: Shown
) -> Label:
    given, answer = said
    seen: dict[str, Any] = {
        "page": shown.page,
        "snapshot": shown.snapshot,
        "view": dict(shown.view),
        "blind": asked.plan.blind,
    }
    if claim.proposal and not asked.plan.blind:
        seen["proposal"] = claim.proposal
        seen["confidence"] = claim.confidence
        seen["model"] = claim.model
        seen["accepted"] = shown.accepted
    return Label(
        asked.plan.survey,
        *claim.key,
        question=asked.plan.question,
        answer=answer,
        annotator=annotator,
        round=asked.number,
        guideline=asked.plan.guideline,
        shown=json.dumps(seen),
        comment=given.comment.strip(),
    )
