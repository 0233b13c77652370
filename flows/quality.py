"""The quality gates over a snapshot: a report, and whether the survey passes."""

from prefect import flow

from flows.parameters import QualityLimits
from tasks.quality import QualityRef, check_quality
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot


@flow(name="check-survey-quality")
def check_survey_quality(
    survey: str,
    snapshot_id: str | None = None,
    tag: str | None = None,
    limits: QualityLimits | None = None,
    bricks_table: str | None = None,
) -> QualityRef:
    """Check a survey in the store and report on it.

    Parameters
    ----------
    survey : str
        Such as "dr10/south".
    snapshot_id : str, optional
        Snapshot of the cutouts; the newest by default.
    tag : str, optional
        Name of a snapshot instead of its id.
    limits : QualityLimits, optional
        What the survey has to meet.
    bricks_table : str, optional
        The region's `survey-bricks` table, to hold counts and depths against.
    """
    settings = load_settings()
    snapshot = find_snapshot(settings, survey, snapshot_id, tag)
    return check_quality(settings, snapshot, limits, bricks_table)
