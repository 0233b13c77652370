"""The `brickyard` command. Each sub-command calls a flow function that Python can call as well."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import (
    backup,
    benchmark,
    cycle,
    data,
    decisions,
    demo,
    desk,
    export,
    metrics,
    models,
    plan,
    quality,
    report,
    runs,
    search,
    services,
    store,
    trace,
    users,
)
from flows.services import configure_environment

app = typer.Typer(
    name="brickyard",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""From DESI Legacy Survey bricks to approved galaxy models.

    The usual order: `ingest` bricks, `pretrain` an encoder (or use one), `embed` the survey,
    import `labels`, `finetune` a downstream task, `promote` it (a person decides with `approve`
    or `reject`), `predict` a catalogue, and ask `lineage` where a row came from.
    `brickyard demo` does all of it on a synthetic survey.
    """,
)


@app.callback()
def main(
    home: Annotated[
        Path,
        typer.Option(
            "--home",
            envvar="BRICKYARD_HOME",
            help="Folder of the embedded default: store, labels, MLflow and Prefect databases.",
        ),
    ] = Path("brickyard-home"),
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the log of flows and tasks.")
    ] = False,
) -> None:
    """Set where things are before any flow is loaded."""
    configure_environment(home, verbose=verbose)


for module in (
    plan,
    data,
    store,
    quality,
    export,
    models,
    search,
    decisions,
    runs,
    trace,
    cycle,
    users,
    services,
    desk,
    metrics,
    report,
    backup,
    benchmark,
    demo,
):
    module.register(app)


if __name__ == "__main__":
    app()
