"""Releases that are held because a limit was passed: what changed, and the decision."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.review_desk.access import Visit, page
from tasks.desk_pages_releases import held_releases, view_release
from tasks.release_decisions import decide_release

VERDICTS = {"publish": True, "refuse": False}


@page("view")
def waiting(visit: Visit) -> Response:
    """Show the releases that wait for a decision."""
    return visit.page("releases.html", releases=held_releases(visit.desk.settings))


@page("view")
def release(visit: Visit) -> Response:
    """Show what is other in a release that is held, and the form to decide."""
    shown = view_release(visit.desk.settings, visit.path("digest"))
    return visit.page("release.html", case=shown.case, changes=shown.changes)


@page("decide")
def decide(visit: Visit) -> Response:
    """Publish or refuse a release, in the name of the user who is logged in."""
    approve = VERDICTS.get(visit.value("verdict"))
    if approve is None:
        raise HTTPException(400, "choose publish or refuse")
    reason = visit.value("reason").strip()
    if not reason:
        raise HTTPException(400, "the reason is blank: say why")
    settings = visit.desk.settings
    case = view_release(settings, visit.path("digest")).case
    decision = decide_release(settings, visit.user, visit.proof, case.digest, (approve, reason))
    return visit.page("release_decided.html", case=case, decision=decision)
