"""Who asks for a page, whether they may, and the headers that every answer carries.

A page function gets a `Visit`: it runs only for somebody who may do its action, and for a POST
only with the secret of their session, so no other site can send it in their name.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.review_desk.desk import Desk
from tasks.access import find_visitor
from tasks.policies import read_policies
from tasks.roles import User
from tasks.users import Session

COOKIE = "brickyard_session"
MOST_BODY = 1 << 20  # bytes of a form
MOST_FIELDS = 2000  # a grid has a few fields for each of at most a hundred objects
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass
class Visit:
    """A request of somebody who may make it.

    `session` is None for a script that came with an API token; `proof` says how `user` was proved
    (`tasks.access.Visitor`).
    """

    request: Request
    desk: Desk
    user: User
    session: Session | None
    proof: str
    form: FormData = field(default_factory=FormData)

    @property
    def query(self) -> Mapping[str, str]:
        """Return the query of the address."""
        return self.request.query_params

    def path(self, name: str) -> str:
        """Return a part of the address."""
        return str(self.request.path_params[name])

    def value(self, name: str) -> str:
        """Return a text field of the form; empty when it is absent or a file."""
        found = self.form.get(name, "")
        return found if isinstance(found, str) else ""

    def values(self, name: str) -> list[str]:
        """Return all values of a field of the form."""
        return [item for item in self.form.getlist(name) if isinstance(item, str)]

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page made from a template."""
        text = self.desk.templates.get_template(template).render(
            user=self.user,
            csrf=self.session.csrf if self.session else "",
            single_user=self.proof == "single-user",
            path=self.request.url.path,
            **values,
        )
        return HTMLResponse(text, status, headers={"cache-control": "no-store"})

    def go(self, path: str) -> Response:
        """Send the browser to another page of the desk, after a POST."""
        return RedirectResponse(path, 303)


Page = Callable[[Visit], Response]


def page(action: str) -> Callable[[Page], Callable[[Request], Any]]:
    """Let a function answer requests of users who may do an action of `tasks.users.ACTIONS`."""

    def decorate(function: Page) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            visit = await run_in_threadpool(identify, request)
            if visit is None:
                return _to_login(request)
            if request.method == "POST":
                visit.form = await read_form(request)
                check_origin(request)
                _check_secret(visit)
            if not visit.user.may(action):
                raise HTTPException(403, f"{visit.user.name} may not {action} here")
            answer = await run_in_threadpool(function, visit)
            _give_cookie(visit, answer)
            return answer

        endpoint.__name__ = function.__name__
        return endpoint

    return decorate


async def read_form(request: Request) -> FormData:
    """Return the form of a POST, or refuse one that is too large."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MOST_BODY:
        raise HTTPException(413, "the form is too large")
    return await request.form(max_files=0, max_fields=MOST_FIELDS)


def check_origin(request: Request) -> None:
    """Refuse a POST that a browser sends from another site."""
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site", "same-origin") not in _OWN_SITES:
        raise HTTPException(403, "the form came from another site")


_OWN_SITES = ("same-origin", "none")


def client_address(request: Request) -> str:
    """Return the address of whoever connects."""
    return request.client.host if request.client else ""


def set_session_cookie(request: Request, response: Response, session: Session) -> None:
    """Give a session to the browser; scripts of the page cannot read it."""
    response.set_cookie(
        COOKIE,
        session.token,
        expires=session.expires,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def identify(request: Request) -> Visit | None:
    """Return who asks, or None when nobody is proved.

    Who is let in without a password (the only user, a user of a trusted proxy) gets a session
    too, for the secret that forms bring back; a script with an API token needs none.
    """
    desk: Desk = request.app.state.desk
    cookie = request.cookies.get(COOKIE, "")
    found = find_visitor(
        desk.users,
        read_policies(desk.settings).access,
        headers=request.headers,
        address=client_address(request),
        session_token=cookie,
    )
    if found is None:
        return None
    session = found.session
    if found.proof == "single-user":
        session = desk.local.find(cookie) or desk.local.open(session_minutes(desk))
    elif found.proof == "proxy":
        session = desk.users.open_session(found.user, session_minutes(desk))
    return Visit(request, desk, found.user, session, found.proof)


def session_minutes(desk: Desk) -> float:
    """Return how long a login lasts."""
    return read_policies(desk.settings).access.session_minutes


def _to_login(request: Request) -> Response:
    """Send a browser to the login page, and back afterwards."""
    if request.method != "GET" or "authorization" in request.headers:
        raise HTTPException(401, "log in first: there is no session, or it has ended")
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)


def _check_secret(visit: Visit) -> None:
    """Refuse a form without the secret of the session; a script's token is no cookie."""
    if visit.session is None:
        return
    given = visit.value("csrf") or visit.request.headers.get("x-csrf-token", "")
    if not hmac.compare_digest(given.encode(), visit.session.csrf.encode()):
        raise HTTPException(403, "the form is out of date: go back, load the page again, retry")


def _give_cookie(visit: Visit, answer: Response) -> None:
    known = visit.request.cookies.get(COOKIE, "")
    if visit.session is not None and visit.session.token != known:
        set_session_cookie(visit.request, answer, visit.session)


class SecurityHeaders:
    """Adds the headers that keep scripts, frames and forms of others out of every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the headers added."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        await self._app(scope, receive, send_with_headers)
