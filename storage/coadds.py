"""FITS coadds of one brick as labelled arrays.

Reads image, invvar and maskbits (and psfsize, nexp on request) of the asked bands, checks that they
belong to the brick and to one another, and takes weight away where a pixel is no number. It selects
no objects and cuts nothing out.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from storage.bricks import Brick
from storage.buffers import BufferPool
from storage.coadd_headers import (
    check_one_brick,
    check_projections,
    check_zero_point,
    checked_wcs,
    run_cards,
)
from storage.errors import IncompleteBrick
from storage.fits_files import Box, read_image, read_image_header
from storage.legacysurvey import BrickFiles
from storage.maskbits import standard_bits

logger = logging.getLogger(__name__)

READ_THREADS = 2  # two threads double astropy's Rice decoding on two cores (architecture.md, §0)
_ROWS_AT_A_TIME = 300  # 4 MB a piece: stays in the processor's cache
_DIMS = {
    "image": ("band", "y", "x"),
    "invvar": ("band", "y", "x"),
    "nexp": ("band", "y", "x"),
    "maskbits": ("y", "x"),
    "psfsize": ("band",),
}
_UNITS = {
    "image": "nanomaggy",
    "invvar": "1/nanomaggy^2",
    "nexp": "1",
    "maskbits": "bits",
    "psfsize": "arcsec",
}


def read_coadds(
    files: BrickFiles,
    brick: Brick,
    bands: Sequence[str],
    extras: Sequence[str] = (),
    threads: int = READ_THREADS,
    box: Box | None = None,
) -> xr.Dataset:
    """Read the coadds of a brick.

    Parameters
    ----------
    files : BrickFiles
        From `storage.legacysurvey.locate_brick_files`.
    brick : Brick
        What the files should show; their projection is checked against it.
    bands : sequence of str
        Bands of the ``band`` axis, in this order.
    extras : sequence of {"psfsize", "nexp"}
        What else to read: the median PSF width of each band, and the map of good exposures.
    threads : int
        Files decoded at a time.
    box : (slice, slice), optional
        Rows and columns to read, not more; the result is a coadd of that size.

    Returns
    -------
    Dataset
        ``image`` (band, y, x) float32 [nanomaggy], never NaN; ``invvar`` (band, y, x) float32
        [1/nanomaggy^2], 0 without data; ``maskbits`` (y, x) int32 in the bits of `MaskBit`;
        ``psfsize`` (band,) float32 [arcsec] and ``nexp`` (band, y, x) int16 if asked for.
        Attributes: ``brickname``, ``wcs`` (header text, see `wcs_of`), ``release_code`` (0 where
        the header has none), ``cards`` (`run_cards` of the first image), ``full_shape`` of the
        files, ``missing_bands``, ``with_data`` and ``not_finite`` (pixels by band), ``notes``
        (sentences for the receipt). A missing band is 0 with invvar 0.

    Raises
    ------
    IncompleteBrick
        When no asked band has both image and invvar.
    SchemaMismatch
        When shapes or projections differ, or do not show the brick.
    InconsistentBrick
        When a header names another brick.
    CorruptFile
        When a file is truncated or damaged.
    """
    present = [band for band in bands if band in files.image and band in files.invvar]
    if not present:
        raise IncompleteBrick(_nothing_to_read(files, bands))
    notes = _notes_on_files(files, bands, present)
    full_shape, _ = read_image_header(files.image[present[0]])
    absent = [index for index, band in enumerate(bands) if band not in present]
    pixels = _allocate(_shape_in(full_shape, box), bands, extras)
    for index in absent:
        pixels["image"][index], pixels["invvar"][index] = 0, 0
    jobs = _jobs(files, bands, present, extras)
    paths = [job.path for job in jobs]
    with ThreadPoolExecutor(max_workers=threads) as pool:
        headers = list(pool.map(lambda job: _read_into(pixels, job, box), jobs))
        cleaned = list(pool.map(lambda band: _clean(pixels, bands.index(band)), present))
    found = dict(zip(present, cleaned, strict=True))
    notes += [f"band {band}: {note}" for band in present for note in found[band].notes]
    notes += _finish_maskbits(pixels, jobs, headers)
    notes += check_one_brick(paths, headers, brick)
    check_projections(paths, headers)
    wcs = checked_wcs(paths[0], headers[0], brick, full_shape)
    return xr.Dataset(
        {name: (_DIMS[name], pixels[name], {"units": _UNITS[name]}) for name in pixels},
        coords={"band": list(bands)},
        attrs={
            "brickname": brick.brickname,
            "wcs": _moved(wcs, box).to_header_string(),
            "release_code": int(headers[0].get("RELEASE", headers[0].get("DRVERSIO", 0))),
            "cards": run_cards(headers[0]),
            "full_shape": full_shape,
            "missing_bands": [band for band in bands if band not in present],
            "with_data": {band: found[band].filled if band in found else 0 for band in bands},
            "not_finite": {band: found[band].not_finite if band in found else 0 for band in bands},
            "notes": notes,
        },
    )


def coadd_frame(
    files: BrickFiles, brick: Brick, bands: Sequence[str]
) -> tuple[WCS, tuple[int, int]]:
    """Return projection and shape of a brick's coadds from one header; raises as `read_coadds`."""
    present = [band for band in bands if band in files.image and band in files.invvar]
    if not present:
        raise IncompleteBrick(_nothing_to_read(files, bands))
    path = files.image[present[0]]
    shape, header = read_image_header(path)
    return checked_wcs(path, header, brick, shape), shape


def wcs_of(coadds: xr.Dataset) -> WCS:
    """Return the projection of coadds from `read_coadds`."""
    return WCS(fits.Header.fromstring(str(coadds.attrs["wcs"])))


