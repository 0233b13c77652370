"""Writing a whole synthetic release: bricks in parallel, the two tables of bricks, the paths.

galsim is imported when the first brick is rendered, so commands that only name this module start
fast.
"""

import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from storage.bricks import Brick, neighbours
from storage.legacysurvey import region_bricks_path, survey_bricks_path
from storage.synthetic import files
from storage.synthetic.config import SyntheticConfig
from storage.synthetic.truth import truth_path
from storage.synthetic.windows import DEGREES_PER_BRICK, chosen_bricks

LOGGER = logging.getLogger(__name__)

PARALLEL_PIXELS = 2_000_000
"""Below this many pixels in all a second process costs more to start than it saves."""
CUTOUT_SIZE = 152  # the survey's cutouts; noiseless images have the same frame


@dataclass(frozen=True)
class SyntheticRelease:
    """What was written.

    Parameters
    ----------
    root : Path
        Release root: holds survey-bricks.fits.gz, the region's folder and truth/.
    bricknames : tuple of str
    truth_paths : tuple of Path
        One truth table per brick, in the same order.
    """

    root: Path
    bricknames: tuple[str, ...]
    truth_paths: tuple[Path, ...]


def write_synthetic_release(path: str | Path, config: SyntheticConfig) -> SyntheticRelease:
    """Write a pretend survey in the Legacy Survey file layout.

    Parameters
    ----------
    path : path
        Release root; made when absent. Files of the same bricks are replaced, one at a time.
    config : SyntheticConfig

    Returns
    -------
    SyntheticRelease
    """
    root = Path(path)
    bricks = chosen_bricks(config)
    names = tuple(brick.brickname for brick in bricks)
    root.mkdir(parents=True, exist_ok=True)
    workers = min(config.processes, len(names))
    if workers > 1 and len(names) * config.brick_size**2 >= PARALLEL_PIXELS:
        # Spawned, not forked: the caller may hold threads (Dask, torch) that a fork would freeze.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            rows = list(pool.map(_write_brick, [root] * len(names), [config] * len(names), names))
    else:
        rows = [_write_brick(root, config, name) for name in names]
    _write_brick_tables(root, config, bricks, rows)
    LOGGER.info("wrote %d synthetic bricks under %s", len(names), root)
    return SyntheticRelease(root, names, tuple(truth_path(root, name) for name in names))


def noiseless_image(
    config: SyntheticConfig, brickname: str, objid: int, band: str
) -> NDArray[np.float32]:
    """Draw one catalogue source alone, without noise, as it appears in a brick.

    Parameters
    ----------
    config : SyntheticConfig
        The configuration that the release was written with.
    brickname : str
    objid : int
        Row of the brick's tractor and truth tables.
    band : str

    Returns
    -------
    ndarray, shape (152, 152), float32 [nanomaggies]
        The frame of the object's cutout: its nearest pixel is (76, 76).
    """
    if band not in config.bands:
        raise ValueError(f"band {band!r} is not in this release; it has {config.bands}.")
    from storage.synthetic.brick import isolated_source, prepare_brick

    prepared = prepare_brick(config, brickname)
    number = prepared.measured.index.size
    if not 0 <= objid < number:
        raise ValueError(f"brick {brickname} has objid 0 to {number - 1}, not {objid}.")
    image = isolated_source(prepared, objid, CUTOUT_SIZE)[config.bands.index(band)]
    return np.asarray(image, dtype=np.float32)


def _write_brick(root: Path, config: SyntheticConfig, brickname: str) -> dict[str, object]:
    from storage.synthetic.brick import write_brick

    return write_brick(root, config, brickname)


def _write_brick_tables(
    root: Path, config: SyntheticConfig, bricks: tuple[Brick, ...], rows: list[dict[str, object]]
) -> None:
    """Write the table of the sky (these bricks and their neighbours) and the region's table."""
    around = {brick.brickid: brick for centre in bricks for brick in neighbours(centre)}
    around |= {brick.brickid: brick for brick in bricks}
    sky = [around[brickid] for brickid in sorted(around)]
    table = Table()
    table["BRICKNAME"] = np.array([brick.brickname for brick in sky], dtype="S8")
    table["BRICKID"] = np.array([brick.brickid for brick in sky], dtype=np.int32)
    row = np.array([round((brick.dec + 90) / DEGREES_PER_BRICK) for brick in sky], dtype=np.int32)
    column = np.array([round(brick.ra1 / (brick.ra2 - brick.ra1)) for brick in sky], dtype=np.int32)
    table["BRICKQ"] = (2 * (row % 2) + column % 2).astype(np.int16)
    table["BRICKROW"], table["BRICKCOL"] = row, column
    for name in ("ra", "dec", "ra1", "ra2", "dec1", "dec2"):
        table[name.upper()] = np.array([getattr(brick, name) for brick in sky])
    files.write_table(survey_bricks_path(root), table)
    region = Table(rows=rows)
    for name in region.colnames:
        kind = region[name].dtype.kind
        if kind == "i":
            region[name] = region[name].astype(np.int32)
        elif kind == "f" and name not in ("ra", "dec", "area"):
            region[name] = region[name].astype(np.float32)
    files.write_table(region_bricks_path(root, config.release, config.region), region)
