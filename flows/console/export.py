"""Sub-command export: the object table of a survey as a file for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console.store import Survey
from flows.console.terminal import console, fail_on_errors


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(export)


@fail_on_errors
def export(
    survey: Survey,
    target: Annotated[
        Path,
        typer.Argument(help="File to write: .parquet, .fits, .ecsv, or a folder ending in .hats."),
    ],
    snapshot: Annotated[
        str | None, typer.Option(help="Snapshot id; default: the newest snapshot.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Name of a snapshot, instead of its id.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns, such as type,flux_r,flux_z; default: all.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the target where it exists.")
    ] = False,
) -> None:
    """Write one row an object, with units, for TOPCAT, astropy, pandas (or LSDB: .hats)."""
    from tasks.export import export_table
    from tasks.settings import load_settings
    from tasks.snapshots import find_snapshot

    chosen = find_snapshot(load_settings(), survey, snapshot, tag)
    names = [name.strip() for name in columns.split(",") if name.strip()] if columns else None
    with console.status(f"writing {target}"):
        written = export_table.fn(chosen, str(target), names, overwrite)
    console.print(
        f"wrote {written.rows} objects, {len(written.columns)} columns, to {written.path} "
        f"(snapshot {chosen.snapshot_id})"
    )
