"""Checks on the object table and on a sample of what is stored."""

import math

from storage.quality.limits import QualityLimits
from storage.quality.objects import ObjectFacts, SampleFacts
from storage.quality.results import Check, Level, fraction, graded, share


def check_objects(facts: ObjectFacts, sample: SampleFacts, limits: QualityLimits) -> list[Check]:
    """Check identity and place of objects, doubles across borders, and a sample of cutouts."""
    return [
        _integrity(facts),
        _outside(facts, limits),
        _duplicates(facts, limits),
        _sampled_pixels(sample),
        _sampled_flux(sample, limits),
    ]


def _integrity(facts: ObjectFacts) -> Check:
    wrong = facts.padding + facts.repeated + facts.without_position
    return Check(
        name="objects stored",
        level=Level.FAIL if facts.padding + facts.repeated else _positions(facts),
        found=f"{facts.objects:,} objects; {facts.padding:,} missing, {facts.repeated:,} twice in "
        f"their brick, {facts.without_position:,} without a position",
        allowed="none missing, none twice",
        meaning="The object table holds what the ledger says, each object once.",
        advice="Ingest the bricks again; if it comes back, report it as a bug." if wrong else "",
    )


def _positions(facts: ObjectFacts) -> Level:
    """Return a warning when some objects have positions and others not; pictures have none."""
    some = 0 < facts.without_position < facts.objects
    return Level.WARN if some else Level.PASS


def _outside(facts: ObjectFacts, limits: QualityLimits) -> Check:
    return Check(
        name="objects in their brick",
        level=graded(fraction(facts.outside, facts.objects), limits.outside),
        found=f"{share(facts.outside, facts.objects)} outside",
        allowed=f"at most {limits.outside.fail:.2%}",
        meaning="A source belongs to the brick whose primary area it is in, and only to that.",
        advice="Select primary objects only, or look for catalogues under a wrong name."
        if facts.outside
        else "",
        examples=facts.outside_bricks,
    )


def _duplicates(facts: ObjectFacts, limits: QualityLimits) -> Check:
    pairs = "; ".join(
        f"{pair.bricknames[0]} {pair.objids[0]} and {pair.bricknames[1]} {pair.objids[1]}, "
        f"{pair.separation_arcsec:.2f} arcsec"
        for pair in facts.pairs[:3]
    )
    return Check(
        name="duplicates across borders",
        level=graded(fraction(facts.in_pairs, facts.objects), limits.duplicates),
        found=f"{share(facts.in_pairs, facts.objects)} within {limits.separation_arcsec:g} arcsec "
        f"of an object of another brick" + (f": {pairs}" if pairs else ""),
        allowed=f"at most {limits.duplicates.fail:.2%}",
        meaning="One source that two bricks both hold; few are expected right at the borders.",
        advice="Select primary objects only; drop one of each pair from samples."
        if facts.in_pairs
        else "",
        examples=tuple(dict.fromkeys(name for pair in facts.pairs for name in pair.bricknames)),
    )


def _sampled_pixels(sample: SampleFacts) -> Check:
    empty = ", ".join(f"{band} {value:.1%}" for band, value in sample.no_data.items())
    return Check(
        name="stored cutouts (sample)",
        level=Level.FAIL if sample.not_finite else _if_any(sample.cutouts),
        found=f"{sample.cutouts:,} read: {sample.not_finite:,} pixels are no numbers; without "
        f"data: {empty or '-'}",
        allowed="none that is no number",
        meaning="Cutouts read back from the store; pixels without data have invvar 0.",
        advice="Ingest again; if it comes back, report it as a bug." if sample.not_finite else "",
    )


def _sampled_flux(sample: SampleFacts, limits: QualityLimits) -> Check:
    present = {band: part for band, part in sample.flux_missing.items() if part < 1.0}
    return Check(
        name="catalogue fluxes (sample)",
        level=graded(max(present.values(), default=math.nan), limits.flux_missing),
        found=", ".join(f"{band} {part:.2%} missing" for band, part in sample.flux_missing.items())
        or "none read",
        allowed=f"at most {limits.flux_missing.fail:.1%} in a band that has any",
        meaning=f"Fluxes of {sample.objects:,} objects; a missing one is NaN.",
    )


def _if_any(number: int) -> Level:
    return Level.PASS if number else Level.NOT_MEASURED
