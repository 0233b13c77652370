"""Bricks that stand out from the others, by robust z-scores of what was measured of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from storage.quality.limits import QualityLimits
from storage.quality.measurements import SurveyMeasurements
from storage.quality.results import EXAMPLES, Check, Level, Outlier, fraction, graded, share

OUTLIERS_SHOWN = 50
_LEAST_BRICKS = 10  # fewer give no spread to stand out from
_SIGMA_PER_MAD = 1.4826  # of a normal distribution
# A smaller spread is none: bricks of one night are alike to a few hundredths of a magnitude.
_LEAST_SPREAD = {"depth": 0.05, "psfsize": 0.05, "chi": 0.03, "background": 0.05, "objects": 0.1}


def find_outliers(
    found: SurveyMeasurements, limits: QualityLimits
) -> tuple[Check, tuple[Outlier, ...]]:
    """Return the check on outliers and the `OUTLIERS_SHOWN` furthest of them."""
    measured = found.measured
    outliers: list[Outlier] = []
    for quantity, values in _quantities(measured, found.bands).items():
        outliers += _outliers_in(quantity, values, limits.outlier_sigmas)
    outliers.sort(key=lambda outlier: -abs(outlier.sigmas))
    names = tuple(dict.fromkeys(outlier.brickname for outlier in outliers))
    level, told = graded(fraction(len(names), len(measured)), limits.outliers), ""
    if len(measured) < _LEAST_BRICKS:
        level, told = Level.NOT_MEASURED, f"{len(measured)} measured bricks are too few to compare"
    check = Check(
        name="outliers",
        level=level,
        found=told or f"{share(len(names), len(measured))} beyond {limits.outlier_sigmas:g} sigma",
        allowed=f"at most {limits.outliers.fail:.0%} of bricks",
        meaning="Bricks unlike the others in depth, PSF, noise, background or density of objects.",
        advice="Look at the table of outliers, and at the pixels of those bricks." if names else "",
        examples=names[:EXAMPLES],
    )
    return check, tuple(outliers[:OUTLIERS_SHOWN])


def _quantities(measured: pd.DataFrame, bands: Sequence[str]) -> dict[str, pd.Series]:
    """Return what bricks are compared in: nothing that depends on how much of them is filled."""
    values: dict[str, pd.Series] = {}
    for band in bands:
        for name in ("depth", "psfsize", "chi"):
            values[f"{name} {band}"] = measured[f"{name}_{band}"]
        values[f"background {band}"] = measured[f"background_{band}"] / measured[f"noise_{band}"]
    filled = measured[[f"with_data_{band}" for band in bands]].max(axis=1)
    density = measured["primary"] / (measured["area"] * filled)
    values["objects"] = np.log10(density.where(density > 0))
    return values


def _outliers_in(quantity: str, values: pd.Series, sigmas: float) -> list[Outlier]:
    values = values.astype(float).dropna()
    if len(values) < _LEAST_BRICKS:
        return []
    middle = float(values.median())
    spread = _SIGMA_PER_MAD * float((values - middle).abs().median())
    scores = (values - middle) / max(spread, _LEAST_SPREAD[quantity.partition(" ")[0]])
    logarithmic = quantity == "objects"
    beyond = np.flatnonzero(scores.abs() > sigmas)
    return [
        Outlier(
            brickname=str(values.index[place]),
            quantity="objects per deg²" if logarithmic else quantity,
            value=float(10 ** values.iloc[place]) if logarithmic else float(values.iloc[place]),
            median=10**middle if logarithmic else middle,
            sigmas=float(scores.iloc[place]),
        )
        for place in beyond.tolist()
    ]
