"""How promotions end, as values and as sentences."""

from enum import StrEnum

from tasks.references import ModelRef, Reference


class PromotionStatus(StrEnum):
    """How a promote run ended; STALE only inside of it: new evidence is gathered."""

    APPROVED = "approved"
    ROLLED_BACK = "rolled_back"
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


def describe_outcome(outcome: PromotionOutcome) -> str:
    """Return what came of a promotion as a sentence."""
    name = f"{outcome.challenger.downstream} version {outcome.challenger.version}"
    stays = f"version {outcome.champion.version}" if outcome.champion else "none"
    return {
        PromotionStatus.APPROVED: f"{name} is champion: approved by {outcome.reviewer}, "
        f"{outcome.reason}",
        PromotionStatus.ROLLED_BACK: f"{name} is champion again: rolled back by "
        f"{outcome.reviewer}, {outcome.reason}",
        PromotionStatus.REJECTED: f"{name} rejected by {outcome.reviewer}: {outcome.reason}; "
        f"champion: {stays}",
        PromotionStatus.EXPIRED: f"{name} rejected, {outcome.reason}; champion: {stays}",
        PromotionStatus.STALE: f"{name} approved on evidence that is out of date: nothing moved",
        PromotionStatus.ALREADY_CHAMPION: f"{name} is champion already: nothing to decide",
    }[outcome.status]
