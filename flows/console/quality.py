"""Sub-command quality: the gates over a survey, with a report; exit code 1 when one fails."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.console.store import Survey
from flows.console.terminal import console, flow_command

if TYPE_CHECKING:  # tasks.quality loads Prefect, which every other sub-command would wait for
    from tasks.quality import QualityRef

LEVEL_STYLE = {"pass": "green", "warn": "yellow", "fail": "bold red", "not measured": "dim"}


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(quality)


@flow_command
def quality(
    survey: Survey,
    bricks_table: Annotated[
        Path | None,
        typer.Option(help="The region's survey-bricks table, to hold counts against."),
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="Snapshot id; default: newest.")] = None,
    tag: Annotated[str | None, typer.Option(help="Tag of a snapshot instead of its id.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of limits.")
    ] = None,
) -> None:
    """Check counts, pixels, depth, PSF, borders and coverage of a survey, and write a report."""
    from flows.parameters import read_config
    from flows.quality import check_survey_quality
    from storage.quality.limits import QualityLimits

    limits = read_config(QualityLimits, config) if config else None
    table = str(bricks_table) if bricks_table else None
    found = check_survey_quality(survey, snapshot, tag, limits, table)
    show_quality(found)
    if not found.passed:
        raise typer.Exit(code=1)


def show_quality(found: "QualityRef") -> None:
    """Print every check, the verdict and where the report is."""
    table = Table(title=f"quality of {found.snapshot.survey}", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("found", overflow="fold")
    for name, level in found.checks.items():
        style = LEVEL_STYLE[level.value]
        table.add_row(name, f"[{style}]{level.value}[/]", found.found[name])
    console.print(table)
    console.print(found.verdict)
    console.print(f"report: {found.path}", soft_wrap=True)
