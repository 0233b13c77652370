"""Cutouts around objects, and the only conversion between sky and pixels.

Pixels are zero-based centres in the order (y, x): the centre of the first pixel is (0, 0). The
object is in pixel (size // 2, size // 2) of its cutout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from storage.coadds import wcs_of
from storage.errors import SchemaMismatch
from storage.maskbits import MaskBit
from storage.schema import catalogue_columns

_OBJECT_DTYPES = {
    "release": np.int32,
    "brickid": np.int32,
    "objid": np.int64,
    "ra": np.float64,
    "dec": np.float64,
    "type": np.uint8,
}


@dataclass(frozen=True)
class CutoutConfig:
    """Size of a cutout and what to do where it leaves the image.

    Parameters
    ----------
    size : int
        Side [pixel].
    edge : {"stitch", "drop", "pad"}
        "stitch": what is outside comes from neighbouring bricks (`storage.stitching`); where they
        are not there, no cutout. "drop": such an object gets no cutout (reason "edge"). "pad":
        outside the image, image and invvar are 0 and maskbits NPRIMARY, unless less than
        ``min_inside`` of the area is inside.
    min_inside : float
        Fraction of the area, used with "pad" only.
    """

    size: int = 152
    edge: Literal["stitch", "drop", "pad"] = "stitch"
    min_inside: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SchemaMismatch(f"cutout size {self.size}: give at least 1 pixel")
        if self.edge not in ("stitch", "drop", "pad"):
            raise SchemaMismatch(f"edge policy {self.edge!r}: choose 'stitch', 'drop' or 'pad'")
        if not 0.0 < self.min_inside <= 1.0:
            raise SchemaMismatch(f"min_inside {self.min_inside}: give a fraction above 0, up to 1")


@dataclass(frozen=True)
class Cutouts:
    """Cutouts of objects, and the objid of those without one by reason."""

    dataset: xr.Dataset
    without: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Places:
    """Where objects are on coadds.

    Parameters
    ----------
    y, x : ndarray, shape (object,), float64
        Zero-based position [pixel]; NaN without one.
    inside : ndarray, shape (object,), float64
        Fraction of the cutout's area that is on the image.
    on_image, has_data : ndarray, shape (object,), bool
        Whether the nearest pixel is on the image, and has weight in any band.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    inside: NDArray[np.float64]
    on_image: NDArray[np.bool_]
    has_data: NDArray[np.bool_]


