"""How good the labels on a question are: agreement, reliability, and what is in dispute."""

from lvm.downstream import create_task
from storage.label_store import read_labels
from tasks.agreement import Agreement, agreement, answer_groups, disputed, standing_answers
from tasks.annotators import GOLD, Reliability, reliabilities
from tasks.datasets import object_ids
from tasks.labels import check_question
from tasks.references import Reference
from tasks.settings import Settings


class LabelQuality(Reference):
    """Of all answers to a question in a survey; `disputed` are object ids, the worst first."""

    agreement: tuple[Agreement, ...]
    reliability: tuple[Reliability, ...]
    disputed: tuple[str, ...]


def label_quality(settings: Settings, survey: str, question: str) -> LabelQuality:
    """Return how good the labels on a question are.

    Raises
    ------
    SchemaMismatch
        If no downstream task asks the question.
    StorageError
        If there is no ledger.
    """
    check_question(question)
    groups = answer_groups(create_task(question))
    labels = read_labels(settings.labels_path, survey, question)
    people = standing_answers(labels[labels["annotator"] != GOLD], groups)
    names = object_ids(disputed(people, groups))
    return LabelQuality(
        agreement=agreement(people, groups),
        reliability=reliabilities(labels, groups),
        disputed=tuple(dict.fromkeys(names)),
    )
