"""Checks on what was measured of the pixels, band by band: one rule each, as data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.quality.limits import Limit, QualityLimits
from storage.quality.measurements import SurveyMeasurements
from storage.quality.results import EXAMPLES, Check, Level, fraction, graded, share

Values = NDArray[np.float64]


@dataclass(frozen=True)
class _Rule:
    """A check of one quantity in every band.

    ``wrong`` tells from values and band which bricks miss the limit, ``limit`` how many may;
    ``shown`` formats the median of the bricks.
    """

    name: str
    quantity: str
    wrong: Callable[[Values, str], NDArray[np.bool_]]
    limit: Limit
    allowed: str
    meaning: str
    advice: str
    shown: str = "{:.3g}"


def check_pixels(
    found: SurveyMeasurements, bricks_table: pd.DataFrame | None, limits: QualityLimits
) -> list[Check]:
    """Check data, masks, depth, PSF, noise and background of measured bricks.

    Parameters
    ----------
    bricks_table : DataFrame or None
        Region's table of bricks, whose depths are another opinion.
    """
    values = _values(found, bricks_table)
    rules = (*_data_rules(limits), *_depth_rules(found.bands, limits), *_noise_rules(limits))
    checks = [_apply(rule, found.bands, values) for rule in rules]
    return [*checks[:3], _masked(found, limits), *checks[3:]]


def _values(found: SurveyMeasurements, bricks_table: pd.DataFrame | None) -> pd.DataFrame:
    """Return the measured columns with those that are made of two of them."""
    values = found.measured.copy()
    table = None if bricks_table is None else bricks_table.set_index("brickname")
    for band in found.bands:
        values[f"relative_{band}"] = values[f"background_{band}"] / values[f"noise_{band}"]
        gap = (values[f"depth_{band}"] - values[f"psfdepth_{band}"]).abs()
        if table is not None and f"psfdepth_{band}" in table:
            theirs = table[f"psfdepth_{band}"].reindex(values.index)
            # The table says 0 where there is no data.
            other = (values[f"depth_{band}"] - theirs.where(theirs > 0)).abs()
            gap = pd.concat([gap, other], axis=1).max(axis=1)
        values[f"gap_{band}"] = gap
    return values


def _data_rules(limits: QualityLimits) -> tuple[_Rule, ...]:
    least = limits.with_data_least
    return (
        _Rule(
            "pixels that are numbers",
            "not_finite",
            lambda values, _: values > limits.not_finite_most,
            limits.not_finite,
            f"at most {limits.not_finite_most:.2%} of a brick's pixels are none",
            "NaN or infinite pixels get weight 0; the survey's coadds have none.",
            "Fetch the images again.",
        ),
        _Rule(
            "bands present",
            "with_data",
            lambda values, _: values <= 0,
            limits.no_band,
            f"a band is empty in at most {limits.no_band.warn:.0%} of bricks",
            "Where a band has no data at all, cutouts are 0 with invvar 0 in it.",
            "Fetch the band if the release has it; else train with bands dropped at random.",
            "{:.1%} filled",
        ),
        _Rule(
            "pixels with data",
            "with_data",
            lambda values, _: (values > 0) & (values < least),
            limits.empty_pixels,
            f"{least:.0%} of a brick, in all but {limits.empty_pixels.fail:.0%} of bricks",
            "Bricks that a band covers in part: the footprint's border, or lost exposures.",
            "Expected at the border; inside the footprint fetch the coadds again.",
            "{:.1%} filled",
        ),
    )


def _depth_rules(bands: Sequence[str], limits: QualityLimits) -> tuple[_Rule, ...]:
    depth, width = limits.depth_least, limits.psfsize_most
    return (
        _Rule(
            "depth",
            "depth",
            lambda values, band: values < (depth.of(band) or -math.inf),
            limits.shallow,
            f"{_listed(bands, depth.of)} mag, in all but {limits.shallow.fail:.0%} of bricks",
            "5-sigma depth for point sources, from the inverse variance of the pixels.",
            "Expected at the footprint's border; else look at the outliers.",
            "{:.2f} mag",
        ),
        _Rule(
            "depths agree",
            "gap",
            lambda values, _: values > limits.depth_tolerance,
            limits.depth_off,
            f"to {limits.depth_tolerance:g} mag, in all but {limits.depth_off.fail:.0%} of bricks",
            "Depth of the pixels against the catalogue's and the bricks table's, made apart.",
            "Look for invvar files of another processing, or a catalogue of another brick.",
            "{:.2f} mag apart",
        ),
        _Rule(
            "PSF width",
            "psfsize",
            lambda values, band: values > (width.of(band) or math.inf),
            limits.blurred,
            f"{_listed(bands, width.of)} arcsec, in all but {limits.blurred.fail:.0%} of bricks",
            "FWHM of the point-spread function, median over a brick.",
            "Wide PSFs blur shapes: leave these bricks out of samples for morphology.",
            "{:.2f} arcsec",
        ),
    )


def _noise_rules(limits: QualityLimits) -> tuple[_Rule, ...]:
    low, high = limits.chi_least, limits.chi_most
    return (
        _Rule(
            "noise against invvar",
            "chi",
            lambda values, _: (values < low) | (values > high),
            limits.noise_off,
            f"{low:g} to {high:g}, in all but {limits.noise_off.fail:.0%} of bricks",
            "Noise of blank pixels in units of what invvar promises; 1 is honest.",
            "Check that image and invvar are of one release and in nanomaggies.",
            "{:.2f}",
        ),
        _Rule(
            "background",
            "relative",
            lambda values, _: np.abs(values) > limits.background_most,
            limits.background_off,
            f"within {limits.background_most:g} sigma, in all but "
            f"{limits.background_off.fail:.0%} of bricks",
            "Median of unmasked pixels in units of a pixel's noise; the sky was subtracted.",
            "Expected in dense fields and around large galaxies; else look at the images.",
            "{:+.2f} sigma",
        ),
    )


def _apply(rule: _Rule, bands: Sequence[str], measured: pd.DataFrame) -> Check:
    """Grade the worst band; bands without any value are not measured."""
    told, parts, wrong_bricks = [], [], []
    for band in bands:
        column = measured[f"{rule.quantity}_{band}"].dropna()
        if not len(column):
            told.append(f"{band} not measured")
            continue
        wrong = rule.wrong(column.to_numpy(np.float64), band)
        parts.append(fraction(int(np.count_nonzero(wrong)), len(wrong)))
        wrong_bricks += [str(name) for name in column.index[wrong]][:EXAMPLES]
        middle = rule.shown.format(float(column.median()))
        told.append(f"{band} {middle}" + (f", {parts[-1]:.1%} of bricks miss" * bool(parts[-1])))
    level = graded(max(parts, default=math.nan), rule.limit)
    return Check(
        name=rule.name,
        level=level,
        found="; ".join(told),
        allowed=rule.allowed,
        meaning=rule.meaning,
        advice=rule.advice if level in (Level.WARN, Level.FAIL) else "",
        examples=tuple(dict.fromkeys(wrong_bricks))[:EXAMPLES],
    )


def _masked(found: SurveyMeasurements, limits: QualityLimits) -> Check:
    values = found.measured["bad"].dropna()
    wrong = values.index[values > limits.masked_most]
    bits = sorted(found.masked.items(), key=lambda item: -item[1])[:6]
    named = ", ".join(f"{name} {part:.2%}" for name, part in bits) or "no bit is set"
    told = (
        f"{values.mean():.2%} of pixels are bad ({named}); {share(len(wrong), len(values))} "
        f"bricks have more than {limits.masked_most:.0%}"
    )
    return Check(
        name="masked pixels",
        level=graded(fraction(len(wrong), len(values)) if len(values) else math.nan, limits.masked),
        found=told if len(values) else "no brick measured",
        allowed=f"{limits.masked_most:.0%} of a brick, in all but {limits.masked.fail:.0%}",
        meaning="Pixels near bright stars, saturated, or flagged in every exposure.",
        advice="Expected around bright stars; else look at the maskbits files."
        if len(wrong)
        else "",
        examples=tuple(map(str, wrong[:EXAMPLES])),
    )


def _listed(bands: Sequence[str], value_of: Callable[[str], float | None]) -> str:
    values = {band: value_of(band) for band in bands}
    return ", ".join(f"{band} {value:g}" for band, value in values.items() if value is not None)
