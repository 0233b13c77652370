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
    edge : {"drop", "pad"}
        "drop": such an object gets no cutout (reason "edge"). "pad": outside the image, image and
        invvar are 0 and maskbits NPRIMARY, unless less than ``min_inside`` of the area is inside.
    min_inside : float
        Fraction of the area, used with "pad" only.
    """

    size: int = 152
    edge: Literal["drop", "pad"] = "drop"
    min_inside: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SchemaMismatch(f"cutout size {self.size}: give at least 1 pixel")
        if self.edge not in ("drop", "pad"):
            raise SchemaMismatch(f"edge policy {self.edge!r}: choose 'drop' or 'pad'")
        if not 0.0 < self.min_inside <= 1.0:
            raise SchemaMismatch(f"min_inside {self.min_inside}: give a fraction above 0, up to 1")


@dataclass(frozen=True)
class Cutouts:
    """Cutouts of objects, and the objid of those without one by reason."""

    dataset: xr.Dataset
    without: Mapping[str, tuple[int, ...]]


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
        for start, length in zip(_starts(y, x, size), image.shape[-2:], strict=True)
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

    Returns
    -------
    Cutouts
        ``dataset`` has image, invvar (object, band, y, x) float32, maskbits (object, y, x) int32,
        the object columns, catalogue (object, column) float32 and coordinates band and column, in
        the order of the table. Reasons in ``without``: "edge", and "no_data" for objects whose
        central pixel has invvar 0 in every band.
    """
    y, x = sky_to_pixel(wcs_of(coadds), table["ra"], table["dec"])
    inside = _inside_fraction(y, x, config.size, coadds["maskbits"].shape)
    required = 1.0 if config.edge == "drop" else config.min_inside
    at_edge = ~(inside >= required)
    no_data = ~at_edge & ~_has_data(coadds["invvar"].to_numpy(), y, x)
    objid = table["objid"].to_numpy()
    reasons = {"edge": at_edge, "no_data": no_data}
    without = {
        reason: tuple(int(value) for value in objid[wrong])
        for reason, wrong in reasons.items()
        if wrong.any()
    }
    keep = ~(at_edge | no_data)
    dataset = _dataset(coadds, table[keep], (y[keep], x[keep]), config.size)
    return Cutouts(dataset, without)


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


def _starts(y: float, x: float, size: int) -> tuple[int, int]:
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
