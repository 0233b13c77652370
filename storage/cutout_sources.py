"""Which sources of the object table lie within each cutout, and where in it.

The object table knows the objects that were selected and have a cutout. A source that is fainter
than the selection, or whose own cutout failed, is in the pixels of its neighbours' cutouts without
being here: a missing row does not say that there is nothing.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from storage.bricks import brick_from_id, brick_wcs
from storage.cutouts import sky_to_pixel
from storage.errors import SchemaMismatch
from storage.schema import SurveyLayout

SOURCE_COLUMNS = ("x", "y", "radius", "mag", "axis_ratio", "angle")
# Two objects of different bricks closer than this are one source, measured twice.
TWIN_ARCSEC = 1.0
FAINTEST_FLUX = 1e-3  # nanomaggy, 30 mag: a flux that is not positive has no magnitude
_NEEDED = ("ra", "dec", "bx", "by", "shape_r", "shape_e1", "shape_e2")


def sources_in_cutouts(
    objects: pd.DataFrame, layout: SurveyLayout, centres: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the sources within the cutouts of some objects.

    Parameters
    ----------
    objects : DataFrame
        The object table of the whole survey (`storage.brick_store.read_objects`), catalogue
        included: neighbours count whether they are among the `centres` or not.
    layout : SurveyLayout
        Size and pixel scale of the cutouts; bands.
    centres : ndarray, shape (object,), int64
        Places in `objects` of those whose cutouts are asked about.

    Returns
    -------
    ndarray, shape (object, source, 6), float32
        `SOURCE_COLUMNS`: x, y [pixel of the cutout, zero-based centres]; half-light radius [pixel],
        0 for point sources; AB magnitude in r, or in the last band without r, 30 where the flux is
        not positive; axis ratio, 1 for round ones; angle of the major axis from +x towards +y
        [rad], 0 to pi. The object of the cutout comes first, the others by distance. NaN rows
        fill up. Twins in two bricks (`TWIN_ARCSEC`) are one source, as the cutout's brick has it.

    Raises
    ------
    SchemaMismatch
        When the table lacks a column, or an object has no position.
    """
    missing = [name for name in (*_NEEDED, _flux_column(layout)) if name not in objects]
    if missing or not np.isfinite(objects[["ra", "dec"]].to_numpy()).all():
        raise SchemaMismatch(
            f"sources within cutouts need columns {missing or ['ra', 'dec']} for every object: "
            "ingest the survey with its tractor catalogue"
        )
    found = _neighbours(objects, layout, centres)
    shapes = _shapes(objects, layout)
    most = max((len(places) for places, _ in found), default=1)
    sources = np.full((len(centres), most, len(SOURCE_COLUMNS)), np.nan, np.float32)
    for index, (places, at) in enumerate(found):
        sources[index, : len(places), :2] = at
        sources[index, : len(places), 2:] = shapes[places]
    return sources


