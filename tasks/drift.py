"""Drift as a step: compare embeddings of two surveys or snapshots, and of bricks with the rest."""

import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from storage.drift.brick_shifts import QUANTITIES, BrickMeans, BrickShifts
from storage.drift.counterparts import Counterparts, find_counterparts
from storage.drift.documents import DriftReport, html_report, markdown_report, verdict
from storage.drift.two_sample import Difference, DriftLimits, compare
from storage.embedding_store import read_embeddings
from storage.quality.measurements import read_measurements
from storage.search.objects import objects_at
from storage.search.vectors import iterate_vectors, sample_vectors
from tasks.embedded import EmbeddedSurvey, open_embedded, report_path
from tasks.references import EmbeddingsRef, EncoderRef, Reference
from tasks.settings import Settings
from tasks.whole_files import whole_file

DIRECTIONS_SAMPLE = 20_000  # objects that the principal directions of a survey are found from


class DriftRef(Reference):
    """What was found, and where the report is; `difference` is empty without a second side."""

    first: EmbeddingsRef
    second: EmbeddingsRef | None
    alarm: bool
    verdict: str
    difference: dict[str, Any]
    counterparts: dict[str, float]
    outliers: tuple[str, ...]
    path: str


@task(name="measure-drift", cache_policy=NO_CACHE)
def measure_drift(
    settings: Settings,
    encoder: EncoderRef,
    first: str,
    second: str = "",
    limits: DriftLimits | None = None,
) -> DriftRef:
    """Compare two surveys or snapshots, and the bricks of the first; write and show a report.

    Parameters
    ----------
    first, second : str
        `<release>/<region>`, with `@<tag or snapshot id>` for another than the newest snapshot.
        Without a second, only bricks are compared.
    """
    chosen = limits or DriftLimits()
    one = open_side(settings, encoder, first)
    other = open_side(settings, encoder, second) if second else None
    report = drift_report((first, second), one, other, chosen)
    path = _publish(settings, report)
    return DriftRef(
        first=one.embeddings,
        second=other.embeddings if other else None,
        alarm=report.alarm,
        verdict=verdict(report),
        difference=_as_json(report.difference) if report.difference else {},
        counterparts=asdict(report.counterparts) if report.counterparts else {},
        outliers=tuple(map(str, report.shifts.outliers.index)),
        path=str(path),
    )


def drift_report(
    names: tuple[str, str], one: EmbeddedSurvey, other: EmbeddedSurvey | None, limits: DriftLimits
) -> DriftReport:
    """Compare what is open, and publish nothing.

    Parameters
    ----------
    names : tuple of str
        Of the two sides, the second empty where there is none.

    Raises
    ------
    SchemaMismatch
        If a side has too few objects to say anything.
    """
    measured = _measured(one)
    return DriftReport(
        first=names[0],
        second=names[1],
        encoder=one.embeddings.encoder_digest,
        limits=limits,
        difference=_difference(one, other, limits) if other else None,
        counterparts=_counterparts(one, other, limits) if other else None,
        shifts=_shifts(one, measured, limits.seed),
        measured=measured,
        notes=tuple(_notes(one, names[0]) + (_notes(other, names[1]) if other else [])),
    )


def open_side(settings: Settings, encoder: EncoderRef, name: str) -> EmbeddedSurvey:
    """Open the survey that a user names, as `dr10/south` or `dr10/south@dr10-south-0001`."""
    survey, _, moment = name.partition("@")
    # Ids of snapshots are 20 capital letters and digits, which the names of ours never are.
    is_id = re.fullmatch(r"[0-9A-Z]{20}", moment) is not None
    return open_embedded(
        settings,
        survey,
        encoder,
        moment if is_id else None,
        moment if moment and not is_id else None,
    )


def _difference(one: EmbeddedSurvey, other: EmbeddedSurvey, limits: DriftLimits) -> Difference:
    (first, first_bricks), (second, second_bricks) = (
        _sample(side, limits) for side in (one, other)
    )
    return compare(first, second, (first_bricks, second_bricks), limits)


def _sample(
    side: EmbeddedSurvey, limits: DriftLimits
) -> tuple[npt.NDArray[np.float16], npt.NDArray[Any]]:
    rows, vectors = sample_vectors(side.vectors, side.rows, limits.sample, limits.seed)
    brick = np.searchsorted(side.rows.starts, rows, side="right") - 1
    return vectors, side.rows.bricknames[brick]


def _counterparts(
    one: EmbeddedSurvey, other: EmbeddedSurvey, limits: DriftLimits
) -> Counterparts | None:
    """Compare objects that both sides have, by brick and objid: releases may differ."""
    key = ["brickid", "objid"]
    rows, vectors = sample_vectors(one.vectors, one.rows, limits.sample, limits.seed)
    mine = objects_at(one.session, one.snapshot.survey, rows)[key].assign(
        place=np.arange(len(rows))
    )
    sampled = np.unique(np.searchsorted(one.rows.starts, rows, side="right") - 1)
    bricks = np.isin(other.rows.bricknames, one.rows.bricknames[sampled])
    starts, counts = other.rows.starts[bricks], other.rows.counts[bricks]
    spans = [np.arange(a, a + n) for a, n in zip(starts, counts, strict=True)]
    theirs_rows = np.concatenate([*spans, np.empty(0, np.int64)])
    theirs = objects_at(other.session, other.snapshot.survey, theirs_rows)[[*key, "row"]]
    both = mine.merge(theirs, on=key)
    if len(both) < 2:
        return None
    found, _ = read_embeddings(other.vectors, other.rows.group, both["row"].to_numpy())
    return find_counterparts(vectors[both["place"].to_numpy()], found)


def _shifts(side: EmbeddedSurvey, measured: pd.DataFrame, seed: int) -> BrickShifts:
    _, sample = sample_vectors(side.vectors, side.rows, DIRECTIONS_SAMPLE, seed)
    means = BrickMeans(side.rows, sample)
    means.add(iterate_vectors(side.vectors, side.rows))
    return means.shifts(measured)


def _measured(side: EmbeddedSurvey) -> pd.DataFrame:
    """Return seeing and depth of the bricks, by band, from their receipts."""
    found = read_measurements(side.session, side.snapshot.survey)
    names = [f"{quantity}_{band}" for quantity in QUANTITIES for band in found.bands]
    return found.bricks[[name for name in names if name in found.bricks]]


def _as_json(difference: Difference) -> dict[str, Any]:
    return asdict(difference) | {"objects": list(difference.objects)}


def _notes(side: EmbeddedSurvey, name: str) -> list[str]:
    if not side.rows.left_out:
        return []
    return [f"{side.rows.left_out} bricks of {name} have no embeddings of their present pixels"]


def _publish(settings: Settings, report: DriftReport) -> Path:
    sides = "-".join(filter(None, (report.first, report.second)))
    slug = re.sub(r"[^A-Za-z0-9-]+", "-", sides)
    path = report_path(settings, "drift", slug, ".html")
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    with whole_file(path) as partial:
        partial.write_text(html_report(report, made=made), encoding="utf-8")
    create_markdown_artifact(
        f"{markdown_report(report)}\nWith pictures: `{path}`\n",
        key=f"drift-{slug.lower()}",
        description=verdict(report),
    )
    return path
