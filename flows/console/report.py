"""Sub-command report: one page with pictures about a run, or about where a survey stands."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console.store import Survey
from flows.console.terminal import console, fail_on_errors


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(report)


@fail_on_errors
def report(
    survey: Survey,
    run: Annotated[
        str, typer.Option(help="Id of the flow run that it is about; needs Prefect's server.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="File; default: reports in the home.")] = None,
) -> None:
    """Write one page: what came in, quality, embeddings, models, decisions, catalogue."""
    from tasks.run_report import report_survey
    from tasks.settings import load_settings

    with console.status(f"reporting on {survey}"):
        made = report_survey(load_settings(), survey, run, out)
    console.print(f"report: {made.path}")
    for title, why in made.missing.items():
        console.print(f"[yellow]without {title.lower()}:[/] {why}", highlight=False)
