"""The hold of a promote run: ask until somebody has given an answer that does.

A hold belongs to one case (`tasks.decisions`). Prefect checks the answer only after the run has
been resumed, so an answer that does not do is refused, recorded and asked for again under a new
key; it never ends the run. A decision made elsewhere meanwhile (`tasks.deciding`) ends the hold.
What a decision leads to is done in `tasks.promotion`.
"""

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, ParamSpec, TypeVar

from prefect import Task, pause_flow_run, suspend_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.input import create_flow_run_input, read_flow_run_input
from prefect.logging import get_run_logger
from pydantic import Field, ValidationError, create_model

from tasks.answers import PromotionDecision, resume, run_url
from tasks.deciding import decide_by_form
from tasks.decisions import Case, Decision, Event, append, find_decision, read_events
from tasks.errors import TaskError
from tasks.grounds import note_grounds
from tasks.policies import broken_limits, read_policies
from tasks.references import EvidencePacket
from tasks.reports import summary_markdown
from tasks.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")
Hold = Literal["pause", "suspend"]

POLL_SECONDS = 1  # a paused run asks its server this often whether it was answered
BACKSTOP_SECONDS = 30  # Prefect ends a pause this long after our own deadline should have


@dataclass
class OncePerRun(CachePolicy):
    """A task result is kept under a label of its flow run, whatever the inputs are."""

    label: str = ""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str:
        """Return the key under which Prefect keeps the result."""
        return f"{task_ctx.task_run.flow_run_id}-{self.label}"


def once(step: Task[P, R], label: str) -> Task[P, R]:
    """Return a task that runs once in a flow run, even when the flow body runs again.

    The body of a suspended flow runs from its start when it is resumed; a step made with this
    gives back its first result, which Prefect keeps as JSON.
    """
    return step.with_options(
        persist_result=True, result_serializer="json", cache_policy=OncePerRun(label=label)
    )


def decision_form(evidence: str, description: str) -> type[PromotionDecision]:
    """Return the form for one evidence packet, its digest filled in and its text above it."""
    shown = PromotionDecision.model_fields["seen_evidence"]
    # A default of the schema only: pages fill it in, but an answer without it is refused.
    field = Field(
        title=shown.title,
        description=shown.description,
        json_schema_extra={"default": evidence},
    )
    form = create_model("PromotionDecision", __base__=PromotionDecision, seen_evidence=(str, field))
    return form.with_initial_data(description=description)


def ask_until_valid(settings: Settings, case: Case, packet: EvidencePacket, hold: Hold) -> Decision:
    """Hold the current flow run until a decision stands, or the deadline passes.

    Parameters
    ----------
    case : Case
        What is decided on.
    packet : EvidencePacket
        Its summary is shown above the form.
    hold : {"pause", "suspend"}
        "pause" keeps this process waiting; "suspend" ends it, and the flow body runs again on
        resuming: needs a deployment.

    Returns
    -------
    Decision
        The one recorded by the form or meanwhile at the desk; when none was, an expired one.
    """
    note_grounds(settings, case, packet)
    summary = summary_markdown(packet, run_url(case.flow_run_id))
    ask, note = 0, _limits_note(settings, case, packet)
    while True:
        standing = find_decision(settings, case)
        if standing is not None:
            return standing
        ask += 1
        answer = _hold_once(case, ask, f"{note}\n\n{summary}" if note else summary, hold)
        standing = find_decision(settings, case)  # at the desk; the run was only woken
        if standing is not None:
            return standing
        if answer is None:
            return expired_decision(case)
        note = _heard(settings, case, ask, answer)


def _heard(settings: Settings, case: Case, ask: int, answer: PromotionDecision | str) -> str:
    """Take an answer to a form; return what to say above the next one, if it must be asked."""
    before = _said_before(settings, case, ask)
    if before:  # this flow body runs again
        return before
    if isinstance(answer, str):
        append(settings, case, Event.REFUSED, {"refusal": answer, "answer": {}}, ask)
        return _tell_refusal(case, ask, answer)
    try:
        decision = decide_by_form(settings, case, ask, _form_key(case, ask), answer)
    except TaskError as error:
        return _tell_refusal(case, ask, str(error))
    return _seconded(decision) if decision.waits_for else ""


