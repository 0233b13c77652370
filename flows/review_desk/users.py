"""Users, for admins: add, change roles, lock out, give a start password, revoke tokens."""

import logging

from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.review_desk.access import Visit, page
from tasks.desk_pages_users import Secret, people, start_password
from tasks.roles import ROLES

logger = logging.getLogger(__name__)


@page("administer")
def show(visit: Visit) -> Response:
    """Show the users."""
    return _page(visit)


@page("administer")
def add(visit: Visit) -> Response:
    """Add a user; their start password is shown once."""
    name = visit.value("name").strip()
    secret = None if visit.value("no_password") else start_password(name)
    made = visit.desk.users.add(name, secret.text if secret else "", visit.values("role"))
    logger.info("%s added the user %s: %s", visit.user.name, made.name, sorted(made.roles))
    return _page(visit, secret)


@page("administer")
def change_roles(visit: Visit) -> Response:
    """Replace the roles of a user."""
    made = visit.desk.users.set_roles(visit.path("name"), visit.values("role"))
    logger.info("%s gave %s the roles %s", visit.user.name, made.name, sorted(made.roles))
    return visit.go("/users")


@page("administer")
def reset_password(visit: Visit) -> Response:
    """Replace a password by one that is shown once; the sessions of the user end."""
    name = visit.path("name")
    if name.casefold() == visit.user.name.casefold():
        raise HTTPException(400, "replace your own password on your own page")
    secret = start_password(name)
    visit.desk.users.set_password(name, secret.text)
    logger.info("%s replaced the password of %s", visit.user.name, name)
    return _page(visit, secret)


@page("administer")
def lock(visit: Visit) -> Response:
    """Lock a user out."""
    return _set_enabled(visit, False)


@page("administer")
def unlock(visit: Visit) -> Response:
    """Let a user in again."""
    return _set_enabled(visit, True)


@page("administer")
def revoke(visit: Visit) -> Response:
    """Revoke API tokens of a user that carry a name."""
    visit.desk.users.revoke_token(visit.path("name"), visit.value("token"))
    logger.info("%s revoked a token of %s", visit.user.name, visit.path("name"))
    return visit.go("/users")


def _set_enabled(visit: Visit, enabled: bool) -> Response:
    name = visit.path("name")
    visit.desk.users.set_enabled(name, enabled)
    logger.info("%s %s %s", visit.user.name, "let in" if enabled else "locked out", name)
    return visit.go("/users")


def _page(visit: Visit, secret: Secret | None = None) -> Response:
    return visit.page(
        "users.html", people=people(visit.desk.users), roles=tuple(ROLES), secret=secret
    )
