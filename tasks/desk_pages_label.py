"""What the labelling pages do: hand answers to the ledger, take them back, open rounds.

The label ledger (`storage.label_store`) is the record; the queue (`tasks.label_queue`) follows it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.label_store import Label, append_labels, read_object_labels
from tasks.errors import TaskError
from tasks.events import tell_labels
from tasks.label_queue import LabelQueue
from tasks.label_rounds import Claim, Round
from tasks.settings import Settings

UNSURE = "unsure"  # in the ledger as any answer; no data set counts it as a class
COMMENT_LENGTH = 2000
_STARTED = time.time()  # of this process, the desk


class BadAnswer(TaskError, ValueError):
    """An answer that the question does not have, or an object that is not in the round."""


@dataclass(frozen=True)
class Given:
    """What somebody said about one object of the queue."""

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
            [_label(asked, claims[key], item, annotator, shown) for key, item in fresh.items()],
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

    The ledger gets a row that counts -1; nothing in it is removed.
    """
    found = queue.last(number, annotator)
    if found is None or not queue.begin_undo(found[0], annotator):
        return None
    answer, claim = found
    if claim.answer:
        plan = queue.round(number).plan
        row = Label(
            plan.survey,
            *claim.key,
            question=plan.question,
            answer=claim.answer,
            annotator=annotator,
            count=-1.0,
            round=number,
            guideline=plan.guideline,
            comment="taken back",
        )
        append_labels(settings.labels_path, [row])
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
        return float(rows.loc[mine & (rows["answer"] == claim.answer), "count"].sum()) > 0

    return queue.repair(stands, before)


def confident(claims: Sequence[Claim], threshold: float) -> list[Claim]:
    """Return the objects whose proposal is at least so confident."""
    return [item for item in claims if item.proposal and item.confidence >= threshold]


def _check(asked: Round, claims: Mapping[int, Claim], given: Sequence[Given]) -> None:
    if asked.closed_at is not None:
        raise BadAnswer(f"{asked.name} was closed meanwhile: nothing was recorded")
    choices = (*asked.plan.answers, UNSURE)
    for item in given:
        if item.answer not in choices:
            raise BadAnswer(f"answer {item.answer!r}: choose one of {', '.join(choices)}")
        if item.item not in claims:
            raise BadAnswer(f"object {item.item} is not in {asked.name}")
        if len(item.comment) > COMMENT_LENGTH:
            raise BadAnswer(f"a comment has at most {COMMENT_LENGTH} characters")


def _label(asked: Round, claim: Claim, given: Given, annotator: str, shown: Shown) -> Label:
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
        answer=given.answer,
        annotator=annotator,
        round=asked.number,
        guideline=asked.plan.guideline,
        shown=json.dumps(seen),
        comment=given.comment.strip(),
    )