def sky_to_pixel(
    wcs: WCS, ra: ArrayLike, dec: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert sky [deg] to zero-based pixel centres ``(y, x)``."""
    x, y = wcs.all_world2pix(np.asarray(ra, np.float64), np.asarray(dec, np.float64), 0)
    return np.asarray(y, np.float64), np.asarray(x, np.float64)


def pixel_to_sky(
    wcs: WCS, y: ArrayLike, x: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert zero-based pixel centres to sky ``(ra, dec)`` [deg]."""
    ra, dec = wcs.all_pix2world(np.asarray(x, np.float64), np.asarray(y, np.float64), 0)
    return np.asarray(ra, np.float64), np.asarray(dec, np.float64)


def cutout(image: NDArray[Any], y: float, x: float, size: int, fill: float = 0) -> NDArray[Any]:
    """Cut a square around a position; what is outside the image gets ``fill``.

    Parameters
    ----------
    image : ndarray, shape (..., y, x)
    y, x : float
        Zero-based position; its nearest pixel becomes pixel (size // 2, size // 2).
    size : int
    fill : float

    Returns
    -------
    ndarray, shape (..., size, size), dtype of ``image``
        A copy.
    """
    out = np.full((*image.shape[:-2], size, size), fill, image.dtype)
    rows, columns = (
        _overlap(start, size, length)
        for start, length in zip(first_pixel(y, x, size), image.shape[-2:], strict=True)
    )
    out[..., rows[1], columns[1]] = image[..., rows[0], columns[0]]
    return out


def cutout_objects(coadds: xr.Dataset, table: pd.DataFrame, config: CutoutConfig) -> Cutouts:
    """Cut every object of a table out of the coadds of its brick.

    Parameters
    ----------
    coadds : Dataset
        From `storage.coadds.read_coadds`.
    table : DataFrame
        With the object and catalogue columns of `storage.schema`.
    config : CutoutConfig
        "stitch" is "drop" here, where nothing is known of neighbours; see `storage.stitching`.

    Returns
    -------
    Cutouts
        ``dataset`` is what `cut_places` gives. Reasons in ``without``: "edge", and "no_data" for
        objects whose central pixel has invvar 0 in every band.
    """
    places = place_objects(coadds, table, config.size)
    required = config.min_inside if config.edge == "pad" else 1.0
    at_edge = ~(places.inside >= required)
    no_data = ~at_edge & ~places.has_data
    without = objids_by_reason(table, {"edge": at_edge, "no_data": no_data})
    return Cutouts(cut_places(coadds, table, places, ~(at_edge | no_data), config.size), without)


def place_objects(coadds: xr.Dataset, table: pd.DataFrame, size: int) -> Places:
    """Find the objects of a table on coadds, for cutouts of ``size`` pixels."""
    y, x = sky_to_pixel(wcs_of(coadds), table["ra"], table["dec"])
    shape = coadds["maskbits"].shape
    on_image = np.ones(len(y), bool)
    for position, length in zip((y, x), shape, strict=True):
        on_image &= (position >= -0.5) & (position < length - 0.5)
    inside = _inside_fraction(y, x, size, shape)
    return Places(y, x, inside, on_image, _has_data(coadds["invvar"].to_numpy(), y, x))


def objids_by_reason(
    table: pd.DataFrame, reasons: Mapping[str, NDArray[np.bool_]]
) -> dict[str, tuple[int, ...]]:
    """Return the objid of the rows of each reason; reasons without a row are left out."""
    objid = table["objid"].to_numpy()
    return {
        reason: tuple(int(value) for value in objid[rows])
        for reason, rows in reasons.items()
        if rows.any()
    }


def cut_places(
    coadds: xr.Dataset, table: pd.DataFrame, places: Places, keep: NDArray[np.bool_], size: int
) -> xr.Dataset:
    """Cut the rows ``keep`` of a table; outside the image, pixels are 0 and maskbits NPRIMARY.

    Returns
    -------
    Dataset
        image, invvar (object, band, y, x) float32, maskbits (object, y, x) int32, the object
        columns, catalogue (object, column) float32 and coordinates band and column, in the order of
        the table.
    """
    return _dataset(coadds, table[keep], (places.y[keep], places.x[keep]), size)


def _dataset(
    coadds: xr.Dataset,
    table: pd.DataFrame,
    position: tuple[NDArray[np.float64], NDArray[np.float64]],
    size: int,
) -> xr.Dataset:
    bands = [str(band) for band in coadds["band"].values]
    columns = catalogue_columns(bands)
    values = table.reindex(columns=columns).to_numpy(np.float32, copy=True)
    for name, pixel in zip(("by", "bx"), position, strict=True):
        column = values[:, columns.index(name)]
        column[np.isnan(column)] = pixel[np.isnan(column)]
    cube, plane = ("object", "band", "y", "x"), ("object", "y", "x")
    pixels = {
        "image": (cube, _stack(coadds["image"].to_numpy(), *position, size, 0)),
        "invvar": (cube, _stack(coadds["invvar"].to_numpy(), *position, size, 0)),
        "maskbits": (
            plane,
            _stack(coadds["maskbits"].to_numpy(), *position, size, int(MaskBit.NPRIMARY)),
        ),
    }
    objects = {
        name: ("object", table[name].to_numpy().astype(dtype))
        for name, dtype in _OBJECT_DTYPES.items()
    }
    return xr.Dataset(
        {**pixels, **objects, "catalogue": (("object", "column"), values)},
        coords={"band": bands, "column": list(columns)},
        attrs={"brickname": coadds.attrs["brickname"]},
    )


def _stack(
    image: NDArray[Any], y: NDArray[np.float64], x: NDArray[np.float64], size: int, fill: int
) -> NDArray[Any]:
    out = np.empty((len(y), *image.shape[:-2], size, size), image.dtype)
    for index in range(len(y)):
        out[index] = cutout(image, float(y[index]), float(x[index]), size, fill)
    return out


def first_pixel(y: float, x: float, size: int) -> tuple[int, int]:
    """Return the image pixel of a cutout's first pixel: nearest pixel, halves up."""
    return int(np.floor(y + 0.5)) - size // 2, int(np.floor(x + 0.5)) - size // 2


def _overlap(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Return what an axis of the image and of the cutout have in common."""
    low, high = max(start, 0), min(start + size, length)
    high = max(high, low)
    return slice(low, high), slice(low - start, high - start)


def _inside_fraction(
    y: NDArray[np.float64], x: NDArray[np.float64], size: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the fraction of each cutout's area inside the image; 0 without a position."""
    fraction = np.ones(len(y))
    for position, length in zip((y, x), shape, strict=True):
        start = np.floor(np.nan_to_num(position, nan=-1e9) + 0.5) - size // 2
        covered = np.minimum(start + size, length) - np.maximum(start, 0)
        fraction *= np.clip(covered, 0, None) / size
    return fraction


def _has_data(
    invvar: NDArray[np.float32], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.bool_]:
    rows = np.clip(np.floor(np.nan_to_num(y) + 0.5), 0, invvar.shape[1] - 1).astype(int)
    columns = np.clip(np.floor(np.nan_to_num(x) + 0.5), 0, invvar.shape[2] - 1).astype(int)
    return np.asarray((invvar[:, rows, columns] > 0).any(axis=0), bool)
