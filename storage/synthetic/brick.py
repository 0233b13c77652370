"""One brick of a synthetic release: its pixels, catalogue and truth, and its files on disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from storage.bricks import brick_from_name
from storage.legacysurvey import checksum_path, coadd_path, tractor_path
from storage.maskbits import MaskBit
from storage.synthetic import files
from storage.synthetic.artefacts import mask_map, saturate, strike, wise_maps
from storage.synthetic.config import SyntheticConfig
from storage.synthetic.exposures import (
    RESAMPLED_SIGMA,
    SOURCE_VARIANCE,
    BandExposures,
    FloatImage,
    band_generator,
    correlated_noise,
    expose,
)
from storage.synthetic.measure import Measurements, measure_sources
from storage.synthetic.scene import Scene, add_stamp, build_scene, render_scene, source_stamp
from storage.synthetic.stamps import Stamp
from storage.synthetic.tractor_table import tractor_table, tractor_units
from storage.synthetic.truth import TRUTH_UNITS, truth_path, truth_table
from storage.synthetic.windows import brick_window

CATALOGUE_STREAM = 7003  # separates measurements and votes from exposures.py and sky.py


@dataclass(frozen=True)
class BrickScene:
    """A brick before it has pixels: exposures, scene and measurements, all from the seed."""

    scene: Scene
    exposures: dict[str, BandExposures]
    generators: dict[str, np.random.Generator]
    measured: Measurements
    generator: np.random.Generator


@dataclass(frozen=True)
class Pixels:
    """Rendered coadds: image, invvar of shape (band, y, x), float32; maskbits (y, x), int32."""

    image: FloatImage
    invvar: FloatImage
    maskbits: NDArray[np.int32]


def prepare_brick(config: SyntheticConfig, brickname: str) -> BrickScene:
    """Draw everything about a brick except its pixels."""
    window = brick_window(brick_from_name(brickname), config.brick_size)
    generators = {band: band_generator(config, window.brick, band) for band in config.bands}
    exposures = {
        band: expose(generators[band], window, band, config.artefact_rate) for band in config.bands
    }
    scene = build_scene(window, config, exposures)
    rng = np.random.default_rng([config.seed, window.brick.brickid, CATALOGUE_STREAM])
    return BrickScene(scene, exposures, generators, measure_sources(scene, exposures, rng), rng)


def render_brick(prepared: BrickScene, artefact_rate: float) -> Pixels:
    """Render a brick's coadds with noise and artefacts."""
    scene = prepared.scene
    image = render_scene(scene, prepared.exposures)
    invvar = np.empty_like(image)
    flags = {}
    for index, band in enumerate(scene.bands):
        exposures, rng = prepared.exposures[band], prepared.generators[band]
        saturated = saturate(image[index], scene, exposures)
        defects = strike(rng, exposures, artefact_rate)
        struck = defects != 0
        flags[band] = (saturated, struck)
        covered = exposures.nexp > 0
        photons = np.float32(SOURCE_VARIANCE[band]) * np.maximum(image[index], 0)
        variance = 1 / np.where(covered, exposures.invvar, 1) + photons
        noise = correlated_noise(rng, scene.window.size) * np.sqrt(variance)
        noise *= np.float32(RESAMPLED_SIGMA)
        image[index] = np.where(covered, image[index] + noise + defects, 0)
        invvar[index] = np.where(covered & ~saturated & ~struck, 1 / variance, 0)
    return Pixels(image, invvar, mask_map(scene, flags))


def isolated_source(prepared: BrickScene, objid: int, size: int) -> FloatImage:
    """Draw one catalogue source alone, without noise.

    Parameters
    ----------
    prepared : BrickScene
    objid : int
    size : int
        Side of the frame [pixels]; the measured place's nearest pixel is (size // 2, size // 2).

    Returns
    -------
    ndarray, shape (band, size, size), float32 [nanomaggies]
    """
    scene, measured = prepared.scene, prepared.measured
    sigma = min(exposures.sigma for exposures in prepared.exposures.values())
    stamp = source_stamp(scene, int(measured.index[objid]), sigma)
    y0 = round(float(measured.y[objid])) - size // 2
    x0 = round(float(measured.x[objid])) - size // 2
    image = np.zeros((len(scene.bands), size, size), dtype=np.float32)
    add_stamp(image, Stamp(stamp.image, stamp.y0 - y0, stamp.x0 - x0))
    return image


