"""Exploring: what is like an object, what is rare, the map, and everything about one object."""

from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from flows.review_desk.access import Visit, page
from flows.review_desk.look import CACHE, choices, view_of, view_query, viewer_link
from tasks.desk_pages_explore import (
    describe_object,
    draw_desk_map,
    find_like,
    map_file,
    rank_rare,
    rare_objects,
    read_map,
)
from tasks.desk_pages_rounds import questions

LIKE = 36  # objects of a page "more like this"
MOST_LIKE = 200


@page("view")
def explore(visit: Visit) -> Response:
    """Show the rarest objects and the map of a survey, or say how to get them."""
    desk = visit.desk
    survey = desk.survey(visit.query.get("survey", ""))
    wanted = visit.query.get("object", "").strip()
    if wanted:
        return visit.go(f"/object/{quote(wanted, safe='')}?survey={survey}")
    return visit.page(
        "explore.html",
        survey=survey,
        surveys=[item.survey for item in desk.surveys.get()],
        embedded=desk.embedded(survey),
        rare=rare_objects(desk.settings, survey),
        map=read_map(desk.settings, survey),
        work={what: desk.work.state(f"{what}/{survey}") for what in ("rare", "map")},
        **_rounds(visit, survey),
    )


@page("label")
def start_work(visit: Visit) -> Response:
    """Rank rare objects or draw the map, in the background."""
    desk = visit.desk
    survey, what = desk.survey(visit.value("survey")), visit.value("what")
    if what == "rare":
        desk.work.start(f"rare/{survey}", lambda: rank_rare(desk.settings, survey))
    elif what == "map":
        desk.work.start(
            f"map/{survey}", lambda: draw_desk_map(desk.settings, desk.pictures, survey)
        )
    else:
        raise HTTPException(400, f"nothing is called {what!r}")
    return visit.go(f"/explore?survey={survey}")


@page("view")
def map_picture(visit: Visit) -> Response:
    """Return the picture of the map."""
    path = map_file(visit.desk.settings, visit.desk.survey(visit.query.get("survey", "")), ".jpg")
    if not path.is_file():
        raise HTTPException(404, "the map was not drawn yet")
    return FileResponse(path, media_type="image/jpeg", headers={"cache-control": CACHE})


@page("view")
def object_page(visit: Visit) -> Response:
    """Show everything that is recorded about an object."""
    desk = visit.desk
    survey = desk.survey(visit.query.get("survey", ""))
    view, shown = view_of(visit.query), desk.pictures.survey(survey)
    found = desk.pictures.find(survey, visit.path("object_id"))
    return visit.page(
        "object.html",
        survey=survey,
        found=found,
        about=describe_object(desk.settings, shown, found),
        near=shown.near(found),
        link=viewer_link(found.ra, found.dec),
        view=view,
        picture=f"/picture/{survey}/{found.object_id}?{view_query(view, 608)}",
        embedded=desk.embedded(survey),
        **choices(desk, survey),
        **_rounds(visit, survey),
    )


@page("view")
def like(visit: Visit) -> Response:
    """Show the objects most like one."""
    desk = visit.desk
    survey = desk.survey(visit.query.get("survey", ""))
    text = visit.query.get("number", str(LIKE))
    number = min(int(text), MOST_LIKE) if text.isdecimal() else LIKE
    result = find_like(desk.settings, survey, visit.path("object_id"), max(number, 1))
    return visit.page("like.html", survey=survey, result=result, **_rounds(visit, survey))


def _rounds(visit: Visit, survey: str) -> dict[str, object]:
    """Return the rounds that objects can be added to."""
    waiting = visit.desk.queue.rounds(waiting_only=True)
    return {
        "open_rounds": [item for item in waiting if item.plan.survey == survey],
        "questions": questions(),
    }
