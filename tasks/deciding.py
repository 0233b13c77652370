"""The one service through which people decide: the desk, the command line and Prefect's form.

A decision is judged here and recorded at once (`tasks.decisions`); the waiting run is then only
woken. So it is the authenticated user's, and it stands whatever happens to the run or its server.
What was refused is recorded as well. What follows from a decision is done by `tasks.promotion`.
"""

from datetime import UTC, datetime

from tasks import tracking
from tasks.answers import (
    InvalidDecision,
    NotWaiting,
    PromotionDecision,
    answered_at,
    find_waiting,
    resume,
    why_refused,
)
from tasks.decisions import (
    Case,
    Decision,
    Event,
    append,
    append_aside,
    find_case,
    find_decision,
    one_at_a_time,
    read_events,
    record_decision,
)
from tasks.errors import TaskError
from tasks.policies import PromotionPolicy, broken_limits, read_policies
from tasks.references import EvidencePacket, Reference
from tasks.roles import NotAllowed
from tasks.settings import Settings
from tasks.users import LOCAL, CodeRefused, User, open_users

TRAINER_TAG = "trained_by"  # of a version: the user who had it fine-tuned


class LimitBroken(InvalidDecision):
    """The evidence breaks limits; `broken` says which. A reason to override may help."""

    def __init__(self, broken: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.broken = broken


class DecisionRequest(Reference):
    """What somebody asks for, about the promote run that waits as `flow_run_id`.

    `seen_evidence` is the digest of the evidence that was read; its first 12 digits do. `override`
    is the reason to approve although a limit is broken. `wants_labels` goes with a rejection.
    `proof` is how the user was authenticated. `reviewer` is heard in single-user mode only.
    """

    flow_run_id: str
    approve: bool
    reason: str
    seen_evidence: str
    override: str = ""
    wants_labels: bool = False
    proof: str = "session"
    reviewer: str = ""


def decide(settings: Settings, user: User, request: DecisionRequest) -> Decision:
    """Judge and record a decision of an authenticated user, and wake the run that waits for it.

    Returns
    -------
    Decision
        As recorded. Where `waits_for` is not empty, it does not stand yet: another person has to
        approve too, and the run goes on waiting.

    Raises
    ------
    NotWaiting
        If the run does not wait, was answered before, or its deadline has passed.
    InvalidDecision
        If the reason is blank or the evidence is not what the run shows now; `LimitBroken` if it
        breaks a limit and nobody who may override that says why.
    NotAllowed
        If the user may not decide, or not on this one.
    """
    case_id = find_waiting(request.flow_run_id).case_id
    decision = take(settings, case_id, user, request)
    if not decision.waits_for:
        answer = request.model_dump(include={"approve", "reason", "seen_evidence"})
        resume(request.flow_run_id, answer)  # one that is not held yet finds the decision recorded
    return decision


def decide_by_form(
    settings: Settings, case: Case, ask: int, form: str, answer: PromotionDecision
) -> Decision:
    """Judge and record what was filled in in Prefect's form; its code says by whom.

    Parameters
    ----------
    ask : int
        Number of the form; a refusal is recorded under it.
    form : str
        Its key.

    Raises
    ------
    CodeRefused, NotAllowed, InvalidDecision, NotWaiting
        As `decide`; also without a code, unless the home has no users.
    """
    try:
        faults = why_refused(answer.reason, answer.seen_evidence, case.evidence)
        if faults:  # told before the code is used up
            raise InvalidDecision(faults)
        user, proof = _who(settings, case, ask, form, answer.code)
    except TaskError as error:
        _record_refusal(settings, case, str(error), answer.model_dump(exclude={"code"}), ask)
        raise
    request = DecisionRequest(
        flow_run_id=case.flow_run_id,
        proof=proof,
        **answer.model_dump(exclude={"code"}),
    )
    return take(settings, case.case_id, user, request, ask)


def take(
    settings: Settings, case_id: str, user: User, request: DecisionRequest, ask: int = 0
) -> Decision:
    """Judge a request about a case and record it, as a decision, an approval or a refusal."""
    with one_at_a_time(settings):
        found = find_case(settings, case_id)
        if found is None:
            raise NotWaiting(f"no case {case_id[:12]} was ever opened in {settings.home}")
        case, packet = found
        try:
            decision = _judged(settings, case, packet, user, request)
        except TaskError as error:
            given = request.model_dump() | {"user": user.name}
            _record_refusal(settings, case, str(error), given, ask)
            raise
        decision = decision.model_copy(update={"ask": ask})
        if not decision.waits_for:
            return record_decision(settings, decision)[0]
        if ask:
            append(settings, case, Event.APPROVAL, decision, ask)
        else:
            append_aside(settings, case, Event.APPROVAL, decision)
        return decision


def approvals(settings: Settings, case: Case) -> list[Decision]:
    """Return the approvals of a case that did not suffice alone, in order."""
    events = read_events(settings, case_id=case.case_id)
    return [Decision.model_validate(e.body) for e in events if e.event is Event.APPROVAL]


def _who(settings: Settings, case: Case, ask: int, form: str, code: str) -> tuple[User, str]:
    """Return who filled a form in, and how that is proved."""
    users = open_users(settings)
    if code.strip():
        # The worker may come to it days later: what counts is when it was given in.
        given = answered_at(case.flow_run_id, form)
        purpose = f"{case.case_id}:{ask}"
        return users.redeem_code(code, case.evidence, purpose=purpose, at=given), "code"
    if users.single_user:
        return LOCAL, "single-user"
    raise CodeRefused(
        "missing", "no code, so nobody knows who decides: get one from the desk for this evidence"
    )


def _judged(
    settings: Settings, case: Case, packet: EvidencePacket, user: User, request: DecisionRequest
) -> Decision:
    """Return the decision that a request makes, or raise why it makes none."""
    user.must("decide")
    if user == LOCAL and not open_users(settings).single_user:
        raise NotAllowed("this home has users: decide as one of them, with `brickyard approve`")
    standing = find_decision(settings, case)
    if standing is not None:
        raise NotWaiting(f"decided already by {standing.reviewer or 'nobody in time'}")
    if datetime.now(UTC) > case.deadline:
        raise NotWaiting(f"the deadline, {case.deadline:%Y-%m-%d %H:%M} UTC, has passed")
    faults = why_refused(request.reason, request.seen_evidence, case.evidence)
    if faults:
        raise InvalidDecision(f"{faults} (flow run {case.flow_run_id}; nothing was changed)")
    decision = Decision(
        case=case,
        approve=request.approve,
        reviewer=_shown_name(user, request),
        reason=request.reason.strip(),
        wants_labels=request.wants_labels and not request.approve,
        user=user.name,
        proof=request.proof,
    )
    if not request.approve:
        return decision
    policy = read_policies(settings).of(case.downstream)
    trainer = tracking.version_tags(settings, case.challenger).get(TRAINER_TAG, "")
    before = tuple(item.user for item in approvals(settings, case))
    _check_person(user, policy, trainer, before)
    broken = broken_limits(packet, policy)
    if policy.not_the_trainer and not trainer:
        broken += ("it is not recorded who trained it, so it could be whoever approves",)
    override = _override(user, request, broken)
    alone = policy.two_persons and not before
    changes = {
        "broken": broken,
        "override": override,
        "approved_by": (*before, user.name),
        "waits_for": "the approval of a second person" if alone else "",
    }
    return decision.model_copy(update=changes)


def _shown_name(user: User, request: DecisionRequest) -> str:
    return (request.reviewer.strip() if user == LOCAL else "") or user.name


def _check_person(
    user: User, policy: PromotionPolicy, trainer: str, before: tuple[str, ...]
) -> None:
    """Apply the rules about who approves; no reason overrides them."""
    if policy.not_the_trainer and trainer.casefold() == user.name.casefold():
        raise NotAllowed(f"{user.name} had it trained: somebody else has to approve it")
    if user.name.casefold() in {name.casefold() for name in before}:
        raise NotAllowed(f"{user.name} has approved already: a second person has to")


def _override(user: User, request: DecisionRequest, broken: tuple[str, ...]) -> str:
    """Return the reason to approve in spite of broken limits, empty where none is needed."""
    reason = request.override.strip()
    if not broken:
        return ""
    if reason and user.may("override"):
        return reason
    able = "say why in `override`" if user.may("override") else f"{user.name} may not override it"
    message = f"refused, {'; '.join(broken)}. To approve it all the same: {able}"
    raise LimitBroken(broken, message)


def _record_refusal(
    settings: Settings, case: Case, refusal: str, given: dict[str, object], ask: int
) -> None:
    body = {"refusal": refusal, "answer": given}
    if ask:
        append(settings, case, Event.REFUSED, body, ask)
    else:
        append_aside(settings, case, Event.REFUSED, body)
