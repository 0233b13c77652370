"""A decision written where people look for it: tags of the versions, artifacts of the run."""

from datetime import datetime

from tasks import tracking
from tasks.decisions import Case, Decision
from tasks.evidence import artifact_folder
from tasks.references import ModelRef
from tasks.reports import case_markdown
from tasks.settings import Settings

DECISION_TAG = "decision"


def decision_record(decision: Decision, outcome: str, at: datetime) -> dict[str, str]:
    """Return what is kept of a decision, as flat text; nothing that is empty."""
    case = decision.case
    record = {
        "outcome": outcome,
        "reviewer": decision.reviewer,
        "user": decision.user,
        "proof": decision.proof,
        "reason": decision.reason,
        "override": decision.override,
        "approved_by": ", ".join(decision.approved_by),
        "wants_labels": "true" if decision.wants_labels else "",
        "at": at.isoformat(),
        "evidence": case.evidence,
        "case": case.case_id,
        "flow_run": case.flow_run_id,
    }
    return {name: value for name, value in record.items() if value}


def tag_decision(settings: Settings, decision: Decision, record: dict[str, str]) -> None:
    """Tag the version decided on and the one it replaces, and keep the record with its run.

    A version that somebody has deleted meanwhile is left out.
    """
    case = decision.case
    if unchanged(settings, case.challenger):
        if case.kind == "rollback":
            restored = {f"restored.{name}": value for name, value in record.items()}
            tracking.tag_version(settings, case.challenger, restored)
        else:
            _tag_challenger(settings, decision, record)
        _keep_record(settings, decision, record)
    if decision.approve and case.champion is not None and unchanged(settings, case.champion):
        word = "rolled_back" if case.kind == "rollback" else "succeeded"
        after = {f"{word}.{name}": value for name, value in record.items()}
        after[f"{word}_by" if word == "succeeded" else f"{word}_to"] = case.challenger.version
        tracking.tag_version(settings, case.champion, after)


def unchanged(settings: Settings, model: ModelRef) -> bool:
    """Return whether a version is registered just as a reference says."""
    try:
        return tracking.read_version(settings, model.downstream, model.version).model == model
    except tracking.UnknownModel:
        return False


def _tag_challenger(settings: Settings, decision: Decision, record: dict[str, str]) -> None:
    # Silence about an abandoned case must not cover what somebody said since.
    known = tracking.version_tags(settings, decision.case.challenger)
    if not (decision.expired and DECISION_TAG in known):
        tags = {f"{DECISION_TAG}.{name}": value for name, value in record.items()}
        tags[DECISION_TAG] = record["outcome"]
        tracking.tag_version(settings, decision.case.challenger, tags)


def _keep_record(settings: Settings, decision: Decision, record: dict[str, str]) -> None:
    case: Case = decision.case
    run = tracking.open_run(settings, case.challenger.run_id)
    folder = artifact_folder(case)
    full = record | {"decision": decision.model_dump(mode="json")}
    run.log_json(f"{folder}/decision.json", full)
    text = case_markdown(case, decision, record["outcome"], record["at"])
    run.log_text(f"{folder}/decision.md", text)