@dataclass(frozen=True)
class _Job:
    """One file to decode: which array, and which plane of it, it fills."""

    path: Path
    kind: str
    index: int


def _jobs(
    files: BrickFiles, bands: Sequence[str], present: Sequence[str], extras: Sequence[str]
) -> list[_Job]:
    """List the files to read; the first one sets the projection."""
    jobs = [
        _Job(getattr(files, kind)[band], kind, bands.index(band))
        for kind in ("image", "invvar", *extras)
        for band in present
        if band in getattr(files, kind)
    ]
    mask = [_Job(files.maskbits, "maskbits", 0)] if files.maskbits else []
    return [jobs[0], *mask, *jobs[1:]]


def _allocate(
    shape: tuple[int, int], bands: Sequence[str], extras: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Make the arrays; image and invvar are uninitialised, files fill them."""
    cube = (len(bands), *shape)
    pixels: dict[str, NDArray[Any]] = _pool(shape).take(len(bands))
    pixels["maskbits"] = np.zeros(shape, np.int32)
    if "nexp" in extras:
        pixels["nexp"] = np.zeros(cube, np.int16)
    if "psfsize" in extras:
        pixels["psfsize"] = np.full(len(bands), np.nan, np.float32)
    return pixels


@lru_cache(maxsize=1)
def _pool(shape: tuple[int, int]) -> BufferPool:
    """Return the memory of the last brick, where that is free and bricks have one shape.

    The 311 MB of a brick's three bands are used again for the next one: to have them zeroed by the
    system costs a process half as long as it takes to decode the files.
    """
    return BufferPool({name: (shape, np.dtype(np.float32)) for name in ("image", "invvar")})


def _read_into(pixels: dict[str, NDArray[Any]], job: _Job, box: Box | None) -> fits.Header:
    if job.kind == "psfsize":
        data, header = read_image(job.path)
        if (data > 0).any():
            pixels["psfsize"][job.index] = np.median(data[data > 0])
        return header
    if job.kind == "maskbits":
        return read_image(job.path, "MASKBITS", pixels["maskbits"], box)[1]
    _, header = read_image(job.path, None, pixels[job.kind][job.index], box)
    if job.kind == "image":
        check_zero_point(job.path, header)
    return header


def _shape_in(full: tuple[int, int], box: Box | None) -> tuple[int, int]:
    if box is None:
        return full
    rows, columns = (
        len(range(*part.indices(length))) for part, length in zip(box, full, strict=True)
    )
    return rows, columns


def _moved(wcs: WCS, box: Box | None) -> WCS:
    """Return the projection of what is read: a box does not start at the first pixel."""
    if box is not None:
        wcs.wcs.crpix = wcs.wcs.crpix - np.array([box[1].start, box[0].start])
    return wcs


@dataclass(frozen=True)
class _Cleaned:
    """Pixels of a band with weight, and those that were no numbers."""

    filled: int
    not_finite: int
    notes: tuple[str, ...]


def _clean(pixels: dict[str, NDArray[Any]], index: int) -> _Cleaned:
    """Take the weight of pixels that are no numbers, in place."""
    not_finite = negative = filled = 0
    image, invvar = pixels["image"][index], pixels["invvar"][index]
    for row in range(0, len(image), _ROWS_AT_A_TIME):
        values, weights = image[row : row + _ROWS_AT_A_TIME], invvar[row : row + _ROWS_AT_A_TIME]
        if not (_all_finite(values) and _all_finite(weights)):
            bad = ~(np.isfinite(values) & np.isfinite(weights))
            not_finite += int(np.count_nonzero(bad))
            values[bad] = 0
            weights[bad] = 0
        if weights.min() < 0:
            negative += int(np.count_nonzero(weights < 0))
            np.maximum(weights, 0, out=weights)
        filled += int(np.count_nonzero(weights))
    notes = []
    if not_finite:
        notes.append(f"{not_finite} pixels not finite, set to 0 with invvar 0")
    if negative:
        notes.append(f"{negative} negative weights set to 0")
    if filled < 0.99 * image.size:
        notes.append(f"{filled / image.size:.1%} of the pixels have data")
    return _Cleaned(filled, not_finite, tuple(notes))


def _all_finite(values: NDArray[np.float32]) -> bool:
    """Look at the sum alone: one pass without scratch memory. May err on the careful side."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(values.sum()))


def _finish_maskbits(
    pixels: dict[str, NDArray[Any]], jobs: Sequence[_Job], headers: Sequence[fits.Header]
) -> list[str]:
    """Bring mask bits to the standard ones, in place; return what to note."""
    for job, header in zip(jobs, headers, strict=True):
        if job.kind == "maskbits":
            pixels["maskbits"], unknown = standard_bits(pixels["maskbits"], header)
            names = ", ".join(unknown)
            return [f"maskbits: bits without a name here are dropped: {names}"] if unknown else []
    return ["no maskbits file: every pixel counts as unmasked"]


def _nothing_to_read(files: BrickFiles, bands: Sequence[str]) -> str:
    return (
        f"brick {files.brickname} under {files.base}: no band of {', '.join(bands)} has both image "
        f"and invvar (images: {', '.join(files.image) or 'none'}; "
        f"invvar: {', '.join(files.invvar) or 'none'}); fetch the coadds or ask for other bands"
    )


def _notes_on_files(files: BrickFiles, bands: Sequence[str], present: list[str]) -> list[str]:
    notes = []
    for band in bands:
        if band not in present:
            kind = "image" if band not in files.image else "invvar"
            notes.append(f"band {band}: no {kind} file, filled with 0 and invvar 0")
    return notes
