"""Open, fill and close rounds of labelling."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.review_desk.access import Visit, page
from tasks.desk_pages_rounds import (
    PICKED,
    RoundChoice,
    answers_of,
    items_of,
    open_chosen_round,
)
from tasks.label_rounds import RoundPlan

MOST_OBJECTS = 100_000  # of a round
MOST_ADDED = 1000  # objects added by hand at a time


@page("label")
def open_round(visit: Visit) -> Response:
    """Open a round on objects that the model is unsure of and on random ones."""
    choice = RoundChoice(
        count=_number(visit.value("count"), MOST_OBJECTS),
        blind=visit.value("blind") == "1",
        wanted=_number(visit.value("wanted") or "1", 50),
        title=visit.value("title").strip()[:200],
    )
    number = open_chosen_round(
        visit.desk.settings,
        visit.desk.queue,
        visit.desk.survey(visit.value("survey")),
        visit.value("question"),
        choice,
        visit.user.name,
    )
    return visit.go(f"/label/{number}")


@page("label")
def close_round(visit: Visit) -> Response:
    """End a round; whoever opened it may, and whoever decides."""
    number = int(visit.path("number"))
    opened_by = visit.desk.queue.round(number).plan.opened_by
    if opened_by != visit.user.name and not visit.user.may("decide"):
        raise HTTPException(403, f"{opened_by} opened this round: they or an approver close it")
    visit.desk.queue.close_round(number)
    return visit.go("/label")


@page("label")
def add_objects(visit: Visit) -> Response:
    """Add objects that somebody picked to a round, or to a new one."""
    desk, objects = visit.desk, visit.values("object")[:MOST_ADDED]
    survey = desk.survey(visit.value("survey"))
    for object_id in objects:
        desk.pictures.find(survey, object_id)  # only what can be shown can be asked about
    chosen = visit.value("round")
    if chosen.isdecimal():
        plan = desk.queue.round(int(chosen)).plan
        if plan.survey != survey:
            raise HTTPException(400, f"that round is about {plan.survey}, the objects of {survey}")
        items = items_of(desk.settings, survey, plan.question, objects, PICKED)
        desk.queue.add_items(int(chosen), items)
        return visit.go(f"/label/{chosen}")
    question = visit.value("question")
    plan = RoundPlan(
        survey,
        question,
        answers_of(question),
        title=f"{question}, {PICKED}",
        opened_by=visit.user.name,
    )
    items = items_of(desk.settings, survey, question, objects, PICKED)
    return visit.go(f"/label/{desk.queue.open_round(plan, items)}")


def _number(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise HTTPException(400, f"{text!r}: give a whole number from 1 to {most}")
    return int(text)
