"""The quality gates as a step: check a snapshot, write the report, show it in Prefect.

What is checked and how the report looks is in `storage.quality`.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from storage.bricks import read_survey_bricks
from storage.quality.checks import check_survey
from storage.quality.documents import html_report, markdown_report, verdict
from storage.quality.limits import QualityLimits
from storage.quality.results import Level, QualityReport
from tasks.references import Reference, SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import open_snapshot
from tasks.whole_files import whole_file

REPORTS = "reports"  # folder in the home


class QualityRef(Reference):
    """The outcome of the quality gates on one snapshot, and where the report is.

    `checks` gives the level of every check by name; `worst` is the worst of them. `verdict` and
    `found` are for people: the outcome in a sentence, and what each check found.
    """

    snapshot: SnapshotRef
    worst: Level
    verdict: str
    checks: dict[str, Level]
    found: dict[str, str]
    path: str

    @property
    def passed(self) -> bool:
        """Return whether no gate failed; warnings pass."""
        return self.worst is not Level.FAIL


@task(name="check-quality", cache_policy=NO_CACHE)
def check_quality(
    settings: Settings,
    snapshot: SnapshotRef,
    limits: QualityLimits | None = None,
    bricks_table: str | None = None,
) -> QualityRef:
    """Check a snapshot of a survey, write its report as HTML and show it as a Prefect artifact.

    Parameters
    ----------
    bricks_table : str, optional
        File `survey-bricks-<release>-<region>.fits.gz`, to hold counts and depths against.

    Raises
    ------
    StorageError
        If the snapshot cannot be read, or the table is no table of bricks.
    """
    table = read_survey_bricks(bricks_table) if bricks_table else None
    report = check_survey(open_snapshot(snapshot), snapshot.survey, limits, table)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    path = report_path(settings, snapshot)
    write_text(path, html_report(report, made=made, bricks_table=table))
    create_markdown_artifact(
        f"{markdown_report(report)}\nWith pictures: `{path}`\n",
        key=artifact_key(snapshot.survey),
        description=verdict(report),
    )
    return _reference(snapshot, report, path)


def report_path(settings: Settings, snapshot: SnapshotRef) -> Path:
    """Return the file of the report on a snapshot: `<home>/reports/<survey>-<snapshot>.html`."""
    name = f"{snapshot.survey.replace('/', '-')}-{snapshot.snapshot_id}.html"
    return settings.home.resolve() / REPORTS / name


def artifact_key(survey: str) -> str:
    """Return the key of the Prefect artifact: small letters, digits and dashes."""
    return f"quality-{re.sub(r'[^a-z0-9]+', '-', survey.lower())}"


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, whole."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _reference(snapshot: SnapshotRef, report: QualityReport, path: Path) -> QualityRef:
    return QualityRef(
        snapshot=snapshot,
        worst=report.level,
        verdict=verdict(report),
        checks={check.name: check.level for check in report.checks},
        found={check.name: check.found for check in report.checks},
        path=str(path),
    )
