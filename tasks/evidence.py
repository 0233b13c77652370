"""Evidence made public: a case is opened on it in Prefect, in MLflow and in the record.

What the evidence says is measured elsewhere (`tasks.evaluation`); what follows from it is decided
by a person and carried out by `tasks.promotion`.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from tasks import tracking
from tasks.answers import evidence_key
from tasks.decisions import Case, Event, append, evidence_digest, find_event, read_events
from tasks.references import EvidencePacket
from tasks.reports import evidence_markdown
from tasks.settings import Settings


@task(name="open-case", cache_policy=NO_CACHE)
def open_case(
    settings: Settings, packet: EvidencePacket, attempt: int, timeout_seconds: int
) -> Case:
    """Publish an evidence packet in Prefect and MLflow and record that a decision is asked for.

    Parameters
    ----------
    attempt : int
        1 for the first packet of a promote run, 2 when that became out of date, and so on.
    timeout_seconds : int
        From now until silence counts as a rejection.
    """
    check_comparable(packet)
    model, digest = packet.challenger.model, evidence_digest(packet)
    run_id = str(flow_run.id)
    identity = json.dumps([run_id, attempt, digest])
    case = Case(
        case_id=hashlib.sha256(identity.encode()).hexdigest(),
        flow_run_id=run_id,
        attempt=attempt,
        downstream=model.downstream,
        challenger=model,
        champion=packet.champion.model if packet.champion else None,
        evidence=digest,
        deadline=datetime.now(UTC) + timedelta(seconds=timeout_seconds),
    )
    body = {"case": case.model_dump(mode="json"), "evidence": packet.model_dump(mode="json")}
    if not append(settings, case, Event.OPENED, body):
        opened = find_event(settings, case, Event.OPENED)
        case = Case.model_validate(opened.body["case"]) if opened else case
    text = evidence_markdown(packet)
    run = tracking.open_run(settings, model.run_id)
    run.log_json(f"{artifact_folder(case)}/evidence.json", packet)
    run.log_text(f"{artifact_folder(case)}/evidence.md", text)
    create_markdown_artifact(
        text,
        key=evidence_key(model.downstream, model.version),
        description=f"evidence {digest[:12]}, to be decided by {case.deadline:%Y-%m-%d %H:%M} UTC",
    )
    return case


def check_comparable(packet: EvidencePacket) -> None:
    """Refuse a packet whose two evaluations do not speak of the same test.

    Raises
    ------
    ValueError
        If champion and challenger were not measured on the same snapshot, split and labels, or
        the headline metric is missing.
    """
    sides = [side for side in (packet.challenger, packet.champion) if side is not None]
    for name in ("headline", "snapshot", "split_digest", "labels_digest"):
        if len({str(getattr(side, name)) for side in sides}) != 1:
            raise ValueError(
                f"champion and challenger differ in {name}, so their metrics cannot be compared: "
                "evaluate both on the same frozen test split"
            )
    if any(side.headline not in side.metrics for side in sides):
        raise ValueError(f"the evaluation lacks its headline metric {packet.challenger.headline!r}")


def artifact_folder(case: Case) -> str:
    """Return where the MLflow run of the challenger keeps evidence and decision of a case."""
    return f"promotion/{case.case_id[:12]}"


def evidence_of(settings: Settings, digest: str) -> EvidencePacket:
    """Return the evidence packet that was shown under a digest.

    Raises
    ------
    LookupError
        If no case was opened on such evidence.
    """
    for item in reversed(read_events(settings)):
        if item.event is Event.OPENED and item.body["case"]["evidence"] == digest:
            return EvidencePacket.model_validate(item.body["evidence"])
    raise LookupError(f"no evidence {digest[:12]} was ever shown in {settings.home}")
