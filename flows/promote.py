"""Evidence, a person's decision, and only then the alias `champion`.

The flow holds at flow level (Prefect does not pause inside tasks). Suspended, its body runs again
from the start when it is resumed: what stands before the hold runs once (`once`), what stands
after it may run twice and changes nothing the second time.
"""

from typing import Any

from prefect import Task, flow

from tasks.evidence import open_case
from tasks.holds import Hold, ask_until_valid, once
from tasks.open_lineage import HOOKS
from tasks.promotion import PromotionOutcome, PromotionStatus, fits, nominate, settle
from tasks.references import EvidencePacket, ModelRef, Reference
from tasks.settings import load_settings

WEEK_SECONDS = 7 * 24 * 3600


class PromotionRequest(Reference):
    """What a promote run is asked for; see `promote_model`."""

    downstream: str
    challenger: ModelRef | None = None
    evidence: EvidencePacket | None = None
    hold: Hold = "pause"
    timeout_seconds: int = WEEK_SECONDS


@flow(name="promote", flow_run_name="promote {downstream}", **HOOKS)
def promote_model(
    downstream: str,
    challenger: ModelRef | None = None,
    evidence: EvidencePacket | None = None,
    hold: Hold = "pause",
    timeout_seconds: int = WEEK_SECONDS,
) -> PromotionOutcome:
    """Ask a person whether a challenger becomes champion, and do as they say.

    Parameters
    ----------
    downstream : str
        Downstream task, such as "morphology".
    challenger : ModelRef, optional
        Registered version to promote; that of the evidence, or the newest undecided one.
    evidence : EvidencePacket, optional
        Made by the fine-tuning run; measured here when it is missing or out of date.
    hold : {"pause", "suspend"}
        "pause" waits in this process; "suspend" frees it and needs a deployment.
    timeout_seconds : int
        Silence for so long counts as a rejection.
    """
    from tasks.evaluation import build_evidence

    request = PromotionRequest(
        downstream=downstream,
        challenger=challenger,
        evidence=evidence,
        hold=hold,
        timeout_seconds=timeout_seconds,
    )
    return run_gate(build_evidence, request)


def run_gate(
    build_evidence: Task[[str, ModelRef], Any], request: PromotionRequest
) -> PromotionOutcome:
    """Run the gate inside a flow: nominate, show evidence, hold, settle; again while stale.

    Parameters
    ----------
    build_evidence : Task
        `(downstream, challenger) -> EvidencePacket`, measured against the champion of now.
    request : PromotionRequest
    """
    settings, packet = load_settings(), request.evidence
    chosen = request.challenger or (packet.challenger.model if packet else None)
    attempt = 0
    while True:
        attempt += 1
        nomination = once(nominate, f"nominate-{attempt}")(settings, request.downstream, chosen)
        chosen = nomination.challenger
        if nomination.already_champion:
            return PromotionOutcome(
                status=PromotionStatus.ALREADY_CHAMPION, challenger=chosen, champion=chosen
            )
        if packet is None or not fits(packet, nomination):
            packet = once(build_evidence, f"evidence-{attempt}")(request.downstream, chosen)
        case = once(open_case, f"case-{attempt}")(
            settings, packet, attempt, request.timeout_seconds
        )
        decision = ask_until_valid(settings, case, packet, request.hold)
        outcome = settle(settings, decision)
        if outcome.status is not PromotionStatus.STALE:
            return outcome
        packet = None
