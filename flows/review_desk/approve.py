"""Approving: what waits, the evidence, the decision, a code for Prefect's form, going back."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.review_desk.access import Visit, page
from tasks.answers import NotWaiting, find_waiting
from tasks.audit import audit_registry
from tasks.deciding import DecisionRequest, LimitBroken, decide
from tasks.decisions import find_case
from tasks.desk_pages_approve import can_compare, find_disagreements, slices_of, view_case
from tasks.desk_pages_releases import held_releases
from tasks.evidence_figures import read_figure
from tasks.promotion import settle_unfinished
from tasks.rollback import RollbackRequest, roll_back
from tasks.users import CODE_MINUTES

FIGURE_CACHE = "private, max-age=86400, immutable"  # its address holds its digest


@page("view")
def waiting(visit: Visit) -> Response:
    """Show what waits for a decision, the champions, and what was moved past the gate."""
    desk = visit.desk
    promotions, trouble = desk.promotions()
    return visit.page(
        "approve.html",
        promotions=promotions,
        trouble=trouble,
        releases=held_releases(desk.settings),
        champions=desk.champions.get(),
        disagreements=desk.findings.get(),
    )


@page("view")
def case(visit: Visit) -> Response:
    """Show the evidence of a challenger and the form to decide."""
    return _case_page(visit)


@page("view")
def figure(visit: Visit) -> Response:
    """Return a figure of the evidence, as it was when the evidence was put together."""
    settings, case_id = visit.desk.settings, visit.path("case_id")
    found = find_case(settings, case_id)
    if found is None:
        raise HTTPException(404, f"no case {case_id[:12]} was opened here")
    content = read_figure(settings, found[1], visit.path("side"), visit.path("name"))
    headers = {"cache-control": FIGURE_CACHE}
    return Response(content, media_type="image/png", headers=headers)


@page("decide")
def decide_case(visit: Visit) -> Response:
    """Approve, reject or ask for more labels, in the name of the user who is logged in."""
    verdict = visit.value("verdict")
    if verdict not in ("approve", "reject", "labels"):
        raise HTTPException(400, "choose approve, reject or more labels")
    request = DecisionRequest(
        flow_run_id=visit.path("flow_run_id"),
        approve=verdict == "approve",
        wants_labels=verdict == "labels",
        reason=visit.value("reason"),
        seen_evidence=visit.value("seen_evidence"),
        override=visit.value("override"),
        proof=visit.proof,
    )
    try:
        decision = decide(visit.desk.settings, visit.user, request)
    except LimitBroken as error:
        return _case_page(visit, refusal=str(error), status=409)
    visit.desk.look_again()
    return visit.page("decided.html", decision=decision)


@page("decide")
def give_code(visit: Visit) -> Response:
    """Show a one-time code with which the user decides in Prefect's form."""
    item = find_waiting(visit.path("flow_run_id"))
    if visit.desk.users.single_user:
        raise HTTPException(400, "this home has no users: Prefect's form asks for no code")
    code = visit.desk.users.issue_code(visit.user, item.evidence_digest)
    return _case_page(visit, code=code)


@page("decide")
def compare(visit: Visit) -> Response:
    """Look for the objects on which the two models disagree, in the background."""
    desk = visit.desk
    item = find_waiting(visit.path("flow_run_id"))
    packet = view_case(desk.settings, item.case_id).packet
    desk.work.start(f"compare/{item.case_id}", lambda: find_disagreements(desk.settings, packet))
    return visit.go(f"/approve/{item.flow_run_id}#disagreements")


@page("decide")
def take_back(visit: Visit) -> Response:
    """Make the champion before this one champion again."""
    request = RollbackRequest(
        downstream=visit.path("downstream"),
        champion_version=visit.value("version"),
        reason=visit.value("reason"),
        proof=visit.proof,
    )
    roll_back(visit.desk.settings, visit.user, request)
    visit.desk.look_again()
    return visit.go("/approve")


@page("decide")
def put_back(visit: Visit) -> Response:
    """Put every alias back to where the decisions have it."""
    audit_registry(visit.desk.settings, visit.user)
    visit.desk.look_again()
    return visit.go("/approve")


def _case_page(visit: Visit, *, refusal: str = "", code: str = "", status: int = 200) -> Response:
    desk, flow_run_id = visit.desk, visit.path("flow_run_id")
    try:
        item = find_waiting(flow_run_id)
    except NotWaiting:
        settle_unfinished(desk.settings)  # one whose run died is closed, and told in the history
        raise
    shown = view_case(desk.settings, item.case_id)
    return visit.page(
        "case.html",
        status,
        item=item,
        shown=shown,
        slices=slices_of(shown.packet),
        comparable=can_compare(shown.packet),
        work=desk.work.state(f"compare/{item.case_id}"),
        refusal=refusal,
        code=code,
        code_minutes=CODE_MINUTES,
    )
