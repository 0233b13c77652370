"""Prefect's side of a decision: the form, which promote runs wait for one, how a run is woken.

What Prefect holds is not trusted: whoever reaches its API can write to it. Who may decide and
what stands as a decision is the business of `tasks.deciding` and of the record.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.input import RunInput
from prefect.utilities.urls import url_for
from pydantic import Field

from tasks.decisions import Case
from tasks.errors import TaskError
from tasks.references import Reference

DIGEST_DIGITS = 12  # as many digits of the evidence digest are accepted from a typing hand
PAGE = 100  # flow runs read from the API at a time


class NotWaiting(TaskError, LookupError):
    """The run does not wait for a decision, or no longer."""


class InvalidDecision(TaskError, ValueError):
    """A decision that cannot be taken as it is; nothing was moved."""


class PromotionDecision(RunInput):
    """The form: approve or reject a challenger, after seeing its evidence."""

    approve: bool = Field(
        default=False,
        title="Approve",
        description="On: the challenger becomes champion. Off: it is rejected, the champion stays.",
    )
    wants_labels: bool = Field(
        default=False,
        title="Ask for more labels",
        description="On, with Approve off: rejected because there are too few labels.",
    )
    reason: str = Field(
        title="Reason",
        description="Why, in a sentence that helps whoever asks next year; must not be blank.",
    )
    code: str = Field(
        default="",
        title="Your code",
        description="One-time code from the review desk or `brickyard users code`: it proves who "
        "you are. Only a home without users does without.",
    )
    override: str = Field(
        default="",
        title="Override",
        description="Why, when you approve although a limit is broken; needs a role that may.",
    )
    seen_evidence: str = Field(
        title="Evidence digest",
        description="Digest at the top of the evidence that you have read. Filled in by the form; "
        "an answer to evidence that is out of date is refused.",
    )


class WaitingPromotion(Reference):
    """A promote run that waits for a decision.

    `case_id` is that of `tasks.decisions`; `evidence` is Markdown; `url` is the page of the run,
    empty when there is no server; `form` is the key of the form that waits, which changes every
    time a run asks again.
    """

    flow_run_id: str
    case_id: str
    downstream: str
    version: str
    evidence_digest: str
    evidence: str
    deadline: datetime
    form: str
    url: str


def why_refused(reason: str, seen_evidence: str, evidence: str) -> str:
    """Return why an answer does not do, whoever gives it, or an empty text when it does."""
    seen = seen_evidence.strip().lower()
    reasons = []
    if not reason.strip():
        reasons.append("the reason is blank: say why")
    if len(seen) < DIGEST_DIGITS or not evidence.startswith(seen):
        reasons.append(
            f"the evidence digest {seen or '(blank)'} is not that of the evidence shown, "
            f"{evidence[:DIGEST_DIGITS]}...: read the evidence of this run and decide on it"
        )
    return "; ".join(reasons)


def waiting_promotions() -> list[WaitingPromotion]:
    """Return the promote runs that wait for a decision, paused or suspended, oldest first."""
    with get_client(sync_client=True) as client:
        found = [_waiting(client, run) for run in _paused_runs(client)]
    return [item for item in found if item is not None]


def find_waiting(flow_run_id: str) -> WaitingPromotion:
    """Return the promote run that waits for a decision, by its id.

    Raises
    ------
    NotWaiting
        If the run does not exist, is not held or was answered before.
    """
    with get_client(sync_client=True) as client:
        try:
            item = _waiting(client, client.read_flow_run(UUID(flow_run_id)))
        except (ObjectNotFound, ValueError) as error:
            raise NotWaiting(f"there is no flow run {flow_run_id!r}: {error}") from error
    if item is None:
        raise NotWaiting(
            f"flow run {flow_run_id} does not wait for a decision: it was answered before or has "
            "ended; `brickyard waiting` lists what waits"
        )
    return item


def answered_at(flow_run_id: str, form: str) -> datetime | None:
    """Return when the form of a run was filled in, by the server's clock."""
    with get_client(sync_client=True) as client:
        for state in ("paused", "suspended"):
            key = f"{state}-{form}-response"
            for found in client.filter_flow_run_input(UUID(flow_run_id), key, 1, set()):
                return found.created
    return None


def resume(flow_run_id: str, answer: dict[str, Any]) -> str:
    """Hand an answer to a held run; return why Prefect did not take it, or an empty text."""
    with get_client(sync_client=True) as client:
        response = client.resume_flow_run(UUID(flow_run_id), run_input=answer)
    if response.status.value == "ACCEPT":
        return ""
    return str(getattr(response.details, "reason", "") or response.status.value)


def evidence_key(downstream: str, version: str) -> str:
    """Return the key of the Prefect artifact that shows the evidence of a challenger."""
    return f"evidence-{downstream.replace('_', '-')}-v{version}"


def run_url(flow_run_id: str) -> str:
    """Return the address of a flow run's page, or an empty text when there is no server."""
    return url_for("flow-run", obj_id=flow_run_id) or ""


def _paused_runs(client: SyncPrefectClient) -> list[FlowRun]:
    paused = FlowRunFilterStateType(any_=[StateType.PAUSED])
    chosen = FlowRunFilter(state=FlowRunFilterState(type=paused))
    runs: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(flow_run_filter=chosen, limit=PAGE, offset=len(runs))
        runs += page
        if len(page) < PAGE:
            return sorted(runs, key=lambda run: (run.created is None, run.created))


def _waiting(client: SyncPrefectClient, run: FlowRun) -> WaitingPromotion | None:
    state = run.state
    if state is None or not state.is_paused() or not state.state_details.run_input_keyset:
        return None
    key = str(state.state_details.pause_key)
    described = _read_input(client, run.id, f"hold-{key}")
    # The form is saved just after the run is paused; before that nobody can answer.
    form = _read_input(client, run.id, state.state_details.run_input_keyset["schema"])
    if described is None or form is None:
        return None
    case = Case.model_validate_json(described)
    name = evidence_key(case.downstream, case.challenger.version)
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            key=ArtifactFilterKey(any_=[name]),
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
        ),
        sort=ArtifactSort.CREATED_DESC,
        limit=1,
    )
    return WaitingPromotion(
        flow_run_id=str(run.id),
        case_id=case.case_id,
        downstream=case.downstream,
        version=case.challenger.version,
        evidence_digest=case.evidence,
        evidence=str(artifacts[0].data) if artifacts else "",
        deadline=case.deadline,
        form=key,
        url=run_url(str(run.id)),
    )


def _read_input(client: SyncPrefectClient, flow_run_id: UUID, key: str) -> str | None:
    try:
        return client.read_flow_run_input(flow_run_id=flow_run_id, key=key)
    except PrefectHTTPStatusError as error:
        if error.response.status_code == 404:
            return None
        raise
