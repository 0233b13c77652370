"""Sub-command metrics: figures for Prometheus."""

from typing import Annotated

import typer

from flows.console.terminal import console, fail, fail_on_errors


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(metrics)


@fail_on_errors
def metrics(
    port: Annotated[int, typer.Option(help="Port.", min=0, max=65535)] = 9108,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="Print the figures and end.")] = False,
) -> None:
    """Serve figures for Prometheus: bricks, throughput, failures, labels, what waits for people.

    The review desk has the same page at /metrics, for a script with an API token. This one asks
    nobody who they are: leave it on 127.0.0.1, or behind something that does.
    """
    from tasks.metrics_endpoint import metrics_text, registry_of, serve_metrics
    from tasks.settings import load_settings

    settings = load_settings()
    if once:
        typer.echo(metrics_text(registry_of(settings)).decode(), nl=False)
        return
    try:
        server, thread = serve_metrics(settings, host, port)
    except OSError as error:
        fail(f"{host}:{port}: {error.strerror or error}: give another --port")
    console.print(f"figures: http://{host}:{server.server_port}/metrics (Ctrl-C ends it)")
    try:
        thread.join()
    except KeyboardInterrupt:
        server.shutdown()
