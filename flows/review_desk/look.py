"""Pictures of objects, and how they are shown on a page."""

from collections.abc import Mapping

from starlette.responses import Response

from flows.review_desk.access import Visit, page
from flows.review_desk.desk import Desk
from tasks.pictures import LAYERS, STRETCHES, ZOOMS, View

VIEWER = "https://www.legacysurvey.org/viewer?ra={ra:.6f}&dec={dec:.6f}&zoom=15"
#: The browser keeps a picture and asks whether it has changed; the store may get a new snapshot.
CACHE = "private, max-age=300, must-revalidate"


@page("view")
def picture(visit: Visit) -> Response:
    """Return one picture; the same again costs only a header."""
    made = visit.desk.pictures.picture(
        visit.path("survey"), visit.path("object_id"), View.parse(visit.query)
    )
    headers = {"etag": f'"{made.etag}"', "cache-control": CACHE}
    if visit.request.headers.get("if-none-match") == f'"{made.etag}"':
        return Response(status_code=304, headers=headers)
    return Response(made.content, media_type=made.media_type, headers=headers)


def view_of(values: Mapping[str, str]) -> View:
    """Return how objects are to be shown on a page, from its address or form."""
    chosen = {name: values[name] for name in ("layer", "stretch", "zoom") if values.get(name)}
    return View.parse({**chosen, "neighbours": values.get("neighbours", "")})


def view_query(view: View, size: int = 0) -> str:
    """Return the query of the address of a page, or with a size of a picture."""
    query = f"layer={view.layer}&stretch={view.stretch}&zoom={view.zoom}"
    query += f"&size={size}" if size else ""
    return query + ("&neighbours=1" if view.neighbours else "")


def choices(desk: Desk, survey: str) -> dict[str, object]:
    """Return what the controls of a view offer."""
    bands = desk.pictures.survey(survey).bands
    return {"layers": ("rgb", *bands, *LAYERS[1:]), "zooms": ZOOMS, "stretches": STRETCHES}


def viewer_link(ra: float, dec: float) -> str:
    """Return the address of a place in the public sky viewer."""
    return VIEWER.format(ra=ra, dec=dec)
