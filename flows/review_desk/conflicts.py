"""Objects on which annotators disagree, and the form that settles them.

Only for those who may decide: whoever still answers in a blind round is not to see what others
said.
"""

from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.review_desk.access import Visit, page
from storage.errors import StorageError
from tasks.conflicts import Conflict, Settlement, disputable_questions, find_conflicts, settle

SHOWN = 25  # on a page


@page("decide")
def conflicts(visit: Visit) -> Response:
    """Show what is in dispute on one question, the most disputed first."""
    desk, questions = visit.desk, disputable_questions()
    survey, asked = desk.survey(visit.query.get("survey", "")), visit.query.get("question", "")
    wanted = [asked] if asked in questions else questions
    # Without a question, the first in which something is in dispute.
    looked = ((name, find_conflicts(desk.settings, survey, name)) for name in wanted)
    question, found = next((pair for pair in looked if pair[1]), (wanted[0], []))
    return visit.page(
        "conflicts.html",
        survey=survey,
        surveys=[item.survey for item in desk.surveys.get()],
        question=question,
        questions=questions,
        total=len(found),
        conflicts=[(item, _in_survey(visit, survey, item)) for item in found[:SHOWN]],
    )


@page("decide")
def settle_one(visit: Visit) -> Response:
    """Write down what an object is, in the name of the user who is logged in."""
    seen = visit.value("seen")
    if not seen.isdecimal() or len(seen) > 18:
        raise HTTPException(400, "the form is out of date: load the page again")
    names = ("survey", "question", "object_id", "group", "answer", "reason")
    wanted = Settlement(
        **{name: visit.value(name) for name in names}, seen=int(seen), proof=visit.proof
    )
    settle(visit.desk.settings, visit.user, wanted)
    query = urlencode({"survey": wanted.survey, "question": wanted.question})
    return visit.go(f"/conflicts?{query}")


def _in_survey(visit: Visit, survey: str, item: Conflict) -> bool:
    """Return whether there is a picture: an object may have left the survey since."""
    try:
        visit.desk.pictures.find(survey, item.object_id)
    except StorageError:
        return False
    return True
