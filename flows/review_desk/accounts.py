"""Log in and out."""

from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from flows.review_desk.access import (
    COOKIE,
    Visit,
    check_origin,
    client_address,
    page,
    read_form,
    session_minutes,
    set_session_cookie,
)
from flows.review_desk.desk import Desk
from tasks.users import LoginRefused


async def show_login(request: Request) -> Response:
    """Show the form of name and password."""
    desk: Desk = request.app.state.desk
    if desk.users.single_user:
        return RedirectResponse("/", 303)
    return _form(desk, inside(request.query_params.get("next", "/")), "", 200)


async def log_in(request: Request) -> Response:
    """Open a session for a name and password."""
    form = await read_form(request)
    check_origin(request)  # nobody is to be logged in as somebody else from another site
    target = inside(str(form.get("next", "/")))
    return await run_in_threadpool(
        _log_in, request, str(form.get("name", "")), str(form.get("password", "")), target
    )


def _log_in(request: Request, name: str, password: str, target: str) -> Response:
    desk: Desk = request.app.state.desk
    try:
        user = desk.users.authenticate(name, password, client_address(request))
    except LoginRefused as error:
        wait = getattr(error, "wait", 0.0)
        answer = _form(desk, target, str(error), 429 if wait else 401)
        if wait:
            answer.headers["retry-after"] = str(int(wait) + 1)
        return answer
    session = desk.users.open_session(user, session_minutes(desk))
    answer = RedirectResponse(target, 303)
    set_session_cookie(request, answer, session)
    return answer


@page("view")
def log_out(visit: Visit) -> Response:
    """End the session."""
    if visit.session is not None:
        visit.desk.users.close_session(visit.session.token)
        visit.session = None
    answer = visit.go("/login")
    answer.delete_cookie(COOKIE)
    return answer


def inside(target: str) -> str:
    """Return a path of the desk to go on to; the first page instead of any other address."""
    parts = urlsplit(target)
    own = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if own and not parts.netloc and not parts.scheme else "/"


def _form(desk: Desk, target: str, refusal: str, status: int) -> Response:
    text = desk.templates.get_template("login.html").render(
        target=target, refusal=refusal, user=None, csrf="", single_user=False, path="/login"
    )
    return HTMLResponse(text, status, headers={"cache-control": "no-store"})
