"""Put the sections of a report together and write the page."""

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jinja2

from storage.errors import StorageError
from tasks.errors import TaskError
from tasks.quality import REPORTS
from tasks.references import Reference
from tasks.run_report import sections
from tasks.run_report.flow_runs import flow_run_section
from tasks.run_report.sections import Section
from tasks.settings import Settings
from tasks.snapshots import find_snapshot
from tasks.whole_files import whole_file

PARTS = {
    "What came in": sections.receipt_section,
    "Cutouts": sections.cutout_section,
    "Quality": sections.quality_section,
    "Embeddings": sections.embedding_section,
    "Models and decisions": sections.model_section,
    "Catalogue": sections.catalogue_section,
}


class RunReport(Reference):
    """A report that was written; `missing` says which sections are not there, and why."""

    path: str
    survey: str
    snapshot_id: str
    missing: dict[str, str]


def report_survey(
    settings: Settings, survey: str, flow_run_id: str = "", path: Path | None = None
) -> RunReport:
    """Write one page with pictures about the newest snapshot of a survey.

    Parameters
    ----------
    flow_run_id : str
        Flow run that it is about: its state, steps and links come first.
    path : Path, optional
        File to write; `<home>/reports/run-<survey>-<snapshot>.html` by default.

    Raises
    ------
    StorageError
        If the survey is not in the store. What else is missing is told on the page.
    """
    snapshot = find_snapshot(settings, survey, None)
    found = [flow_run_section(flow_run_id)] if flow_run_id else []
    for title, part in PARTS.items():
        try:
            found.append(part(settings, snapshot))
        except (StorageError, TaskError, LookupError, FileNotFoundError) as error:
            found.append(Section(title=title, missing=str(error).strip("'")))
    text = _environment().render(
        survey=survey,
        snapshot=snapshot.snapshot_id,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        sections=found,
    )
    name = f"run-{survey.replace('/', '-')}-{flow_run_id or snapshot.snapshot_id}.html"
    target = path or settings.home.resolve() / REPORTS / name
    with whole_file(target) as partial:
        partial.write_text(text, encoding="utf-8")
    return RunReport(
        path=str(target),
        survey=survey,
        snapshot_id=snapshot.snapshot_id,
        missing={item.title: item.missing for item in found if item.missing},
    )


def _environment() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(
        files(__package__).joinpath("page.html.jinja").read_text("utf-8")
    )
