"""The review desk as an ASGI application: which address is which page."""

import logging
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from flows.review_desk import (
    account,
    accounts,
    approve,
    conflicts,
    explore,
    history,
    home,
    label,
    lineage,
    look,
    metrics,
    releases,
    rounds,
    users,
)
from flows.review_desk.access import SecurityHeaders
from flows.review_desk.desk import FOLDER, Desk
from storage.errors import StorageError
from tasks.errors import TaskError

logger = logging.getLogger(__name__)

ROUTES = [
    Route("/", home.home),
    Route("/login", accounts.show_login),
    Route("/login", accounts.log_in, methods=["POST"]),
    Route("/logout", accounts.log_out, methods=["POST"]),
    Route("/account", account.show),
    Route("/account/password", account.replace_password, methods=["POST"]),
    Route("/account/token", account.make_token, methods=["POST"]),
    Route("/account/revoke", account.revoke_token, methods=["POST"]),
    Route("/users", users.show),
    Route("/users/add", users.add, methods=["POST"]),
    Route("/users/{name}/roles", users.change_roles, methods=["POST"]),
    Route("/users/{name}/password", users.reset_password, methods=["POST"]),
    Route("/users/{name}/lock", users.lock, methods=["POST"]),
    Route("/users/{name}/unlock", users.unlock, methods=["POST"]),
    Route("/users/{name}/revoke", users.revoke, methods=["POST"]),
    Route("/help", home.help_page),
    Route("/metrics", metrics.metrics),
    Route("/picture/{survey:path}/{object_id}", look.picture),
    Route("/label", label.choose),
    Route("/label/{number:int}", label.one),
    Route("/label/{number:int}/grid", label.grid),
    Route("/label/{number:int}/answer", label.answer, methods=["POST"]),
    Route("/label/{number:int}/answers", label.answers, methods=["POST"]),
    Route("/label/{number:int}/undo", label.undo_last, methods=["POST"]),
    Route("/rounds/open", rounds.open_round, methods=["POST"]),
    Route("/rounds/{number:int}/close", rounds.close_round, methods=["POST"]),
    Route("/rounds/add", rounds.add_objects, methods=["POST"]),
    Route("/conflicts", conflicts.conflicts),
    Route("/conflicts/settle", conflicts.settle_one, methods=["POST"]),
    Route("/explore", explore.explore),
    Route("/explore/work", explore.start_work, methods=["POST"]),
    Route("/explore/map.jpg", explore.map_picture),
    Route("/object/{object_id}", explore.object_page),
    Route("/like/{object_id}", explore.like),
    Route("/approve", approve.waiting),
    Route("/approve/{flow_run_id}", approve.case),
    Route("/approve/{flow_run_id}/decide", approve.decide_case, methods=["POST"]),
    Route("/approve/{flow_run_id}/code", approve.give_code, methods=["POST"]),
    Route("/approve/{flow_run_id}/compare", approve.compare, methods=["POST"]),
    Route("/evidence/{case_id}/{side}/{name}.png", approve.figure),
    Route("/models/{downstream}/rollback", approve.take_back, methods=["POST"]),
    Route("/audit/put-back", approve.put_back, methods=["POST"]),
    Route("/releases", releases.waiting),
    Route("/releases/{digest}", releases.release),
    Route("/releases/{digest}/decide", releases.decide, methods=["POST"]),
    Route("/lineage", lineage.lineage),
    Route("/lineage.json", lineage.lineage_file),
    Route("/history", history.history),
    Route("/history/{what}.{form}", history.export),
    Mount("/static", StaticFiles(directory=FOLDER / "static")),
]


def create_app(desk: Desk, hosts: Sequence[str]) -> Starlette:
    """Return the application.

    Parameters
    ----------
    desk : Desk
    hosts : sequence of str
        Names under which it is reached; another Host header is refused, so that a page of
        somebody else cannot pass for this machine.
    """
    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(GZipMiddleware, minimum_size=2000),
        ],
        exception_handlers={
            HTTPException: _refused,
            StorageError: _problem,
            TaskError: _problem,
            Exception: _broken,
        },
    )
    app.state.desk = desk
    return app


def _message(request: Request, status: int, title: str, text: str) -> Response:
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"error": text}, status)
    desk: Desk = request.app.state.desk
    page = desk.templates.get_template("message.html").render(
        title=title, text=text, user=None, csrf="", single_user=False, path=request.url.path
    )
    return HTMLResponse(page, status, headers={"cache-control": "no-store"})


def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = error.detail if isinstance(error, HTTPException) else ""
    titles = {401: "Log in first", 403: "Not allowed", 404: "There is no such page"}
    return _message(request, status, titles.get(status, "Not possible"), text)


def _problem(request: Request, error: Exception) -> Response:
    """Tell what a user can put right; missing things are 404, refusals 403, the rest 400."""
    status = 400
    if isinstance(error, LookupError | FileNotFoundError):
        status = 404
    elif isinstance(error, PermissionError):
        status = 403
    return _message(request, status, "That did not work", str(error))


def _broken(request: Request, error: Exception) -> Response:
    logger.error("page %s failed", request.url.path, exc_info=error)
    text = "The desk has written to its log what happened. Nothing was changed by halves."
    return _message(request, 500, "The desk has a fault", text)
