"""Sub-command desk: serve the pages on which people label, explore and approve."""

from typing import Annotated

import typer

from flows.console.terminal import console, flow_command

ANY_ADDRESS = ("0.0.0.0", "::")


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(desk)


@flow_command
def desk(
    host: Annotated[
        str, typer.Option(help="Address to serve on; a home without users: 127.0.0.1 only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=0, max=65535)] = 8642,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Host name under which it is reached, where it is not the address."),
    ] = None,
) -> None:
    """Serve the review desk: pages to label, explore, approve and look back.

    Without users (`brickyard users add`) whoever sits at this machine may do everything, and the
    desk answers on this machine only.
    """
    from flows.review_desk.server import serve
    from tasks.settings import load_settings

    hosts = ["127.0.0.1", "localhost", "[::1]", *(name or [])]
    if host not in ANY_ADDRESS:
        hosts.append(host)
    serve(load_settings(), host, port, hosts, tell=console.print)
