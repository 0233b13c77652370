"""Fields of pretend skies with their truth, and SExtractor's answer for the same pixels.

The training sky and the frozen test sky are drawn from different seeds: they share no source. The
truth is the truth table of the pretend survey (`storage.synthetic.truth`): all sources of S/N 6 and
more that do not hide in one six times brighter. Sources whose central pixel has no data in any band
have their magnitude taken away, so that they are ignored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sep
import xarray as xr
from astropy.table import Table

from storage.bricks import brick_from_name
from storage.coadds import read_coadds, wcs_of
from storage.cutouts import sky_to_pixel
from storage.legacysurvey import PIXEL_SCALE_ARCSEC, locate_brick_files
from storage.synthetic import SyntheticConfig, read_truth, write_synthetic_release

Array = np.ndarray[Any, np.dtype[Any]]

BANDS = ("g", "r", "z")
# Four times as crowded with galaxies as the real sky, so that blends can be counted: a source and
# a half that must be found in a field of 80 pixels.
DENSITY, STAR_DENSITY, TILT = 4.0, 3.0, 0.0
TRAIN_SEED, TEST_SEED = 501, 902
SEP_SIGMA, SEP_AREA, SEP_LEVELS, SEP_CONTRAST = 1.5, 5, 32, 0.005  # SExtractor's own defaults
SEP_MESH = 64
SEP_BOX = 2.5  # half side of a box in units of the isophote's rms


@dataclass(frozen=True)
class Fields:
    """Fields of a sky.

    Parameters
    ----------
    image, invvar : (field, band, y, x) float32; maskbits : (field, y, x) int32
    sources : (field, source, 6) float32, `lvm.downstream.base.SOURCE_FIELDS`, NaN rows pad
    sep : (field, source, 5) float32: x, y, half width, half height [pixel], peak S/N; NaN rows pad
    """

    image: Array
    invvar: Array
    maskbits: Array
    sources: Array
    sep: Array

    def __len__(self) -> int:
        return len(self.image)

    def chosen(self, index: Array) -> "Fields":
        """Return some of the fields."""
        return Fields(**{name: value[index] for name, value in vars(self).items()})

    def batch(self, index: Array) -> dict[str, Array]:
        """Return some of the fields as a batch of the detection task."""
        part = self.chosen(index)
        return {
            "image": part.image,
            "invvar": part.invvar,
            "maskbits": part.maskbits,
            "target": part.sources,
            "rows": np.asarray(index, dtype=np.int64),
        }


def read_sky(folder: Path, seed: int, count: int, side: int) -> Fields:
    """Return `count` fields of a sky; rendered once, then read from `folder`."""
    path = folder / f"sky-{seed}-{count}x{side}.npz"
    if not path.is_file():
        made = _concatenated(list(_render(folder, seed, count, side)))
        partial = path.with_suffix(".part.npz")
        np.savez(partial, **vars(made.chosen(np.arange(count))))
        partial.rename(path)
    with np.load(path) as stored:
        return Fields(**{name: stored[name] for name in stored.files})


def _render(folder: Path, seed: int, count: int, side: int) -> Iterator[Fields]:
    """Yield the fields of one brick after the other until there are enough."""
    size, bricks = 1800, 1
    while bricks * (size // side) ** 2 < count and bricks < 4:
        bricks += 1
    if count <= (720 // side) ** 2:
        size, bricks = 720, 1
    elif bricks * (size // side) ** 2 < count:
        size = 3600
    config = SyntheticConfig(
        count=bricks,
        seed=seed,
        brick_size=size,
        density=DENSITY,
        star_density=STAR_DENSITY,
        bright_tilt=TILT,
        bands=BANDS,
        processes=1,
    )
    root = folder / f"release-{seed}-{bricks}x{size}"
    for name in write_synthetic_release(root, config).bricknames:
        files = locate_brick_files(root, name, BANDS, config.region)
        coadds = read_coadds(files, brick_from_name(name), BANDS)
        yield cut_fields(coadds, read_truth(root, name), side)


def cut_fields(coadds: xr.Dataset, truth: Table, side: int) -> Fields:
    """Cut a brick into squares that do not overlap, with the sources in and just around each."""
    y, x = sky_to_pixel(wcs_of(coadds), truth["ra"], truth["dec"])
    flux = np.maximum(np.asarray(truth[f"flux_{BANDS[-1]}"], dtype=np.float64), 1e-9)
    rows = np.stack(
        [
            x,
            y,
            np.asarray(truth["radius"]) / PIXEL_SCALE_ARCSEC,
            22.5 - 2.5 * np.log10(flux),
            np.asarray(truth["axis_ratio"]),
            # The truth has the position angle from north to east; the image's +x runs west.
            np.deg2rad(np.asarray(truth["pa"]) + 90.0),
        ],
        axis=1,
    )
    image, invvar = (coadds[name].to_numpy() for name in ("image", "invvar"))
    _forget_magnitudes(rows, invvar)
    found = sep_sources(image, invvar)
    corners = [
        (top, left)
        for top in range(0, image.shape[1] - side + 1, side)
        for left in range(0, image.shape[2] - side + 1, side)
    ]
    cut = [(slice(None), slice(top, top + side), slice(left, left + side)) for top, left in corners]
    return Fields(
        image=np.stack([image[part] for part in cut]),
        invvar=np.stack([invvar[part] for part in cut]),
        maskbits=np.stack([coadds["maskbits"].to_numpy()[part[1:]] for part in cut]),
        sources=padded([inside(rows, corner, side) for corner in corners], 6),
        sep=padded([inside(found, corner, side) for corner in corners], 5),
    )


def _forget_magnitudes(rows: Array, invvar: Array) -> None:
    size = invvar.shape[-1]
    at = np.clip(np.rint(rows[:, :2]).astype(int), 0, size - 1)
    unseen = (invvar[:, at[:, 1], at[:, 0]] <= 0).all(axis=0)
    rows[unseen, 3] = np.nan


def inside(rows: Array, corner: tuple[int, int], side: int) -> Array:
    """Return the rows whose x, y lie in a square, with places relative to its first pixel."""
    moved = rows.copy()
    moved[:, 0] -= corner[1]
    moved[:, 1] -= corner[0]
    kept = ((moved[:, :2] >= -0.5) & (moved[:, :2] < side - 0.5)).all(axis=1)
    return moved[kept]


def padded(parts: list[Array], columns: int) -> Array:
    """Return rows of all fields as one array (field, row, column) float32, NaN rows at the end."""
    longest = max((len(part) for part in parts), default=0)
    whole = np.full((len(parts), max(longest, 1), columns), np.nan, dtype=np.float32)
    for index, part in enumerate(parts):
        whole[index, : len(part)] = part
    return whole


def sep_sources(image: Array, invvar: Array) -> Array:
    """Return what SExtractor's method finds at its usual settings: (source, 5), see `Fields.sep`.

    It sees the signal-to-noise of all bands together, of the whole brick at once: their sum over
    the root of their number, which is best for sources that are as significant in every band, as
    galaxies nearly are. (A mean weighted by the inverse variance is the g band alone.)
    """
    seen = (invvar > 0).sum(axis=0)
    total = (image * np.sqrt(invvar)).sum(axis=0) / np.sqrt(np.maximum(seen, 1))
    mask = seen == 0
    flat = total - sep.Background(total, mask=mask, bw=SEP_MESH, bh=SEP_MESH).back()
    return extract(flat, np.ones_like(flat), mask)


def extract(flat: Array, noise: Array, mask: Array) -> Array:
    """Return the sources of an image without background, (source, 5)."""
    sep.set_extract_pixstack(max(int(flat.size), 300_000))
    found = sep.extract(
        np.ascontiguousarray(flat, dtype=np.float32),
        SEP_SIGMA,
        err=np.ascontiguousarray(noise, dtype=np.float32),
        mask=mask,
        minarea=SEP_AREA,
        deblend_nthresh=SEP_LEVELS,
        deblend_cont=SEP_CONTRAST,
        filter_type="conv",  # as SExtractor does; "matched" lowers the threshold with the noise
    )
    rows = np.clip(np.rint(found["y"]).astype(int), 0, flat.shape[0] - 1)
    columns = np.clip(np.rint(found["x"]).astype(int), 0, flat.shape[1] - 1)
    cosine, sine = np.cos(found["theta"]), np.sin(found["theta"])
    width = SEP_BOX * np.hypot(found["a"] * cosine, found["b"] * sine)
    height = SEP_BOX * np.hypot(found["a"] * sine, found["b"] * cosine)
    ratio = found["peak"] / noise[rows, columns]
    return np.stack([found["x"], found["y"], width, height, ratio], axis=1)


def sep_found(fields: Fields) -> list[tuple[Array, Array]]:
    """Return places (source, 4) from the field's centre, and S/N (source,), of each field."""
    answers = []
    middle = fields.image.shape[-1] // 2
    for rows in fields.sep.astype(np.float64):
        kept = rows[np.isfinite(rows[:, 0])]
        kept[:, :2] -= middle
        answers.append((kept[:, :4], kept[:, 4]))
    return answers


def _concatenated(parts: list[Fields]) -> Fields:
    longest = {
        name: max(getattr(part, name).shape[1] for part in parts) for name in ("sources", "sep")
    }
    columns: dict[str, Array] = {}
    for name in vars(parts[0]):
        arrays = [getattr(part, name) for part in parts]
        if name in longest:
            arrays = [
                np.pad(
                    array,
                    ((0, 0), (0, longest[name] - array.shape[1]), (0, 0)),
                    constant_values=np.nan,
                )
                for array in arrays
            ]
        columns[name] = np.concatenate(arrays)
    return Fields(**columns)
