"""FITS coadds of one brick as labelled arrays.

Reads image, invvar and maskbits (and psfsize, nexp on request) of the asked bands, checks that they
belong to the brick and to one another, and takes weight away where a pixel is no number. It selects
no objects and cuts nothing out.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from storage.bricks import Brick, brick_wcs
from storage.errors import IncompleteBrick, SchemaMismatch
from storage.fits_files import image_shape, read_image
from storage.legacysurvey import (
    AB_ZERO_POINT,
    BRICK_SIZE_PIXELS,
    PIXEL_SCALE_ARCSEC,
    BrickFiles,
)
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
_WCS_KEYS = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")


def read_coadds(
    files: BrickFiles,
    brick: Brick,
    bands: Sequence[str],
    extras: Sequence[str] = (),
    threads: int = READ_THREADS,
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

    Returns
    -------
    Dataset
        ``image`` (band, y, x) float32 [nanomaggy], never NaN; ``invvar`` (band, y, x) float32
        [1/nanomaggy^2], 0 without data; ``maskbits`` (y, x) int32 in the bits of `MaskBit`;
        ``psfsize`` (band,) float32 [arcsec] and ``nexp`` (band, y, x) int16 if asked for.
        Attributes: ``brickname``, ``wcs`` (header text, see `wcs_of`), ``release_code`` (0 where
        the header has none), ``missing_bands``, ``notes`` (sentences for the receipt). A missing
        band is 0 with invvar 0.

    Raises
    ------
    IncompleteBrick
        When no asked band has both image and invvar.
    SchemaMismatch
        When shapes or projections differ, or do not show the brick.
    CorruptFile
        When a file is truncated or damaged.
    """
    present = [band for band in bands if band in files.image and band in files.invvar]
    if not present:
        raise IncompleteBrick(_nothing_to_read(files, bands))
    notes = _notes_on_files(files, bands, present)
    pixels = _allocate(image_shape(files.image[present[0]]), bands, extras)
    jobs = _jobs(files, bands, present, extras)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        headers = list(pool.map(lambda job: _read_into(pixels, job), jobs))
        indices = [bands.index(band) for band in present]
        cleaned = list(pool.map(lambda index: _clean(pixels, index), indices))
    notes += [
        f"band {band}: {note}"
        for band, found in zip(present, cleaned, strict=True)
        for note in found
    ]
    notes += _finish_maskbits(pixels, jobs, headers)
    _check_projections(jobs, headers)
    wcs = _checked_wcs(jobs[0].path, headers[0], brick, pixels["image"].shape[1:])
    return xr.Dataset(
        {name: (_DIMS[name], pixels[name], {"units": _UNITS[name]}) for name in pixels},
        coords={"band": list(bands)},
        attrs={
            "brickname": brick.brickname,
            "wcs": wcs.to_header_string(),
            "release_code": int(headers[0].get("RELEASE", headers[0].get("DRVERSIO", 0))),
            "missing_bands": [band for band in bands if band not in present],
            "notes": notes,
        },
    )


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
    """Make the arrays; zeros that nothing touches cost no memory."""
    cube = (len(bands), *shape)
    pixels: dict[str, NDArray[Any]] = {
        "image": np.zeros(cube, np.float32),
        "invvar": np.zeros(cube, np.float32),
        "maskbits": np.zeros(shape, np.int32),
    }
    if "nexp" in extras:
        pixels["nexp"] = np.zeros(cube, np.int16)
    if "psfsize" in extras:
        pixels["psfsize"] = np.full(len(bands), np.nan, np.float32)
    return pixels


def _read_into(pixels: dict[str, NDArray[Any]], job: _Job) -> fits.Header:
    if job.kind == "psfsize":
        data, header = read_image(job.path)
        if (data > 0).any():
            pixels["psfsize"][job.index] = np.median(data[data > 0])
        return header
    if job.kind == "maskbits":
        return read_image(job.path, "MASKBITS", out=pixels["maskbits"])[1]
    _, header = read_image(job.path, out=pixels[job.kind][job.index])
    zero_point = header.get("MAGZERO", AB_ZERO_POINT)
    if job.kind == "image" and zero_point != AB_ZERO_POINT:
        raise SchemaMismatch(
            f"{job.path}: MAGZERO is {zero_point}, nanomaggies have {AB_ZERO_POINT}; convert the "
            "file to nanomaggies"
        )
    return header


def _clean(pixels: dict[str, NDArray[Any]], index: int) -> list[str]:
    """Take the weight of pixels that are no numbers, in place; return what to note."""
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
    return notes


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


def _check_projections(jobs: Sequence[_Job], headers: Sequence[fits.Header]) -> None:
    """Refuse files whose projection is not that of the first one."""
    reference = headers[0]
    for job, header in zip(jobs, headers, strict=True):
        shared = (key for key in _WCS_KEYS if key in reference and key in header)
        if any(abs(header[key] - reference[key]) > 1e-3 * abs(_scale(key)) for key in shared):
            raise SchemaMismatch(
                f"{job.path}: its projection differs from that of {jobs[0].path.name}; fetch the "
                "files of one release"
            )


def _scale(key: str) -> float:
    """Return what one pixel is in the unit of a WCS card."""
    return 1.0 if key.startswith("CRPIX") else PIXEL_SCALE_ARCSEC / 3600.0


def _checked_wcs(path: Path, header: fits.Header, brick: Brick, shape: tuple[int, int]) -> WCS:
    """Return the projection of the header, which must show (a part of) the brick at its scale."""
    named = str(header.get("BRICKNAM", header.get("BRICK", brick.brickname))).strip()
    if named != brick.brickname:
        raise SchemaMismatch(
            f"{path}: its header says brick {named}; put the file where it belongs"
        )
    if "CTYPE1" not in header:
        if shape == (BRICK_SIZE_PIXELS, BRICK_SIZE_PIXELS):
            return brick_wcs(brick)  # the geometry is official, so nothing is guessed
        raise SchemaMismatch(f"{path}: no WCS in the header of a partial coadd; fetch it again")
    wcs = WCS(header, naxis=2)
    scales = np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600.0
    if abs(scales / PIXEL_SCALE_ARCSEC - 1.0) > 1e-3 or "TAN" not in str(header["CTYPE1"]):
        raise SchemaMismatch(
            f"{path}: {header['CTYPE1']} with {scales:.4f} arcsec a pixel; coadds are TAN with "
            f"{PIXEL_SCALE_ARCSEC}, resample the image"
        )
    east = np.mod(wcs.wcs.crval[0] - brick.ra + 180.0, 360.0) - 180.0
    offset = np.hypot(east * np.cos(np.radians(brick.dec)), wcs.wcs.crval[1] - brick.dec)
    if offset * 3600.0 > PIXEL_SCALE_ARCSEC:
        raise SchemaMismatch(
            f"{path}: its tangent point is {offset * 3600.0:.1f} arcsec from the centre of brick "
            f"{brick.brickname}; check that the file is a coadd of this brick"
        )
    wcs.array_shape = shape
    return wcs


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
