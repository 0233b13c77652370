"""The promotion gate: the only code that moves an alias, and only after a recorded decision.

Order of a promotion: nominate a challenger, open a case on its evidence, hold (`tasks.holds`),
settle. Settling writes the intent before it touches the registry and looks at the registry again
before it moves anything, so that running it twice changes nothing, a crash is repaired by the next
run, and a decision on evidence that has become out of date moves nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from filelock import FileLock
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks import answers, tracking
from tasks.decisions import (
    Case,
    Decision,
    Event,
    append,
    find_event,
    overdue_cases,
    record_decision,
    unfinished_decisions,
)
from tasks.errors import TaskError
from tasks.evidence import artifact_folder
from tasks.holds import expired_decision
from tasks.references import EvidencePacket, ModelRef, Reference
from tasks.reports import case_markdown
from tasks.settings import Settings, load_settings

InvalidDecision = answers.InvalidDecision
NotWaiting = answers.NotWaiting
PromotionDecision = answers.PromotionDecision
decide = answers.decide

DECISION_TAG = "decision"
LOCK_SECONDS = 60  # an alias is moved in well under a second
GRACE = timedelta(seconds=60)  # leave a case to its own run for so long after its deadline


class NoCandidate(TaskError, LookupError):
    """No registered version waits to be promoted."""


class PromotionStatus(StrEnum):
    """How a promote run ended; STALE only inside of it: new evidence is gathered."""

    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    STALE = "stale"
    ALREADY_CHAMPION = "already_champion"


class Nomination(Reference):
    """A challenger and the champion that it meets."""

    challenger: ModelRef
    champion: ModelRef | None

    @property
    def already_champion(self) -> bool:
        """Return whether there is nothing to decide."""
        return self.challenger == self.champion


class PromotionOutcome(Reference):
    """What came of a promotion; `champion` is the one in use afterwards."""

    status: PromotionStatus
    challenger: ModelRef
    champion: ModelRef | None
    case_id: str = ""
    reviewer: str = ""
    reason: str = ""


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
    with _one_at_a_time(settings):
        standing, at = record_decision(settings, decision)
        status = PromotionStatus.EXPIRED if standing.expired else PromotionStatus.REJECTED
        if standing.approve:
            moved = _move_alias(settings, standing.case)
            status = PromotionStatus.APPROVED if moved else PromotionStatus.STALE
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


def settle_unfinished(settings: Settings, downstream: str | None = None) -> list[PromotionOutcome]:
    """Finish decisions that a crash cut short and reject cases whose deadline has passed."""
    late = overdue_cases(settings, downstream, datetime.now(UTC) - GRACE)
    unfinished = unfinished_decisions(settings, downstream)
    decisions = [*unfinished, *(expired_decision(case) for case in late)]
    return [carry_out(settings, decision) for decision in decisions]


def waiting_promotions() -> list[answers.WaitingPromotion]:
    """Return the promote runs that wait for a decision, after closing those that came too late."""
    settle_unfinished(load_settings())
    return answers.waiting_promotions()


def describe_outcome(outcome: PromotionOutcome) -> str:
    """Return what came of a promotion as a sentence."""
    name = f"{outcome.challenger.downstream} version {outcome.challenger.version}"
    stays = f"version {outcome.champion.version}" if outcome.champion else "none"
    return {
        PromotionStatus.APPROVED: f"{name} is champion: approved by {outcome.reviewer}, "
        f"{outcome.reason}",
        PromotionStatus.REJECTED: f"{name} rejected by {outcome.reviewer}: {outcome.reason}; "
        f"champion: {stays}",
        PromotionStatus.EXPIRED: f"{name} rejected, {outcome.reason}; champion: {stays}",
        PromotionStatus.STALE: f"{name} approved on evidence that is out of date: nothing moved",
        PromotionStatus.ALREADY_CHAMPION: f"{name} is champion already: nothing to decide",
    }[outcome.status]


def _move_alias(settings: Settings, case: Case) -> bool:
    """Make the challenger of an approved case champion; False when its evidence is out of date."""
    if find_event(settings, case, Event.STALE):
        return False
    if find_event(settings, case, Event.MOVED):
        return True
    champion = tracking.champion(settings, case.downstream)
    begun = find_event(settings, case, Event.MOVING) is not None
    done = begun and champion == case.challenger  # a crash came between the alias and its record
    if not done and (champion != case.champion or not _unchanged(settings, case.challenger)):
        found = champion.model_dump(mode="json") if champion else None
        append(settings, case, Event.STALE, {"champion_found": found})
        return False
    append(settings, case, Event.MOVING, {"to": case.challenger.model_dump(mode="json")})
    if not done:
        if case.champion is not None:
            tracking.set_alias(settings, case.champion, tracking.PREVIOUS_CHAMPION)
        tracking.set_alias(settings, case.challenger, tracking.CHAMPION)
    append(settings, case, Event.MOVED, {"to": case.challenger.model_dump(mode="json")})
    return True


def _unchanged(settings: Settings, model: ModelRef) -> bool:
    try:
        return tracking.read_version(settings, model.downstream, model.version).model == model
    except tracking.UnknownModel:
        return False


def _close(settings: Settings, decision: Decision, outcome: PromotionOutcome, at: datetime) -> None:
    """Tag the versions, keep the record with the challenger's run, end the case."""
    case = decision.case
    if find_event(settings, case, Event.CLOSED):
        return
    record = {
        "outcome": outcome.status.value,
        "reviewer": decision.reviewer,
        "reason": decision.reason,
        "at": at.isoformat(),
        "evidence": case.evidence,
        "case": case.case_id,
        "flow_run": case.flow_run_id,
    }
    if _unchanged(settings, case.challenger):  # else somebody deleted it: nothing to tag
        _tag_challenger(settings, decision, record)
    if decision.approve and case.champion is not None and _unchanged(settings, case.champion):
        after = {f"succeeded.{name}": value for name, value in record.items()}
        after["succeeded_by"] = case.challenger.version
        tracking.tag_version(settings, case.champion, after)
    if tracking.aliased(settings, case.downstream, tracking.CHALLENGER) == case.challenger:
        tracking.remove_alias(settings, case.downstream, tracking.CHALLENGER)
    append(settings, case, Event.CLOSED, record)


def _tag_challenger(settings: Settings, decision: Decision, record: dict[str, str]) -> None:
    case = decision.case
    # Silence about an abandoned case must not cover what somebody said since.
    known = tracking.version_tags(settings, case.challenger)
    if not (decision.expired and DECISION_TAG in known):
        tags = {f"{DECISION_TAG}.{name}": value for name, value in record.items()}
        tracking.tag_version(settings, case.challenger, tags | {DECISION_TAG: record["outcome"]})
    run = tracking.open_run(settings, case.challenger.run_id)
    folder = artifact_folder(case)
    full = record | {"decision": decision.model_dump(mode="json")}
    run.log_json(f"{folder}/decision.json", full)
    text = case_markdown(case, decision, record["outcome"], record["at"])
    run.log_text(f"{folder}/decision.md", text)


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """Let one process of this home look at the champion and move it at a time."""
    home = settings.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "promotion.lock", timeout=LOCK_SECONDS):
        yield
