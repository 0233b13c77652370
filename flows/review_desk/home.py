"""The first page: what waits, how the survey stands, which models are in use."""

from starlette.responses import Response

from flows.review_desk.access import Visit, page
from tasks.desk_pages import links_of
from tasks.desk_pages_releases import held_releases


@page("view")
def home(visit: Visit) -> Response:
    """Show what waits for the user and the state of the survey."""
    desk = visit.desk
    promotions, trouble = desk.promotions()
    return visit.page(
        "home.html",
        rounds=desk.queue.rounds(waiting_only=True),
        promotions=promotions,
        trouble=trouble,
        releases=held_releases(desk.settings),
        surveys=desk.surveys.get(),
        champions=desk.champions.get(),
        disagreements=desk.findings.get(),
        links=links_of(desk.settings),
    )


@page("view")
def help_page(visit: Visit) -> Response:
    """Show the keys and what the pages are for."""
    return visit.page("help.html")
