"""Write full-size bricks for benchmarks: the survey's compression, simple skies, cheap to make.

One brick is drawn and compressed; the others are copies with headers and catalogues of their own.
That is no shortcut for whoever reads them: every file is decoded like any other.
"""

import shutil
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from storage.bricks import Brick, brick_at, brick_from_id, brick_wcs
from storage.cutouts import pixel_to_sky
from storage.legacysurvey import BRICK_SIZE_PIXELS, checksum_path, coadd_path, tractor_path
from storage.synthetic import files

BANDS = ("g", "r", "z")
SIZE = BRICK_SIZE_PIXELS
FIRST = (150.0, 2.5)  # ra, dec [deg]: cutouts of 152 pixels stay on the image so near the equator
SOURCES, SELECTED = 1000, 250  # in a catalogue, and those of them that the default selection keeps
NOISE = {"g": 0.004, "r": 0.006, "z": 0.02}  # DR9 depth [nanomaggy/pixel]
PSF_SIGMA = 1.1 / 0.262 / 2.355  # [pixel]
_STAMP = 24  # half side of a drawn source [pixel]


def write_big_bricks(root: Path, count: int) -> tuple[str, ...]:
    """Write bricks side by side in the layout of a release, with checksum lists.

    Returns
    -------
    tuple of str
        Their names.
    """
    first = brick_at(*FIRST)
    bricks = [brick_from_id(first.brickid + number) for number in range(count)]
    places = _places()
    written = _write_coadds(root, bricks[0], places)
    for brick in bricks:
        copies = [_copy(root, path, bricks[0], brick) for path in written]
        catalogue = tractor_path(root, brick.brickname)
        files.write_table(catalogue, _catalogue(brick, places))
        lists = checksum_path(root, brick.brickname)
        files.write_checksums(lists, [*copies, catalogue], root)
    return tuple(brick.brickname for brick in bricks)


def _places() -> dict[str, NDArray[np.float64]]:
    """Return pixels (y, x) and fluxes of the sources, the selected ones first."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(SOURCES)))
    order = rng.permutation(side * side)[:SOURCES]
    step = (SIZE - 300) / side  # 104 pixels apart: isolated, as flux checks like them
    y, x = 150 + (np.stack([order // side, order % side]) + rng.uniform(0.3, 0.7, (2, SOURCES))) * (
        step
    )
    bright = 10 ** rng.uniform(1.2, 2.5, SOURCES)  # z < 19.5
    faint = 10 ** rng.uniform(-0.5, 0.5, SOURCES)  # z > 21
    return {"y": y, "x": x, "flux": np.where(np.arange(SOURCES) < SELECTED, bright, faint)}


def _write_coadds(root: Path, brick: Brick, places: dict[str, NDArray[np.float64]]) -> list[Path]:
    rng = np.random.default_rng(1)
    header = brick_wcs(brick).to_header()
    header.update({"BRICK": brick.brickname, "BRICKID": brick.brickid})
    written = []
    for band in BANDS:
        image = rng.standard_normal((SIZE, SIZE), np.float32) * np.float32(NOISE[band])
        _draw(image, places)
        depth = np.repeat(rng.uniform(0.6, 1.4, (1, SIZE // 225)), 225, axis=1)  # whole chips
        scatter = rng.normal(1.0, 0.01, (SIZE, SIZE))
        invvar = (depth * scatter / NOISE[band] ** 2).astype(np.float32)
        for kind, data, how in (
            ("image", image, files.RICE),
            ("invvar", invvar, files.RICE_PLAIN),
        ):
            path = coadd_path(root, brick.brickname, kind, band)
            files.write_images(path, [(f"{kind.upper()}_{band}", data)], header, how)
            written.append(path)
    maskbits = np.zeros((SIZE, SIZE), np.int16)
    for y, x in rng.integers(100, SIZE - 100, (200, 2)):
        maskbits[y - 6 : y + 6, x - 6 : x + 6] = 1 << 1
    path = coadd_path(root, brick.brickname, "maskbits")
    files.write_images(path, [("MASKBITS", maskbits)], header, files.HCOMPRESS)
    return [*written, path]


def _draw(image: NDArray[np.float32], places: dict[str, NDArray[np.float64]]) -> None:
    for y, x, flux in zip(places["y"], places["x"], places["flux"], strict=True):
        top, left = round(y) - _STAMP, round(x) - _STAMP
        rows, columns = np.ogrid[top : top + 2 * _STAMP, left : left + 2 * _STAMP]
        profile = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * PSF_SIGMA**2))
        image[top : top + 2 * _STAMP, left : left + 2 * _STAMP] += (
            flux / (2 * np.pi * PSF_SIGMA**2) * profile
        )


def _copy(root: Path, source: Path, first: Brick, brick: Brick) -> Path:
    if brick == first:
        return source
    relative = source.relative_to(root).as_posix().replace(first.brickname, brick.brickname)
    folder = f"/{first.brickname[:3]}/"
    target = root / relative.replace(folder, f"/{brick.brickname[:3]}/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    cards = {"BRICK": brick.brickname, "BRICKID": brick.brickid, "CRVAL1": brick.ra}
    with fits.open(target, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header.update(cards | {"CRVAL2": brick.dec})
    return target


def _catalogue(brick: Brick, places: dict[str, NDArray[np.float64]]) -> Table:
    ra, dec = pixel_to_sky(brick_wcs(brick), places["y"], places["x"])
    table = Table(
        {
            "release": np.full(SOURCES, 10000, np.int16),
            "brickid": np.full(SOURCES, brick.brickid, np.int32),
            "brickname": [brick.brickname] * SOURCES,
            "objid": np.arange(SOURCES, dtype=np.int32),
            "brick_primary": np.ones(SOURCES, bool),
            "type": ["EXP", "REX"] * (SOURCES // 2),
            "ra": ra,
            "dec": dec,
            "bx": places["x"].astype(np.float32),
            "by": places["y"].astype(np.float32),
            "ebv": np.full(SOURCES, 0.05, np.float32),
            "maskbits": np.zeros(SOURCES, np.int32),
            "shape_r": np.full(SOURCES, 0.3, np.float32),
        }
    )
    for band in BANDS:
        table[f"flux_{band}"] = places["flux"].astype(np.float32)
        table[f"flux_ivar_{band}"] = np.full(SOURCES, 400.0, np.float32)
        table[f"mw_transmission_{band}"] = np.full(SOURCES, 0.9, np.float32)
        table[f"nobs_{band}"] = np.full(SOURCES, 3, np.int16)
        table[f"psfsize_{band}"] = np.full(SOURCES, 1.1, np.float32)
        table[f"psfdepth_{band}"] = np.full(SOURCES, 500.0, np.float32)
    return table