def _said_before(settings: Settings, case: Case, ask: int) -> str:
    for item in read_events(settings, case_id=case.case_id):
        if item.ask == ask and item.event is Event.REFUSED:
            return f"**Asked again:** {item.body['refusal']}"
        if item.ask == ask and item.event is Event.APPROVAL:
            return _seconded(Decision.model_validate(item.body))
    return ""


def _seconded(decision: Decision) -> str:
    return f"**Approved by {decision.reviewer}; it still needs {decision.waits_for}.**"


def _limits_note(settings: Settings, case: Case, packet: EvidencePacket) -> str:
    """Return what speaks against an approval by the rules of this home."""
    broken = broken_limits(packet, read_policies(settings).of(case.downstream))
    if not broken:
        return ""
    return f"**Limits broken:** {'; '.join(broken)}. An approval needs a reason to override."


def expired_decision(case: Case) -> Decision:
    """Return the rejection that stands when nobody decided in time."""
    reason = f"no decision by {case.deadline:%Y-%m-%d %H:%M:%S} UTC"
    return Decision(case=case, approve=False, reviewer="", reason=reason, expired=True)


def _hold_once(case: Case, ask: int, text: str, hold: Hold) -> PromotionDecision | str | None:
    """Return the answer, a text when it was no answer to the form, None when none came."""
    form = decision_form(case.evidence, text)
    key = _form_key(case, ask)
    _describe_hold(case, key)
    remaining = max(1, round((case.deadline - datetime.now(UTC)).total_seconds()))
    try:
        if hold == "suspend":
            return suspend_flow_run(wait_for_input=form, timeout=remaining, key=key)
        with _ended_at_deadline(case.flow_run_id, remaining) as too_late:
            answer = pause_flow_run(
                wait_for_input=form,
                timeout=remaining + BACKSTOP_SECONDS,
                poll_interval=POLL_SECONDS,
                key=key,
            )
        return None if too_late.is_set() else answer
    except FlowPauseTimeout:
        return None
    except ValidationError as error:
        return f"not an answer to the form: {error.errors()[0]['msg']}"


@contextmanager
def _ended_at_deadline(flow_run_id: str, seconds: int) -> Iterator[threading.Event]:
    """Resume the paused run at its deadline, so that it can record the rejection and complete.

    Prefect by itself fails a run whose pause has timed out, whatever the flow does then.
    """
    too_late = threading.Event()
    nobody = {"approve": False, "reason": "", "seen_evidence": ""}

    def end() -> None:
        too_late.set()
        if resume(flow_run_id, nobody):
            too_late.clear()  # somebody was faster, or Prefect ends the pause by itself

    context = contextvars.copy_context()
    timer = threading.Timer(seconds, context.run, args=(end,))
    timer.daemon = True
    timer.start()
    try:
        yield too_late
    finally:
        timer.cancel()


def _describe_hold(case: Case, key: str) -> None:
    """Attach to the flow run what it waits for, readable by whoever reaches the Prefect API."""
    name = f"hold-{key}"
    if read_flow_run_input(name) is None:  # there already when a flow body runs again
        create_flow_run_input(name, case.model_dump(mode="json"))


def _tell_refusal(case: Case, ask: int, refusal: str) -> str:
    """Show a refused answer on the page of the run, without what it said; return the next note."""
    get_run_logger().warning("answer %s refused: %s", ask, refusal)
    create_markdown_artifact(
        f"# Answer {ask} was refused\n\n{refusal}\n",
        key=f"refused-{case.downstream.replace('_', '-')}-v{case.challenger.version}",
        description=refusal,
    )
    return f"**Asked again:** {refusal}"


def _form_key(case: Case, ask: int) -> str:
    return f"decision-{case.attempt}-{ask}"
