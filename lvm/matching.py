"""Found sources against known ones: who is whose partner, completeness, purity, F1, precision.

Numpy only. A field has found sources with scores, and known ones of which some are *required*; the
others (too faint, at the edge, under a mask) are ignored: finding them is neither right nor wrong.

The measures, at a threshold on the score
-----------------------------------------
completeness : share of the required sources that have a partner
purity : share of the found sources that have one; those that only fit an ignored source, or lie
    outside the judged area, are left out of the count
f1 : 2 true / (2 true + false + missed), the share of all statements (a source that is found, a
    source that is required) that are right
Partners are one to one: by decreasing score, each found source takes the closest required source
that is still free and close enough. Lowering the threshold therefore never changes a partner.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

FALSE, IGNORED = -1, -2  # in place of a partner


@dataclass(frozen=True)
class Found:
    """Found sources of one field.

    Parameters
    ----------
    places : (source, 4) float: x, y, half width, half height of the box [pixel]
    score : (source,) float, any monotonic measure of belief
    judged : (source,) bool; False: outside the area in which the truth is known
    """

    places: Array
    score: Array
    judged: Array


@dataclass(frozen=True)
class Known:
    """Known sources of one field: places as in `Found`; required (source,) bool."""

    places: Array
    required: Array


@dataclass(frozen=True)
class Matches:
    """Outcomes over many fields.

    Parameters
    ----------
    score, right, found_field : (found source,) float, bool and int64, without ignored ones, in no
        particular order; the last is the index of the field
    found_at : (required source,) float, score of its partner, -inf without one
    separation : (required source,) float, distance to its partner [pixel], NaN without one
    field : (required source,) int64, index of its field
    source : (required source,) int64, index among the known sources of its field
    """

    score: Array
    right: Array
    found_field: Array
    found_at: Array
    separation: Array
    field: Array
    source: Array


def distances(found: Array, known: Array) -> Array:
    """Return distances (found, known) [pixel] between the centres of places."""
    difference = found[:, None, :2] - known[None, :, :2]
    return np.asarray(np.hypot(difference[..., 0], difference[..., 1]))


def overlaps(found: Array, known: Array) -> Array:
    """Return intersection over union (found, known) of the boxes of places."""
    low = np.maximum(
        found[:, None, :2] - found[:, None, 2:4], known[None, :, :2] - known[None, :, 2:4]
    )
    high = np.minimum(
        found[:, None, :2] + found[:, None, 2:4], known[None, :, :2] + known[None, :, 2:4]
    )
    shared = np.clip(high - low, 0.0, None).prod(axis=-1)
    areas = [4.0 * places[:, 2:4].prod(axis=-1) for places in (found, known)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.asarray(shared / np.maximum(union, 1e-12))


def partners(closeness: Array, limit: float, found: Found, known: Known) -> Array:
    """Return the index of the partner of each found source, or FALSE or IGNORED.

    Parameters
    ----------
    closeness : (found, known) float, larger is closer
    limit : the least that makes partners
    """
    result = np.full(len(found.score), FALSE, dtype=np.int64)
    free = known.required.copy()
    for index in np.argsort(-found.score, kind="stable"):
        near = np.where(free, closeness[index], -np.inf)
        best = int(near.argmax()) if near.size else 0
        if near.size and near[best] >= limit:
            result[index] = best
            free[best] = False
        elif not found.judged[index] or (closeness[index][~known.required] >= limit).any():
            result[index] = IGNORED
    return result


def match_by_distance(fields: Iterable[tuple[Found, Known]], radius: float) -> Matches:
    """Match the centres of every field within `radius` [pixel]."""
    return _match(fields, -radius, lambda found, known: -distances(found, known))


def match_by_overlap(fields: Iterable[tuple[Found, Known]], least: float = 0.5) -> Matches:
    """Match the boxes of every field that share at least `least` of their union."""
    return _match(fields, least, overlaps)


def _match(fields: Iterable[tuple[Found, Known]], limit: float, closeness_of: Any) -> Matches:
    parts: list[tuple[Array, ...]] = []
    for index, (found, known) in enumerate(fields):
        mine = partners(closeness_of(found.places, known.places), limit, found, known)
        counted = mine != IGNORED
        at = np.full(len(known.required), -np.inf)
        apart = np.full(len(known.required), np.nan)
        true = np.flatnonzero(mine >= 0)
        at[mine[true]] = found.score[true]
        apart[mine[true]] = distances(found.places, known.places)[true, mine[true]]
        wanted = np.flatnonzero(known.required)
        parts.append(
            (
                found.score[counted],
                mine[counted] >= 0,
                np.full(int(counted.sum()), index, dtype=np.int64),
                at[wanted],
                apart[wanted],
                np.full(len(wanted), index, dtype=np.int64),
                wanted,
            )
        )
    if not parts:
        raise ValueError("no field to match")
    return Matches(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def completeness(matches: Matches, threshold: float) -> float:
    """Return the share of the required sources that are found; NaN when none is required."""
    return _share(_hit(matches, threshold))


def purity(matches: Matches, threshold: float) -> float:
    """Return the share of the found sources that are right; NaN when none is found."""
    return _share(matches.right[matches.score >= threshold])


def f1(matches: Matches, threshold: float) -> float:
    """Return the share of right statements; NaN where nothing is required and nothing found."""
    found = matches.score >= threshold
    true = int(matches.right[found].sum())
    statements = int(found.sum()) + len(matches.found_at)
    return 2.0 * true / statements if statements else float("nan")


def best_threshold(matches: Matches) -> float:
    """Return the score at which F1 is largest: half-way to the next score below it."""
    order = np.argsort(-matches.score, kind="stable")
    score, true = matches.score[order], np.cumsum(matches.right[order])
    if not len(score) or not len(matches.found_at):
        raise ValueError("nothing was found, or nothing is required: no threshold can be chosen")
    value = 2.0 * true / (np.arange(1, len(score) + 1) + len(matches.found_at))
    value[:-1][score[1:] == score[:-1]] = -1.0  # a threshold cannot part equal scores
    best = int(value.argmax())
    below = score[best + 1] if best + 1 < len(score) else score[best]
    return float(0.5 * (score[best] + below))


def average_precision(matches: Matches) -> float:
    """Return the area under purity over completeness, purity made monotonic; NaN without truth."""
    if not len(matches.found_at):
        return float("nan")
    order = np.argsort(-matches.score, kind="stable")
    true = np.cumsum(matches.right[order])
    precise = true / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precise[::-1])[::-1]
    steps = np.diff(np.concatenate([[0], true])) / len(matches.found_at)
    return float((steps * envelope).sum())


def curve(matches: Matches, points: int = 100) -> tuple[Array, Array]:
    """Return completeness and purity (point,) at thresholds through the scores, high to low."""
    if not len(matches.score):
        return np.zeros(0), np.zeros(0)
    thresholds = np.quantile(matches.score, np.linspace(1.0, 0.0, points))
    return (
        np.array([completeness(matches, value) for value in thresholds]),
        np.array([purity(matches, value) for value in thresholds]),
    )


def completeness_in_bins(
    matches: Matches, values: Array, edges: Sequence[float], threshold: float
) -> tuple[Array, Array]:
    """Return completeness and number of the required sources (bin,) by a property of theirs.

    Parameters
    ----------
    values : (required source,) float; NaN is in no bin
    edges : of the bins, ascending; the upper edge belongs to the next bin
    """
    place = np.digitize(values, edges) - 1
    hit = _hit(matches, threshold)
    bins = [(place == index) & np.isfinite(values) for index in range(len(edges) - 1)]
    return (
        np.array([_share(hit[chosen]) for chosen in bins]),
        np.array([int(chosen.sum()) for chosen in bins]),
    )


def nearest_neighbour(places: Array) -> Array:
    """Return the distance (source,) from each place to the nearest other one; inf when alone."""
    apart = distances(places, places)
    np.fill_diagonal(apart, np.inf)
    return np.asarray(apart.min(axis=1, initial=np.inf))


def _hit(matches: Matches, threshold: float) -> Array:
    return np.asarray((matches.found_at >= threshold) & np.isfinite(matches.found_at))


def _share(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")
