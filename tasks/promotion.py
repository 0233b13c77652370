"""The promotion gate: the only code that moves an alias, and only after a recorded decision.

Order of a promotion: nominate a challenger, open a case on its evidence, hold (`tasks.holds`),
settle. Settling writes the intent before it touches the registry and looks at the registry again
before it moves anything, so that running it twice changes nothing, a crash is repaired by the next
run, and a decision on evidence that has become out of date moves nothing.
"""

from datetime import UTC, datetime, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks import answers, outcomes, tracking
from tasks.champions import Disagreement, disagreements, record_put_back
from tasks.decision_tags import DECISION_TAG, decision_record, tag_decision, unchanged
from tasks.decisions import (
    Case,
    Decision,
    Event,
    append,
    find_case,
    find_decision,
    find_event,
    one_at_a_time,
    overdue_cases,
    record_decision,
    unfinished_decisions,
)
from tasks.errors import TaskError
from tasks.grounds import what_changed
from tasks.holds import expired_decision
from tasks.outcomes import Nomination, PromotionOutcome, PromotionStatus
from tasks.references import EvidencePacket, ModelRef
from tasks.roles import User
from tasks.settings import Settings, load_settings

describe_outcome = outcomes.describe_outcome

GRACE = timedelta(seconds=60)  # leave a case to its own run for so long after its deadline


class NoCandidate(TaskError, LookupError):
    """No registered version waits to be promoted."""


def find_challenger(settings: Settings, downstream: str, version: str | None = None) -> ModelRef:
    """Return the version to promote: the one named, else the newest that nobody decided on.

    Versions older than the champion are only taken by name.

    Raises
    ------
    UnknownModel
        If the named version is not registered.
    NoCandidate
        If none is named and none waits.
    """
    if version is not None:
        return tracking.read_version(settings, downstream, version).model
    champion = tracking.champion(settings, downstream)
    oldest = int(champion.version) if champion else 0
    for record in tracking.model_versions(settings, downstream):
        if int(record.model.version) > oldest and DECISION_TAG not in record.tags:
            return record.model
    raise NoCandidate(
        f"no undecided version of {downstream!r} newer than the champion in {settings.mlflow_uri}: "
        f"`brickyard finetune` makes one, or name a version to decide on it again"
    )


@task(name="nominate-challenger", cache_policy=NO_CACHE)
def nominate(settings: Settings, downstream: str, challenger: ModelRef | None) -> Nomination:
    """Finish what earlier runs left undone, choose the challenger and point the alias at it."""
    settle_unfinished(settings, downstream)
    chosen = challenger or find_challenger(settings, downstream)
    known = tracking.read_version(settings, downstream, chosen.version).model
    if known != chosen:
        raise ValueError(
            f"{chosen} is not what is registered as version {chosen.version}: {known}. "
            "Start the promotion again with the registered version."
        )
    champion = tracking.champion(settings, downstream)
    if chosen != champion:
        tracking.set_alias(settings, chosen, tracking.CHALLENGER)
    return Nomination(challenger=chosen, champion=champion)


def fits(packet: EvidencePacket, nomination: Nomination) -> bool:
    """Return whether evidence speaks of this challenger and of the champion of now."""
    champion = packet.champion.model if packet.champion else None
    return (packet.challenger.model, champion) == (nomination.challenger, nomination.champion)


@task(name="settle-decision", cache_policy=NO_CACHE)
def settle(settings: Settings, decision: Decision) -> PromotionOutcome:
    """Record a decision and carry it out."""
    outcome = carry_out(settings, decision)
    get_run_logger().info(describe_outcome(outcome))
    return outcome


def carry_out(settings: Settings, decision: Decision) -> PromotionOutcome:
    """Record a decision and do what follows from it; doing it again changes nothing.

    Returns
    -------
    PromotionOutcome
        Of the decision that stands for the case, should another one have been recorded before.
    """
    with one_at_a_time(settings):
        standing, at = record_decision(settings, decision)
        status = PromotionStatus.EXPIRED if standing.expired else PromotionStatus.REJECTED
        if standing.approve:
            moved = _move_alias(settings, standing.case)
            status = _MOVED[standing.case.kind] if moved else PromotionStatus.STALE
        outcome = PromotionOutcome(
            status=status,
            challenger=standing.case.challenger,
            champion=tracking.champion(settings, standing.case.downstream),
            case_id=standing.case.case_id,
            reviewer=standing.reviewer,
            reason=standing.reason,
        )
        if status is not PromotionStatus.STALE:
            _close(settings, standing, outcome, at)
    return outcome