def _neighbours(
    objects: pd.DataFrame, layout: SurveyLayout, centres: NDArray[np.int64]
) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Return, for every cutout, the places in `objects` of its sources and their (x, y) in it."""
    sky = _unit_vectors(objects)
    tree = cKDTree(sky)
    reach = np.radians(layout.size / np.sqrt(2) * layout.pixel_scale / 3600.0)
    twins = _twins(tree, objects["brickid"].to_numpy())
    brickid = objects["brickid"].to_numpy()
    found: dict[int, tuple[NDArray[np.intp], NDArray[np.float64]]] = {}
    for brick in np.unique(brickid[centres]):
        mine = np.flatnonzero(brickid[centres] == brick)
        near = tree.query_ball_point(sky[centres[mine]], reach)
        every = np.unique(np.concatenate([np.asarray(places, int) for places in near]))
        pixel = _pixels(objects, every, int(brick))
        for index, places in zip(mine, near, strict=True):
            found[int(index)] = _inside(
                np.asarray(places, int), int(centres[index]), (every, pixel), twins, layout.size
            )
    return [found[index] for index in range(len(centres))]


def _inside(
    places: NDArray[np.intp],
    centre: int,
    known: tuple[NDArray[np.intp], NDArray[np.float64]],
    twins: dict[int, set[int]],
    size: int,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    every, pixel = known
    own = pixel[np.searchsorted(every, centre)]
    # As storage.cutouts places them: the object's nearest pixel is pixel size // 2.
    first = np.floor(own + 0.5) - size // 2
    at = pixel[np.searchsorted(every, places)] - first
    order = np.argsort(np.where(places == centre, -1.0, np.hypot(*(at - (own - first)).T)))
    places, at = places[order], at[order]
    inside = ((at >= -0.5) & (at < size - 0.5)).all(axis=1)
    kept: list[int] = []
    for index in np.flatnonzero(inside):
        if not twins.get(int(places[index]), set()) & set(places[kept].tolist()):
            kept.append(int(index))
    return places[kept], at[kept]


def _pixels(objects: pd.DataFrame, places: NDArray[np.intp], brickid: int) -> NDArray[np.float64]:
    """Return (x, y) of objects on the pixel grid of a brick, those of other bricks included.

    Offsets come from the brick's projection; where its grid begins, from its own objects: bricks
    of pretend surveys are smaller than the real ones that share their projection.
    """
    part = objects.iloc[places]
    y, x = sky_to_pixel(brick_wcs(brick_from_id(brickid)), part["ra"], part["dec"])
    projected = np.column_stack([x, y])
    measured = part[["bx", "by"]].to_numpy(np.float64)
    own = (part["brickid"] == brickid).to_numpy() & np.isfinite(measured).all(axis=1)
    if not own.any():
        return projected
    # Grids differ by halves of a pixel; what is left is the rounding of bx and by.
    shift = np.round(2 * np.median(measured[own] - projected[own], axis=0)) / 2
    return np.asarray(projected + shift)


def _twins(tree: cKDTree, brickid: NDArray[np.int32]) -> dict[int, set[int]]:
    """Return the other measurements of objects that two bricks have measured."""
    pairs = tree.query_pairs(np.radians(TWIN_ARCSEC / 3600.0), output_type="ndarray")
    pairs = pairs[brickid[pairs[:, 0]] != brickid[pairs[:, 1]]]
    twins: dict[int, set[int]] = {}
    for one, other in pairs.tolist():
        twins.setdefault(one, set()).add(other)
        twins.setdefault(other, set()).add(one)
    return twins


def _shapes(objects: pd.DataFrame, layout: SurveyLayout) -> NDArray[np.float32]:
    """Return radius, magnitude, axis ratio and angle of every object."""
    flux = np.nan_to_num(objects[_flux_column(layout)].to_numpy(np.float64))
    e1, e2 = (np.nan_to_num(objects[f"shape_e{i}"].to_numpy(np.float64)) for i in (1, 2))
    ellipticity = np.hypot(e1, e2).clip(max=0.999)
    # The catalogue counts from north through east; on the pixels north is +y and east is -x.
    angle = np.where(ellipticity > 0, 0.5 * np.arctan2(e2, e1) + np.pi / 2, 0.0) % np.pi
    columns = (
        np.nan_to_num(objects["shape_r"].to_numpy(np.float64)) / layout.pixel_scale,
        22.5 - 2.5 * np.log10(flux.clip(min=FAINTEST_FLUX)),
        (1 - ellipticity) / (1 + ellipticity),
        angle,
    )
    return np.column_stack(columns).astype(np.float32)


def _flux_column(layout: SurveyLayout) -> str:
    return f"flux_{'r' if 'r' in layout.bands else layout.bands[-1]}"


def _unit_vectors(objects: pd.DataFrame) -> NDArray[np.float64]:
    ra, dec = np.radians(objects[["ra", "dec"]].to_numpy(np.float64)).T
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