def write_brick(root: Path, config: SyntheticConfig, brickname: str) -> dict[str, object]:
    """Render one brick and write all its files under the release root.

    Returns
    -------
    dict
        The brick's row of the region table.
    """
    prepared = prepare_brick(config, brickname)
    pixels = render_brick(prepared, config.artefact_rate)
    scene, rng = prepared.scene, prepared.generator
    catalogue = tractor_table(scene, prepared.measured, prepared.exposures, pixels.maskbits, rng)
    truth = truth_table(scene, prepared.measured, np.asarray(catalogue["objid"]), rng)
    base = root / config.region
    written = _write_coadds(base, brickname, prepared, pixels)
    path = tractor_path(base, brickname)
    files.write_table(path, catalogue, tractor_units(catalogue.colnames), scene.window.header())
    written.append(path)
    files.write_checksums(checksum_path(base, brickname), written, base)
    files.write_table(truth_path(root, brickname), truth, TRUTH_UNITS)
    return _summary(prepared, catalogue)


def _write_coadds(base: Path, brickname: str, prepared: BrickScene, pixels: Pixels) -> list[Path]:
    window = prepared.scene.window
    written: list[Path] = []
    for index, (band, exposures) in enumerate(prepared.exposures.items()):
        kinds: tuple[tuple[str, NDArray[np.generic], str], ...] = (
            ("image", pixels.image[index], files.RICE),
            ("invvar", pixels.invvar[index], files.RICE_PLAIN),
            ("nexp", exposures.nexp, files.HCOMPRESS),
            ("psfsize", exposures.width_map(), files.GZIP),
        )
        for kind, data, how in kinds:
            header = window.header()
            header.extend(_band_cards(kind, band))
            path = coadd_path(base, brickname, kind, band)
            files.write_images(path, [(f"{kind.upper()}_{band}", data)], header, how)
            written.append(path)
    header = window.header()
    for bit in MaskBit:
        if int(bit) <= int(MaskBit.SUB_BLOB):
            number = int(bit).bit_length() - 1
            header[f"MBIT_{number}"] = (str(bit.name), f"maskbits bit {number}")
    first, second = wise_maps(pixels.maskbits)
    path = coadd_path(base, brickname, "maskbits")
    images: list[tuple[str, NDArray[np.generic]]] = [
        ("MASKBITS", pixels.maskbits),
        ("WISEM1", first),
        ("WISEM2", second),
    ]
    files.write_images(path, images, header, files.HCOMPRESS)
    return [*written, path]


def _band_cards(kind: str, band: str) -> fits.Header:
    cards: list[tuple[str, str | float, str]] = [
        ("FILTERX", band, "Filter short name"),
        ("IMTYPE", kind, "LegacySurveys image type"),
    ]
    if kind == "image":
        cards += [
            ("MAGZERO", 22.5, "AB magnitude zeropoint"),
            ("BUNIT", "nanomaggy", "AB mag = 22.5"),
        ]
    if kind == "invvar":
        cards.append(("BUNIT", "1/nanomaggy^2", "Ivar of ABmag=22.5"))
    return fits.Header(cards)


def _summary(prepared: BrickScene, catalogue: Table) -> dict[str, object]:
    """Return the row of the region table, which is about primary sources.

    nexp is the number of EXP sources, nexp_g of exposures; depths are AB magnitudes of 5 sigma.
    """
    brick = prepared.scene.window.brick
    catalogue = catalogue[np.asarray(catalogue["brick_primary"], bool)]
    kinds = np.asarray(catalogue["type"]).astype(str)
    row: dict[str, object] = {
        "brickname": brick.brickname,
        "brickid": brick.brickid,
        "ra": brick.ra,
        "dec": brick.dec,
        "nobjs": len(catalogue),
        "survey_primary": True,
        "in_desi": True,
        "area": (brick.ra2 - brick.ra1)
        * float(np.rad2deg(np.sin(np.deg2rad(brick.dec2)) - np.sin(np.deg2rad(brick.dec1)))),
        "ebv": float(np.median(catalogue["ebv"])) if len(catalogue) else 0.0,
    }
    for kind in ("PSF", "REX", "EXP", "DEV", "SER", "DUP"):
        row[f"n{kind.lower()}"] = int((kinds == kind).sum())
    for band, exposures in prepared.exposures.items():
        row[f"nexp_{band}"] = int(np.median(exposures.nexp))
        row[f"psfsize_{band}"] = exposures.width
        for depth in ("psfdepth", "galdepth"):
            values = np.asarray(catalogue[f"{depth}_{band}"])
            ivar = float(np.median(values)) if values.size else 0.0
            row[f"{depth}_{band}"] = 22.5 - 2.5 * np.log10(5.0 / np.sqrt(ivar)) if ivar > 0 else 0.0
    return row
