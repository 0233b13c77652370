"""Run the desk in this process until it is stopped."""

from collections.abc import Callable, Sequence

import uvicorn

from flows.review_desk.app import create_app
from flows.review_desk.desk import open_desk
from tasks.access import check_address
from tasks.settings import Settings

SINGLE_USER = (
    "This home has no users: whoever can reach this machine's own port may do everything, and the "
    "desk answers on this machine only. `brickyard users add NAME --role admin` ends that."
)


def serve(
    settings: Settings,
    host: str,
    port: int,
    hosts: Sequence[str],
    tell: Callable[[str], None],
) -> None:
    """Serve the pages of a home.

    Parameters
    ----------
    hosts : sequence of str
        Names under which it may be asked for; see `flows.review_desk.app.create_app`.
    tell : callable
        Told where the desk is, and that there are no users where that is so.

    Raises
    ------
    NotAllowed
        If there are no users and `host` can be reached from other machines.
    """
    desk = open_desk(settings)
    check_address(desk.users, host)
    if desk.users.single_user:
        tell(SINGLE_USER)
    tell(f"review desk: http://{host}:{port}/ (Ctrl-C ends it)")
    config = uvicorn.Config(
        create_app(desk, hosts),
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # an address is believed only from the connection (tasks.access)
    )
    uvicorn.Server(config).run()