_MOVED = {"promotion": PromotionStatus.APPROVED, "rollback": PromotionStatus.ROLLED_BACK}


def settle_unfinished(settings: Settings, downstream: str | None = None) -> list[PromotionOutcome]:
    """Finish decisions that a crash cut short and reject cases whose deadline has passed."""
    late = overdue_cases(settings, downstream, datetime.now(UTC) - GRACE)
    unfinished = unfinished_decisions(settings, downstream)
    decisions = [*unfinished, *(expired_decision(case) for case in late)]
    return [carry_out(settings, decision) for decision in decisions]


def waiting_promotions() -> list[answers.WaitingPromotion]:
    """Return the promote runs that wait for a decision, after closing those that came too late.

    A run that still waits although its case is decided (it was just about to be held when somebody
    decided) is woken and left out.
    """
    settings = load_settings()
    settle_unfinished(settings)
    return [item for item in answers.waiting_promotions() if not _woken(settings, item)]


def put_back(settings: Settings, user: User, found: Disagreement) -> bool:
    """Point an alias that was moved by hand at what was decided; record who had it done.

    Returns
    -------
    bool
        False when the registry and the record no longer disagree like this: nothing is changed.

    Raises
    ------
    NotAllowed
        If the user may not decide.
    """
    user.must("decide")
    with one_at_a_time(settings):
        if found not in disagreements(settings, [found.downstream]):
            return False
        if found.recorded is None:
            tracking.remove_alias(settings, found.downstream, found.alias)
        else:
            tracking.set_alias(settings, found.recorded, found.alias)
        record_put_back(settings, user, found)
    return True


def _move_alias(settings: Settings, case: Case) -> bool:
    """Make the challenger of an approved case champion; False when its evidence is out of date."""
    if find_event(settings, case, Event.STALE):
        return False
    if find_event(settings, case, Event.MOVED):
        return True
    champion = tracking.champion(settings, case.downstream)
    begun = find_event(settings, case, Event.MOVING) is not None
    done = begun and champion == case.challenger  # a crash came between the alias and its record
    if not done:
        found = _what_changed(settings, case, champion)
        if found:
            append(settings, case, Event.STALE, found)
            return False
    after = case.previous if case.kind == "rollback" else case.champion
    body = {"to": _json(case.challenger), "previous": _json(after), "kind": case.kind}
    append(settings, case, Event.MOVING, body)
    if not done:
        _set_previous(settings, case, after)
        tracking.set_alias(settings, case.challenger, tracking.CHAMPION)
    append(settings, case, Event.MOVED, body)
    return True


def _what_changed(
    settings: Settings, case: Case, champion: ModelRef | None
) -> dict[str, object] | None:
    """Return what makes the evidence of a case out of date, or None."""
    changed = list(what_changed(settings, case))
    if champion != case.champion:
        changed.append("champion")
    if not unchanged(settings, case.challenger):
        changed.append("challenger")
    if not changed:
        return None
    return {"changed": sorted(set(changed)), "champion_found": _json(champion)}


def _set_previous(settings: Settings, case: Case, previous: ModelRef | None) -> None:
    name = tracking.PREVIOUS_CHAMPION
    if previous is not None:
        tracking.set_alias(settings, previous, name)
    elif case.kind == "rollback" and tracking.aliased(settings, case.downstream, name):
        tracking.remove_alias(settings, case.downstream, name)


def _close(settings: Settings, decision: Decision, outcome: PromotionOutcome, at: datetime) -> None:
    """Tag the versions, keep the record with the challenger's run, end the case."""
    case = decision.case
    if find_event(settings, case, Event.CLOSED):
        return
    record = decision_record(decision, outcome.status.value, at)
    tag_decision(settings, decision, record)
    if tracking.aliased(settings, case.downstream, tracking.CHALLENGER) == case.challenger:
        tracking.remove_alias(settings, case.downstream, tracking.CHALLENGER)
    append(settings, case, Event.CLOSED, record)


def _woken(settings: Settings, item: answers.WaitingPromotion) -> bool:
    found = find_case(settings, item.case_id)
    standing = find_decision(settings, found[0]) if found else None
    if standing is None:
        return False
    answer = {"approve": standing.approve, "reason": standing.reason}
    answers.resume(item.flow_run_id, answer | {"seen_evidence": standing.case.evidence})
    return True


def _json(model: ModelRef | None) -> dict[str, str] | None:
    return model.model_dump(mode="json") if model else None
