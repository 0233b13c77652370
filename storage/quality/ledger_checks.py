"""Checks on what became of bricks and objects: failures, counts against the survey's own table."""

import numpy as np
import pandas as pd

from storage.quality.limits import QualityLimits
from storage.quality.measurements import SurveyMeasurements
from storage.quality.results import EXAMPLES, Check, Level, fraction, graded, share
from storage.schema import BrickState


def check_ledger(found: SurveyMeasurements, limits: QualityLimits) -> list[Check]:
    """Check the states of bricks, and that they were measured."""
    return [
        _failed(found, limits),
        _quarantined(found, limits),
        _unfinished(found),
        _unmeasured(found, limits),
        _edge_losses(found, limits),
    ]


def check_table(
    found: SurveyMeasurements, bricks_table: pd.DataFrame | None, limits: QualityLimits
) -> list[Check]:
    """Hold bricks against the table of bricks of the region, where there is one."""
    if bricks_table is None:
        note = "give the region's survey-bricks table with --bricks-table"
        return [
            Check("bricks of the table", Level.NOT_MEASURED, "no table given", "-", note),
            Check("counts against the table", Level.NOT_MEASURED, "no table given", "-", note),
        ]
    table = bricks_table.set_index("brickname")
    return [_absent(found, table, limits), _miscounted(found, table, limits)]


def _failed(found: SurveyMeasurements, limits: QualityLimits) -> Check:
    names = found.in_state(BrickState.FAILED)
    older = sum(n for (kind, _), n in found.problem_kinds.items() if kind == "older version kept")
    kinds = "".join(
        f"; {count:,} {kind}" for (state, kind), count in _kinds(found) if state == "failed"
    )
    level = graded(fraction(len(names), len(found.bricks)), limits.failed)
    if older and level is Level.PASS:
        level = Level.WARN
    kept = f"; {older:,} could not be read anew, their older version is kept" if older else ""
    return Check(
        name="failed bricks",
        level=level,
        found=share(len(names), len(found.bricks)) + kinds + kept,
        allowed=f"at most {limits.failed.fail:.1%}",
        meaning="Bricks whose files could not be read have no cutouts.",
        advice="Fetch their files again and ingest them by name." if names or older else "",
        examples=tuple(names[:EXAMPLES]),
    )


def _kinds(found: SurveyMeasurements) -> list[tuple[tuple[str, str], int]]:
    return sorted(found.problem_kinds.items(), key=lambda item: -item[1])


def _quarantined(found: SurveyMeasurements, limits: QualityLimits) -> Check:
    names = found.in_state(BrickState.QUARANTINED)
    return Check(
        name="quarantined bricks",
        level=graded(fraction(len(names), len(found.bricks)), limits.quarantined),
        found=share(len(names), len(found.bricks)),
        allowed=f"at most {limits.quarantined.fail:.1%}",
        meaning="Their files contradict their checksums, or catalogue and pixels one another.",
        advice="Fetch them again; if they stay so, the release is at fault: tell the survey."
        if names
        else "",
        examples=tuple(names[:EXAMPLES]),
    )


def _unfinished(found: SurveyMeasurements) -> Check:
    names = found.in_state(BrickState.FETCHED, BrickState.VERIFIED)
    return Check(
        name="unfinished bricks",
        level=Level.WARN if names else Level.PASS,
        found=share(len(names), len(found.bricks)),
        allowed="none",
        meaning="Bricks that have rows but no cutouts: an ingest was stopped between two commits.",
        advice="Run the same ingest again; it goes on where it stopped." if names else "",
        examples=tuple(names[:EXAMPLES]),
    )


def _unmeasured(found: SurveyMeasurements, limits: QualityLimits) -> Check:
    written = found.written
    names = written.index[~written["measured"].to_numpy(bool)]
    return Check(
        name="bricks measured",
        level=graded(fraction(len(names), len(written)), limits.unmeasured),
        found=f"{share(len(written) - len(names), len(written))} measured",
        allowed="all",
        meaning="Checks of pixels, depth and PSF speak of measured bricks only.",
        advice="Ingest the others again with this version to measure them." if len(names) else "",
        examples=tuple(map(str, names[:EXAMPLES])),
    )


def _edge_losses(found: SurveyMeasurements, limits: QualityLimits) -> Check:
    lost = sum(found.without_cutout.values())
    selected = int(found.written["n_objects"].sum()) + lost
    reasons = sorted(found.without_cutout.items(), key=lambda item: -item[1])
    told = "; ".join(f"{count:,} {reason}" for reason, count in reasons[:5])
    used = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(found.neighbours.items()))
    worst = found.bricks["lost"].nlargest(EXAMPLES)
    return Check(
        name="objects without a cutout",
        level=graded(fraction(lost, selected), limits.edge_losses),
        found=share(lost, selected)
        + (f": {told}" if told else "")
        + (f". Neighbouring bricks asked for pixels: {used}" if used else ""),
        allowed=f"at most {limits.edge_losses.fail:.1%}",
        meaning="Selected objects near an edge of the data that no neighbouring brick completes.",
        advice="Have the neighbouring bricks in the source when ingesting, or accept the loss."
        if lost
        else "",
        examples=tuple(str(name) for name, number in worst.items() if number > 0),
    )


def _absent(found: SurveyMeasurements, table: pd.DataFrame, limits: QualityLimits) -> Check:
    wanted = table.index
    if "survey_primary" in table:
        wanted = table.index[table["survey_primary"].to_numpy(bool)]
    done = found.in_state(BrickState.WRITTEN, BrickState.EMPTY)
    absent = wanted.difference(done)
    return Check(
        name="bricks of the table",
        level=graded(fraction(len(absent), len(wanted)), limits.absent),
        found=f"{share(len(wanted) - len(absent), len(wanted))} are in the store",
        allowed="all",
        meaning="Bricks of the region (its unique area, where the table says) that are missing.",
        advice="Ingest them; for a part of the sky, give a table of that part."
        if len(absent)
        else "",
        examples=tuple(map(str, absent[:EXAMPLES])),
    )


def _miscounted(found: SurveyMeasurements, table: pd.DataFrame, limits: QualityLimits) -> Check:
    name, allowed = "counts against the table", f"at most {limits.miscounted.fail:.1%} of bricks"
    meaning = "Primary objects of a brick's catalogue against the number in the survey's table."
    counted = found.measured["primary"].dropna()
    shared = counted.index.intersection(table.index)
    if "nobjs" not in table or not len(shared):
        why = "no column nobjs" if "nobjs" not in table else "no measured brick is in the table"
        return Check(name, Level.NOT_MEASURED, why, allowed, meaning)
    ours, theirs = counted[shared].to_numpy(float), table.loc[shared, "nobjs"].to_numpy(float)
    off = np.abs(ours - theirs) > limits.count_tolerance * np.maximum(theirs, 1.0)
    wrong = shared[off]
    return Check(
        name=name,
        level=graded(fraction(len(wrong), len(shared)), limits.miscounted),
        found=f"{share(len(wrong), len(shared))} differ; {ours.sum():,.0f} objects in all, "
        f"{theirs.sum():,.0f} in the table",
        allowed=allowed,
        meaning=meaning,
        advice="Compare their catalogues with the release: truncated, or of another version."
        if len(wrong)
        else "",
        examples=tuple(map(str, wrong[:EXAMPLES])),
    )
