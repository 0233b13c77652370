"""Truth tables: class, sub-features, votes and structural parameters of every catalogue row."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from storage.errors import BrickNotFound
from storage.synthetic.config import MORPHOLOGY_CLASSES
from storage.synthetic.sky import STAR_CODE
from storage.synthetic.votes import answer_chances, draw_votes, visibility

if TYPE_CHECKING:  # reading a truth table needs no galsim
    from storage.synthetic.measure import Measurements
    from storage.synthetic.scene import Scene

STAR = "star"
PARAMETERS = ("radius", "axis_ratio", "redshift", "redness", "bulge_fraction", "bulge_index")
FEATURES = ("bar", "ring", "n_arms", "pitch", "merger")
TRUTH_UNITS = {"ra": "deg", "dec": "deg", "radius": "arcsec", "pa": "deg", "pitch": "deg"}


def truth_path(root: str | Path, brickname: str) -> Path:
    """Return where the truth table of a brick is; `root` is the release root."""
    return Path(root) / "truth" / brickname[:3] / f"truth-{brickname}.fits"


def read_truth(root: str | Path, brickname: str) -> Table:
    """Read the truth table of a brick, one row per catalogue row, in the same order.

    Parameters
    ----------
    root : path
        Release root that `write_synthetic_release` was given.
    brickname : str
    """
    path = truth_path(root, brickname)
    if not path.is_file():
        raise BrickNotFound(f"{path}: no truth table; only synthetic releases have one.")
    return Table.read(path)


def truth_table(
    scene: "Scene", measured: "Measurements", objid: NDArray[np.int32], rng: np.random.Generator
) -> Table:
    """Build the truth table.

    Parameters
    ----------
    scene : Scene
    measured : Measurements
    objid : ndarray, shape (n,), int32
    rng : numpy.random.Generator
        The brick's stream of votes.

    Returns
    -------
    astropy.table.Table
        `class` is one of MORPHOLOGY_CLASSES or "star"; `votes_*` (with "-" as "_") are counts, all
        zero for stars; `flux_<band>` is the true observed flux; `blendedness` 0 is isolated.
    """
    rows = scene.sources[measured.index]
    names = np.array([*MORPHOLOGY_CLASSES, STAR])
    galaxy = rows["code"] != STAR_CODE
    table = Table()
    table["brickid"] = np.full(rows.size, scene.window.brick.brickid, dtype=np.int32)
    table["objid"] = objid
    table["source_id"] = rows["source_id"]
    table["class"] = names[np.where(galaxy, rows["code"], len(MORPHOLOGY_CLASSES))]
    table["ra"], table["dec"] = rows["ra"], rows["dec"]
    for name in (*PARAMETERS, *FEATURES):
        table[name] = rows[name]
    table["pa"] = np.rad2deg(rows["angle"] - np.pi / 2) % 180.0
    table["arms"] = rows["n_arms"] > 0
    table["dust_lane"] = rows["dust"] > 0
    table["dust"] = rows["dust"]
    for index, band in enumerate(scene.bands):
        table[f"flux_{band}"] = scene.flux[measured.index, index].astype(np.float32)
    table["snr"] = measured.snr.astype(np.float32)
    table["blendedness"] = measured.blendedness.astype(np.float32)
    _add_votes(table, _votes(scene, measured, galaxy, rng))
    return table


def _add_votes(table: Table, votes: NDArray[np.int32]) -> None:
    for index, name in enumerate(MORPHOLOGY_CLASSES):
        table[f"votes_{name.replace('-', '_')}"] = votes[:, index]


def _votes(
    scene: "Scene", measured: "Measurements", galaxy: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int32]:
    votes = np.zeros((galaxy.size, len(MORPHOLOGY_CLASSES)), dtype=np.int32)
    index = measured.index[galaxy]
    rows = scene.sources[index]
    if rows.size == 0:
        return votes
    relative = rows["radius"] / scene.widths[index].mean(axis=1)
    seen = visibility(rows["code"], relative, measured.snr[galaxy])
    chances = answer_chances(rows, seen, measured.blendedness[galaxy])
    votes[galaxy] = draw_votes(rng, chances, seen)
    return votes
