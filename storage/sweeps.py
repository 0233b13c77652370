"""Sweep files: which of them may hold objects of a brick.

They are named after the box that they cover, ``sweep-<ra><dec>-<ra><dec>.fits``: 10 by 5 degrees up
to DR9, 5 by 5 degrees in DR10. Companions such as ``-extra`` or ``-pz`` are not sweep files. This
module looks at names only; rows are read by `storage.object_lists`.
"""

import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.bricks import Brick
from storage.errors import BrickNotFound
from storage.table_columns import Version, file_version

_NAME = re.compile(r"sweep-(\d{3})([pm])(\d{3})-(\d{3})([pm])(\d{3})\.fits(?:\.gz)?")

Box = tuple[float, float, float, float]  # ra1, ra2, dec1, dec2 [deg]


def sweeps_for(folder: str | Path, brick: Brick) -> tuple[Path, ...]:
    """Return the sweep files of a folder that may hold objects of a brick, at most four.

    A brick on a border is in two boxes, one on a corner in four.

    Raises
    ------
    BrickNotFound
        When the folder is absent or holds no sweep file.
    """
    area = pd.DataFrame({name: [getattr(brick, name)] for name in ("ra1", "ra2", "dec1", "dec2")})
    return tuple(path for path, box in _boxes(Path(folder)) if _overlap(area, box)[0])


def sweep_files(folder: str | Path) -> tuple[Path, ...]:
    """Return all sweep files of a folder, in order of their names; raise as `sweeps_for`."""
    return tuple(path for path, _ in _boxes(Path(folder)))


def bricks_covered(folder: str | Path, areas: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which bricks may have objects in the sweep files of a folder; raise as `sweeps_for`.

    Parameters
    ----------
    folder : str or Path
    areas : DataFrame
        See `storage.brick_lists.brick_areas`.
    """
    covered = np.zeros(len(areas), bool)
    for _, box in _boxes(Path(folder)):
        covered |= _overlap(areas, box)
    return covered


def _boxes(folder: Path) -> tuple[tuple[Path, Box], ...]:
    return _boxes_of(*file_version(folder))


@lru_cache(maxsize=4)
def _boxes_of(folder: Path, version: Version) -> tuple[tuple[Path, Box], ...]:
    """Return the sweep files of a folder; ``version`` makes a changed folder be listed again."""
    found = []
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        if match := _NAME.fullmatch(name):
            ra1, sign1, dec1, ra2, sign2, dec2 = match.groups()
            low, high = (
                float(dec) if sign == "p" else -float(dec)
                for sign, dec in ((sign1, dec1), (sign2, dec2))
            )
            found.append((folder / name, (float(ra1), float(ra2), low, high)))
    if not found:
        raise BrickNotFound(
            f"{folder} holds no sweep file; give the folder with sweep-<box>.fits, as sweep/9.0"
        )
    return tuple(found)


def _overlap(areas: pd.DataFrame, box: Box) -> NDArray[np.bool_]:
    """Tell which primary areas have an inside in common with a box; touching is not enough."""
    ra1, ra2, dec1, dec2 = box
    across = (areas["ra1"] < ra2) & (areas["ra2"] > ra1)
    return np.asarray(across & (areas["dec1"] < dec2) & (areas["dec2"] > dec1))
