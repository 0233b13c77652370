"""All checks of one snapshot of a survey: `check_survey`.

Nothing is written and no coadd is opened: the ledger, its receipts, the object table and a sample
of cutouts are enough. Memory is that of the table of bricks, whatever the number of objects.
"""

from collections.abc import Mapping

import icechunk
import pandas as pd

from storage.quality.ledger_checks import check_ledger, check_table
from storage.quality.limits import QualityLimits
from storage.quality.measurements import SurveyMeasurements, read_measurements
from storage.quality.object_checks import check_objects
from storage.quality.objects import ObjectFacts, read_object_facts, sample_objects
from storage.quality.outliers import find_outliers
from storage.quality.pixel_checks import check_pixels
from storage.quality.results import QualityReport
from storage.schema import BrickState


def check_survey(
    session: icechunk.Session,
    survey_key: str,
    limits: QualityLimits | None = None,
    bricks_table: pd.DataFrame | None = None,
) -> QualityReport:
    """Check a survey in a snapshot.

    Parameters
    ----------
    session : Session
        Read-only session of the snapshot.
    survey_key : str
        Such as "dr10/south".
    limits : QualityLimits, optional
    bricks_table : DataFrame, optional
        Region's table of bricks from `storage.bricks.read_survey_bricks`: counts and depths are
        held against it.

    Raises
    ------
    StorageError
        When the snapshot has no such survey.
    """
    limits = limits or QualityLimits()
    found = read_measurements(session, survey_key)
    facts = read_object_facts(session, survey_key, found.bricks, limits.separation_arcsec)
    sample = sample_objects(session, survey_key, found.bricks)
    outlier_check, outliers = find_outliers(found, limits)
    return QualityReport(
        survey=survey_key,
        snapshot=session.snapshot_id,
        checks=(
            *check_ledger(found, limits),
            *check_table(found, bricks_table, limits),
            *check_objects(facts, sample, limits),
            *check_pixels(found, bricks_table, limits),
            outlier_check,
        ),
        outliers=outliers,
        facts=_facts(found, facts),
        limits=limits,
        measurements=found,
    )


def _facts(found: SurveyMeasurements, facts: ObjectFacts) -> dict[str, str]:
    states = found.bricks["state"].value_counts().to_dict()
    area = found.written["area"].sum()
    verified = found.written["verification"].value_counts()
    return {
        "bricks": ", ".join(
            f"{states[state]:,} {state.name.lower()}" for state in BrickState if state in states
        ),
        "objects": f"{facts.objects:,}",
        "area": f"{area:,.2f} deg²" if area else "unknown",
        "bands": "".join(found.bands),
        "checksums": ", ".join(
            f"{count:,} {name or 'not recorded'}" for name, count in verified.items() if count
        ),
        "primary objects by type": _counted(found.types),
        "not selected": _counted(found.not_selected),
    }


def _counted(counts: Mapping[str, int]) -> str:
    pairs = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {name}" for name, count in pairs) or "none"
