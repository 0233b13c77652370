"""What users do for themselves: replace their password, make and revoke API tokens."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.review_desk.access import (
    Visit,
    client_address,
    page,
    session_minutes,
    set_session_cookie,
)
from tasks.desk_pages_users import Secret, tokens_of
from tasks.users import PASSWORD_LENGTH

MOST_DAYS = 366
NAME_LENGTH = 64


@page("view")
def show(visit: Visit) -> Response:
    """Show the user's own page."""
    return _page(visit)


@page("view")
def replace_password(visit: Visit) -> Response:
    """Replace the user's password; all their sessions end, and a new one begins here."""
    desk, new = visit.desk, visit.value("new")
    _must_be_logged_in(visit)
    if not new or new != visit.value("again"):
        raise HTTPException(400, "the new password is blank, or not the same both times")
    # The attempts are counted: whoever finds a desk open is not to guess the password here.
    desk.users.authenticate(visit.user.name, visit.value("old"), client_address(visit.request))
    desk.users.set_password(visit.user.name, new)
    session = desk.users.open_session(visit.user, session_minutes(desk))
    visit.session = session
    answer = _page(visit, told="Your password is replaced. Sessions elsewhere have ended.")
    set_session_cookie(visit.request, answer, session)
    return answer


@page("view")
def make_token(visit: Visit) -> Response:
    """Make an API token, which is shown once."""
    _must_be_logged_in(visit)
    name, days = visit.value("name").strip(), visit.value("days")
    if not 0 < len(name) <= NAME_LENGTH:
        raise HTTPException(400, f"say what it is for, in at most {NAME_LENGTH} characters")
    if not days.isdecimal() or not 1 <= int(days) <= MOST_DAYS:
        raise HTTPException(400, f"{days[:20]!r} days: a whole number from 1 to {MOST_DAYS}")
    text = visit.desk.users.issue_token(visit.user, name, float(days))
    secret = Secret(title=f"API token {name}", name=visit.user.name, text=text)
    return _page(visit, secret=secret)


@page("view")
def revoke_token(visit: Visit) -> Response:
    """Revoke the user's own API tokens that carry a name."""
    visit.desk.users.revoke_token(visit.user.name, visit.value("token"))
    return visit.go("/account")


def _must_be_logged_in(visit: Visit) -> None:
    """Refuse scripts: a token that makes tokens would never end."""
    if visit.proof not in ("session", "proxy"):
        raise HTTPException(403, "log in with a name and password for this")


def _page(visit: Visit, *, secret: Secret | None = None, told: str = "") -> Response:
    return visit.page(
        "account.html",
        tokens=tokens_of(visit.desk.users, visit.user),
        secret=secret,
        told=told,
        shortest=PASSWORD_LENGTH[0],
    )
