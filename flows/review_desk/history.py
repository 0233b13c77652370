"""Looking back: decisions and labels, filtered, and as files to take away."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.review_desk.access import Visit, page
from tasks.desk_pages_history import (
    MOST_EXPORTED,
    PAGE,
    Filter,
    decisions,
    exported,
    label_rounds,
    labels,
)

MEDIA = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


@page("view")
def history(visit: Visit) -> Response:
    """Show decisions, labels or rounds, the newest first."""
    desk, chosen = visit.desk, Filter.parse(visit.query)
    what = visit.query.get("what", "decisions")
    rows = []
    if what == "decisions":
        rows = decisions(desk.settings, chosen)[chosen.start : chosen.start + PAGE]
    elif what == "labels":
        rows = labels(desk.settings, chosen)
    elif what != "rounds":
        raise HTTPException(404, f"there is no history of {what!r}")
    return visit.page(
        "history.html",
        what=what,
        rows=rows,
        rounds=label_rounds(desk.settings, desk.queue) if what == "rounds" else [],
        chosen=chosen,
        page_size=PAGE,
    )


@page("view")
def export(visit: Visit) -> Response:
    """Return decisions or labels as a file."""
    chosen, form = Filter.parse(visit.query), visit.path("form")
    what = visit.path("what")
    if what not in ("decisions", "labels") or form not in MEDIA:
        raise HTTPException(404, "there are decisions and labels, as csv and json")
    settings = visit.desk.settings
    rows = (
        decisions(settings, chosen)
        if what == "decisions"
        else labels(settings, chosen, MOST_EXPORTED)
    )
    headers = {
        "content-disposition": f'attachment; filename="{what}.{form}"',
        "cache-control": "no-store",
    }
    return Response(exported(rows, form), media_type=MEDIA[form], headers=headers)
