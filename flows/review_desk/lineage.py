"""Lineage: where something came from and what it went into, as a picture and in words."""

from markupsafe import Markup
from starlette.responses import Response

from flows.review_desk.access import Visit, page
from tasks.lineage import FORMS, draw, trace


@page("view")
def lineage(visit: Visit) -> Response:
    """Show the lineage of whatever is asked for, or a form to ask."""
    subject = visit.query.get("of", "").strip()
    # Only published catalogues: a page must not read any file that somebody names.
    found = trace(visit.desk.settings, subject, files=False) if subject else None
    return visit.page(
        "lineage.html",
        subject=subject,
        forms=FORMS,
        found=found,
        numbers={thing.id: n for n, thing in enumerate(found.things, 1)} if found else {},
        picture=Markup(draw(found)) if found else "",
    )


@page("view")
def lineage_file(visit: Visit) -> Response:
    """Return a lineage as a JSON file."""
    found = trace(visit.desk.settings, visit.query.get("of", ""), files=False)
    headers = {
        "content-disposition": 'attachment; filename="lineage.json"',
        "cache-control": "no-store",
    }
    text = found.model_dump_json(indent=2)
    return Response(text, media_type="application/json", headers=headers)
