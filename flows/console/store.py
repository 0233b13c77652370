"""Sub-commands about what is in the store: surveys, snapshots, stale, withdraw, tidy."""

from typing import Annotated

import typer
from rich.table import Table

from flows.console.terminal import console, fail_on_errors, flow_command

Survey = Annotated[str, typer.Argument(help="Survey in the store, such as dr10/south.")]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    app.command()(surveys)
    app.command()(snapshots)
    app.command()(stale)
    app.command()(withdraw)
    app.command()(tidy)


@fail_on_errors
def surveys() -> None:
    """List what is in the store: surveys, their bricks by state, objects, newest snapshot."""
    from tasks.settings import load_settings
    from tasks.snapshots import describe_store

    table = _table("survey", "bands", "bricks written", "other bricks", "objects", "tag")
    for summary in describe_store(load_settings()):
        others = (
            f"{count} {state}"
            for state, count in summary.states.items()
            if count and state != "written"
        )
        table.add_row(
            summary.survey,
            summary.bands,
            str(summary.states["written"]),
            ", ".join(others) or "-",
            str(summary.objects),
            summary.tag or summary.snapshot_id,
        )
    console.print(table)


@fail_on_errors
def snapshots(
    survey: Annotated[str | None, typer.Argument(help="Survey; default: all.")] = None,
) -> None:
    """List the snapshots that ingests led to; each stays readable under its tag."""
    from tasks.settings import load_settings
    from tasks.snapshots import list_snapshots

    table = _table("tag", "snapshot", "when (UTC)", "what")
    for tag in list_snapshots(load_settings(), survey):
        when = f"{tag.written_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(tag.name, tag.snapshot_id, when, tag.message)
    console.print(table)


@fail_on_errors
def stale(survey: Survey = "dr10/south") -> None:
    """Say which embeddings and catalogues are out of date because bricks changed."""
    from tasks.settings import load_settings
    from tasks.staleness import find_stale

    table = _table("what", "name", "bricks current", "stale", "missing")
    table.add_column("stale bricks", overflow="fold")
    for found in find_stale(load_settings(), survey):
        counts = map(str, (found.current, found.stale, found.missing))
        table.add_row(found.kind, found.name, *counts, " ".join(found.stale_bricks) or "-")
    console.print(table)


@flow_command
def withdraw(
    survey: Survey,
    brick: Annotated[list[str], typer.Option("--brick", "-b", help="Brick; may be repeated.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")],
) -> None:
    """Take bricks out of a survey by name; older snapshots keep them."""
    from flows.ingest import withdraw_bricks

    done = withdraw_bricks(survey, brick, reason)
    console.print(
        f"withdrew {len(done.bricks)} bricks with {done.objects} objects from {survey}; "
        f"snapshot {done.tag}. To have them back: brickyard ingest ... -b NAME --again"
    )


@fail_on_errors
def tidy() -> None:
    """Delete what broken runs left in the store; no snapshot refers to it."""
    from tasks.settings import load_settings
    from tasks.snapshots import tidy_store

    for name, freed in tidy_store(load_settings()).items():
        console.print(f"{name}: {freed / 1e6:.1f} MB freed")


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table
