"""What happened, told to the Prefect server; automations (`flows/automations`) listen.

Nothing depends on an event being heard: whoever is started by one looks at the store and the
ledger themselves, and a schedule does the same. So telling never fails a step, and without a
server nothing is told.
"""

import threading
from typing import Any

from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from tasks.references import EmbeddingsRef, Receipt

EMBEDDED = "brickyard.embeddings.made"
LABELLED = "brickyard.labels.added"
WANTED = "brickyard.labels.wanted"
HELD = "brickyard.release.held"
# Labels of one question in this process between two events: each may start a flow run.
LABELS_AN_EVENT = 25

_lock = threading.Lock()
_untold: dict[tuple[str, str], int] = {}


def tell_embedded(embeddings: EmbeddingsRef, receipt: Receipt) -> bool:
    """Tell that a survey has new embeddings; not when the run made none."""
    if not receipt.counts.get("written", 0):
        return False
    payload = {"embeddings": embeddings.model_dump(mode="json"), "bricks": receipt.counts}
    return _tell(EMBEDDED, f"brickyard.survey.{embeddings.survey}", payload)


def tell_labels(survey: str, question: str, count: int, *, now: bool = False) -> bool:
    """Tell that labels were added, once `LABELS_AN_EVENT` are together.

    Parameters
    ----------
    now : bool
        Tell it in any case, as when a round is complete.
    """
    with _lock:
        together = _untold.get((survey, question), 0) + count
        due = together > 0 and (now or together >= LABELS_AN_EVENT)
        _untold[survey, question] = 0 if due else together
    if not due:
        return False
    payload = {"survey": survey, "downstream": question, "labels": together}
    return _tell(LABELLED, f"brickyard.question.{question}", payload)


def tell_wanted(survey: str, question: str, number: int, objects: int) -> bool:
    """Tell that a round of labelling waits for people."""
    payload = {
        "survey": survey,
        "downstream": question,
        "round": number,
        "what": f"{objects} objects of {survey} wait for labels on {question} in round {number}",
    }
    return _tell(WANTED, f"brickyard.round.{number}", payload)


def tell_held(tag: str, digest: str, what: str, link: str) -> bool:
    """Tell that a release waits for a person to let it pass.

    Parameters
    ----------
    digest : str
        Of the case; an event for each.
    link : str
        Page of the flow run that waits; may be empty.
    """
    payload = {"tag": tag, "what": what, "link": link}
    return _tell(HELD, f"brickyard.release.{digest}", payload)


def _tell(event: str, resource: str, payload: dict[str, Any]) -> bool:
    if FlowRunContext.get() is None and not PREFECT_API_URL.value():
        return False  # Prefect would start a server of its own to hear it
    name = resource.removeprefix("brickyard.")
    emit_event(
        event, {"prefect.resource.id": resource, "prefect.resource.name": name}, payload=payload
    )
    return True
