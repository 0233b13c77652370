"""How many objects of each type a brick has: the columns of a region's survey-bricks table.

Only these columns are read, a block of rows at a time, so that a table of all bricks of a release
takes some tens of MB.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.brick_lists import brickids_of
from storage.errors import BrickNotFound, CorruptFile
from storage.selection import Selection
from storage.table_columns import column_names, iterate_columns

#: Count columns by object type. Lower-case nexp counts EXP objects; exposures are nexp_<band>.
TYPE_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "PSF": ("npsf",),
        "REX": ("nrex", "nsimp"),  # SIMP before DR5
        "EXP": ("nexp",),
        "DEV": ("ndev",),
        "SER": ("nser",),
        "COMP": ("ncomp",),  # before DR9
        "DUP": ("ndup",),
    }
)
_ALL = "nobjs"


@dataclass(frozen=True)
class RegionCounts:
    """Objects in every brick of a region.

    ``by_type`` has an array, shape (brick,), int64, for every type that the table counts; ``all``
    is the count of all types, or None where the table has none.
    """

    bricknames: NDArray[np.str_]
    by_type: Mapping[str, NDArray[np.int64]]
    all: NDArray[np.int64] | None

    def candidates(self, selection: Selection) -> NDArray[np.float64] | None:
        """Return the objects of the types that a selection keeps; None where nothing is counted.

        Returns
        -------
        ndarray, shape (brick,), float64
        """
        kept = [name for name in self.by_type if _keeps(selection, name)]
        if kept:
            return _sum([self.by_type[name] for name in kept]).astype(np.float64)
        return None if self.all is None else self.all.astype(np.float64)

    def match(self, names: Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
        """Return the row of every name, -1 where the table does not have it."""
        rows = pd.Index(self.bricknames).get_indexer(pd.Index(np.asarray(names, dtype=object)))
        return np.asarray(rows, dtype=np.int64)


def read_region_counts(path: str | Path) -> RegionCounts:
    """Read the counts of a ``survey-bricks-<release>-<region>`` table, or of any table like it.

    Parameters
    ----------
    path : str or Path
        FITS (also gzipped), Parquet, CSV or ECSV, with a column brickname.

    Raises
    ------
    BrickNotFound
        When the file is absent, or a name is of no brick of the sky.
    CorruptFile
        When it has no column of names, or a brick twice.
    """
    path = Path(path)
    available = {name.lower(): name for name in column_names(path)}
    if "brickname" not in available:
        raise CorruptFile(f"{path}: no column BRICKNAME; give a survey-bricks table")
    counted = [name for names in TYPE_COLUMNS.values() for name in (*names, _ALL)]
    wanted = ["brickname", *(name for name in dict.fromkeys(counted) if name in available)]
    blocks: dict[str, list[NDArray[Any]]] = {name: [] for name in wanted}
    for block in iterate_columns(path, [available[name] for name in wanted]):
        for name in wanted:
            blocks[name].append(block[available[name]])
    columns = {name: np.concatenate(parts) for name, parts in blocks.items() if parts}
    if not columns:
        raise BrickNotFound(f"{path} lists no brick; give the survey-bricks table of the region")
    names = np.char.strip(columns["brickname"].astype(str))
    _check_names(path, names)
    by_type = {
        kind: _sum([columns[name] for name in sources if name in columns])
        for kind, sources in TYPE_COLUMNS.items()
        if any(name in columns for name in sources)
    }
    return RegionCounts(names, by_type, columns[_ALL].astype(np.int64) if _ALL in columns else None)


def _sum(counts: Sequence[NDArray[np.integer[Any]]]) -> NDArray[np.int64]:
    return np.asarray(np.sum(np.stack(counts), axis=0, dtype=np.int64))


def _keeps(selection: Selection, kind: str) -> bool:
    if selection.include_types:
        return kind in selection.include_types
    return kind not in selection.exclude_types


def _check_names(path: Path, names: NDArray[np.str_]) -> None:
    unknown = np.flatnonzero(brickids_of(names.tolist()) == 0)
    if len(unknown):
        raise BrickNotFound(
            f"{path}: {len(unknown)} of {len(names)} names are no brick of the sky, the first "
            f"{str(names[unknown[0]])!r} in row {unknown[0] + 1}; give a survey-bricks table"
        )
    values, counts = np.unique(names, return_counts=True)
    if len(values) < len(names):
        raise CorruptFile(
            f"{path}: brick {values[counts > 1][0]} is listed twice; give a table of one region"
        )
