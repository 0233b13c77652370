"""Labelling: one object at a time, or a grid of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.review_desk.access import Visit, page
from flows.review_desk.look import choices, view_of, view_query, viewer_link
from storage.errors import StorageError
from tasks.desk_pages_label import Given, Shown, confident, submit, undo
from tasks.desk_pages_rounds import questions
from tasks.label_rounds import Claim, Round
from tasks.pictures import View
from tasks.question_paths import (
    UNSURE,
    Step,
    join_path,
    next_question,
    split_path,
    step_of,
    tree_of,
    words_of,
)

AHEAD = 6  # objects taken for the page of one at a time; the browser fetches them before
GRID = 24
THRESHOLDS = (0.8, 0.9, 0.95, 0.99)
LARGE, SMALL = 608, 152  # sides of pictures [pixel]


@dataclass(frozen=True)
class Card:
    """An object on a page: its pictures and where it is; `link` is empty when it left the store."""

    claim: Claim
    picture: str
    link: str
    proposal: str
    near: tuple[str, ...] = ()


@page("label")
def choose(visit: Visit) -> Response:
    """Show the rounds that want answers, and the form that opens another."""
    desk = visit.desk
    return visit.page(
        "label.html",
        rounds=desk.queue.rounds(waiting_only=True),
        surveys=[item.survey for item in desk.surveys.get()],
        questions=questions(),
    )


@page("label")
def one(visit: Visit) -> Response:
    """Show the next object of a round, large."""
    number = int(visit.path("number"))
    claims = visit.desk.queue.claim(number, visit.user.name, AHEAD)
    return _label_page(visit, "label_one.html", number, claims, LARGE)


@page("label")
def grid(visit: Visit) -> Response:
    """Show many objects of a round at once."""
    number = int(visit.path("number"))
    plan = visit.desk.queue.round(number).plan
    if tree_of(plan.question, plan.answers) is not None:
        return visit.go(f"/label/{number}")  # one object is several questions
    claims = visit.desk.queue.claim(number, visit.user.name, GRID)
    return _label_page(visit, "label_grid.html", number, claims, SMALL)


@page("label")
def answer(visit: Visit) -> Response:
    """Take the answer to one object, or put it aside, and go on to the next."""
    number, item = int(visit.path("number")), _whole(visit.value("item"))
    view = view_of({key: visit.value(key) for key in visit.form})
    given, plan = visit.value("answer"), visit.desk.queue.round(number).plan
    path = (*split_path(visit.value("path")), given)
    tree = tree_of(plan.question, plan.answers)
    if given == "skip":
        visit.desk.queue.skip(item, visit.user.name)
    elif tree is not None and given != UNSURE and next_question(tree, path) is not None:
        more = urlencode({"item": item, "path": join_path(path)})
        return visit.go(f"/label/{number}?{view_query(view)}&{more}")
    else:
        said = Given(item, join_path(path), visit.value("comment"))
        _submit(visit, number, [said], _shown(visit, number, "one", view))
    return visit.go(f"/label/{number}?{view_query(view)}")


@page("label")
def answers(visit: Visit) -> Response:
    """Take the answers of a grid; with `accept`, proposals that are so confident for the others."""
    number = int(visit.path("number"))
    view = view_of({key: visit.value(key) for key in visit.form})
    items = [_whole(item) for item in visit.values("item")]
    said = {item: visit.value(f"answer-{item}") for item in items}
    mine = [Given(item, text) for item, text in said.items() if text]
    _submit(visit, number, mine, _shown(visit, number, "grid", view))
    if visit.value("accept"):
        left = [item for item, text in said.items() if not text]
        _accept(visit, number, left, view)
    return visit.go(f"/label/{number}/grid?{view_query(view)}")


@page("label")
def undo_last(visit: Visit) -> Response:
    """Take back the last answer of the user in a round."""
    number = int(visit.path("number"))
    undo(visit.desk.settings, visit.desk.queue, visit.user.name, number)
    grid_page = "/grid" if visit.value("page") == "grid" else ""
    view = view_of({key: visit.value(key) for key in visit.form})
    return visit.go(f"/label/{number}{grid_page}?{view_query(view)}")


def _accept(visit: Visit, number: int, items: list[int], view: View) -> None:
    """Record the confident proposals of objects that were on the page."""
    asked = visit.desk.queue.round(number)
    if asked.plan.blind:
        raise HTTPException(400, "this round is blind: proposals are shown after the answer only")
    try:
        threshold = float(visit.value("accept"))
    except ValueError as error:
        raise HTTPException(400, "the confidence is a number, such as 0.95") from error
    found = confident(visit.desk.queue.find(number, items), threshold)
    said = [Given(claim.item, claim.proposal) for claim in found]
    shown = _shown(visit, number, "grid", view, accepted=True)
    _submit(visit, number, said, shown)


def _submit(visit: Visit, number: int, given: Sequence[Given], shown: Shown) -> None:
    desk = visit.desk
    if given:
        submit(desk.settings, desk.queue, visit.user.name, number, given, shown)


def _shown(visit: Visit, number: int, kind: str, view: View, *, accepted: bool = False) -> Shown:
    survey = visit.desk.queue.round(number).plan.survey
    snapshot = visit.desk.pictures.survey(survey).snapshot
    seen = {key: value for key, value in asdict(view).items() if key != "size"}
    return Shown(kind, snapshot, seen, accepted)


def _label_page(
    visit: Visit, template: str, number: int, claims: Sequence[Claim], size: int
) -> Response:
    desk, view = visit.desk, view_of(visit.query)
    asked = desk.queue.round(number)
    last = desk.queue.last(number, visit.user.name)
    path = _path(visit, claims)
    mine = [row for row in desk.queue.annotators(number) if row["annotator"] == visit.user.name]
    return visit.page(
        template,
        round=asked,
        cards=[_card(visit, asked, claim, view, size) for claim in claims],
        last=last[1] if last else None,
        last_said=_in_words(asked, last[1].answer) if last else "",
        done=mine[0]["answers"] if mine else 0,
        answers=asked.plan.answers,
        unsure=UNSURE,
        path_so_far=join_path(path),
        step=_step(asked, path),
        said=_said(asked, path),
        view=view,
        view_query=view_query(view),
        thresholds=THRESHOLDS,
        **choices(desk, asked.plan.survey),
    )


def _path(visit: Visit, claims: Sequence[Claim]) -> tuple[str, ...]:
    """Return what was said already about the first object of the page."""
    first = str(claims[0].item) if claims else ""
    return split_path(visit.query.get("path", "")) if visit.query.get("item") == first else ()


def _step(asked: Round, path: tuple[str, ...]) -> Step | None:
    """Return what a tree of questions asks next; None for a question that stands alone."""
    tree = tree_of(asked.plan.question, asked.plan.answers)
    question = next_question(tree, path) if tree else None
    return step_of(question) if question else None


def _said(asked: Round, path: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what was said on the way, each with the path that leads to its question."""
    tree = tree_of(asked.plan.question, asked.plan.answers)
    if tree is None:
        return []
    words = words_of(tree, path)
    return [(word, join_path(path[:place])) for place, word in enumerate(words)]


def _in_words(asked: Round, answer: str) -> str:
    """Return an answer as people read it."""
    tree = tree_of(asked.plan.question, asked.plan.answers)
    return ", ".join(words_of(tree, split_path(answer))) if tree else answer


def _card(visit: Visit, asked: Round, claim: Claim, view: View, size: int) -> Card:
    survey = asked.plan.survey
    proposal = "" if asked.plan.blind else claim.proposal
    picture = f"/picture/{survey}/{claim.object_id}?{view_query(view, size)}"
    try:
        found = visit.desk.pictures.find(survey, claim.object_id)
    except StorageError:
        return Card(claim, "", "", proposal)
    near = tuple(visit.desk.pictures.survey(survey).near(found)) if view.neighbours else ()
    return Card(claim, picture, viewer_link(found.ra, found.dec), proposal, near)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise HTTPException(400, f"{text!r} is not an object of the queue")
    return int(text)
