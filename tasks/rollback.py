"""Take a champion back: a decision of its own, without evidence, carried out at once."""

import hashlib
import json
from datetime import UTC, datetime

from tasks import tracking
from tasks.answers import InvalidDecision
from tasks.champions import Move, recorded_moves
from tasks.decisions import Case, Decision
from tasks.outcomes import PromotionOutcome
from tasks.promotion import carry_out, settle_unfinished
from tasks.references import Reference
from tasks.roles import User
from tasks.settings import Settings


class RollbackRequest(Reference):
    """Take back `champion_version`, the champion that whoever asks has before them.

    Naming it makes a second press of the button harmless: it takes back nothing more.
    """

    downstream: str
    champion_version: str
    reason: str
    proof: str = "session"


def champion_version(settings: Settings, downstream: str) -> str:
    """Return the version of the champion, or raise `InvalidDecision` when there is none."""
    champion = tracking.champion(settings, downstream)
    if champion is None:
        raise InvalidDecision(f"{downstream} has no champion: there is nothing to take back")
    return champion.version


def roll_back(settings: Settings, user: User, request: RollbackRequest) -> PromotionOutcome:
    """Make the champion before this one champion again; asking again changes nothing.

    One person suffices, whatever the policy for promotions: what comes back was approved before.
    `previous_champion` becomes the one that had been before the one that comes back, if any.

    Raises
    ------
    NotAllowed
        If the user may not decide.
    InvalidDecision
        If no reason is given, the version is not the champion or there was none before it.
    """
    user.must("decide")
    if not request.reason.strip():
        raise InvalidDecision("the reason is blank: say why the champion is taken back")
    settle_unfinished(settings, request.downstream)
    case = _case(settings, request)
    decision = Decision(
        case=case,
        approve=True,
        reviewer=user.name,
        reason=request.reason.strip(),
        user=user.name,
        proof=request.proof,
        approved_by=(user.name,),
    )
    return carry_out(settings, decision)


def _case(settings: Settings, request: RollbackRequest) -> Case:
    """Return the case of taking back the last move that made the version champion."""
    moves = recorded_moves(settings, request.downstream)
    made = _last_to(moves, request.champion_version)
    champion = tracking.champion(settings, request.downstream)
    if made is None:
        now = f"version {champion.version}" if champion else "none"
        raise InvalidDecision(
            f"version {request.champion_version} of {request.downstream} never was made champion "
            f"by a decision (champion now: {now}); `brickyard audit` tells what was moved by hand"
        )
    if made.previous is None:
        raise InvalidDecision(
            f"version {made.to.version} is the first champion of {request.downstream}: there is "
            "none to go back to. Promote another version instead"
        )
    later = [move for move in moves if move.sequence > made.sequence]
    undone = bool(later) and later[0].to == made.previous
    if champion != made.to and not undone:
        now = f"version {champion.version}" if champion else "none"
        raise InvalidDecision(
            f"version {made.to.version} of {request.downstream} is not the champion (that is "
            f"{now}): look again at what is to be taken back"
        )
    before = _last_to(
        [move for move in moves if move.sequence < made.sequence], made.previous.version
    )
    identity = json.dumps(["rollback", request.downstream, made.case_id])
    return Case(
        case_id=hashlib.sha256(identity.encode()).hexdigest(),
        flow_run_id="",
        attempt=1,
        downstream=request.downstream,
        challenger=made.previous,
        champion=made.to,
        evidence="",
        deadline=datetime.now(UTC),
        kind="rollback",
        previous=before.previous if before else None,
    )


def _last_to(moves: list[Move], version: str) -> Move | None:
    return next((move for move in reversed(moves) if move.to.version == version), None)
