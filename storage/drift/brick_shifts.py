"""Which bricks of a survey have embeddings unlike the rest, and whether depth or seeing is why.

Of every brick only the mean embedding is kept. How far it is from that of the survey is measured in
standard deviations of a single object along the strongest directions, and the scatter that a mean
of so few objects has by chance is taken off.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import chdtrc

from storage.search.vectors import EmbeddedRows

DIRECTIONS = 16  # principal ones; beyond these lie details of single objects
FEWEST = 20  # objects in a brick, and bricks in a correlation
_CHANCE = 1e-3  # of a shift as large, over all bricks: what is called an outlier
QUANTITIES = ("psfsize", "depth", "psfdepth")  # of a brick's receipt, in every band

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of the bricks' shift with a quantity, and its chance."""

    quantity: str
    bricks: int
    rho: float
    p_value: float


@dataclass(frozen=True)
class BrickShifts:
    """How the bricks of a survey are shifted.

    Parameters
    ----------
    table : DataFrame
        Indexed by brickname: ``objects``, ``shift`` [standard deviations of an object] (0 where
        chance explains it), ``p_value`` of a shift as large, ``outlier``.
    too_few : int
        Bricks with fewer than 20 objects, which are left out.
    correlations : tuple of Correlation
        Of the shift along the strongest direction in which bricks differ.
    """

    table: pd.DataFrame
    too_few: int
    correlations: tuple[Correlation, ...] = ()

    @property
    def outliers(self) -> pd.DataFrame:
        """Return the outliers, the most shifted first."""
        return self.table[self.table["outlier"]].sort_values("shift", ascending=False)


class BrickMeans:
    """Mean embeddings of bricks along principal directions, from one pass."""

    def __init__(self, rows: EmbeddedRows, sample: Floats) -> None:
        self._rows = rows
        wide = np.asarray(sample, dtype=np.float64)
        self._mean = wide.mean(axis=0)
        values, axes = np.linalg.eigh(np.atleast_2d(np.cov(wide.T)))
        kept = np.argsort(values)[::-1][:DIRECTIONS]
        kept = kept[values[kept] > 1e-9 * values.max()]  # none that only rounding gave
        self._axes = axes[:, kept] / np.sqrt(values[kept])
        self._sums = np.zeros((len(rows.starts), len(kept)))
        self._squares = np.zeros_like(self._sums)
        self._counts = np.zeros(len(rows.starts), dtype=np.int64)

    def add(self, blocks: Iterable[tuple[npt.NDArray[np.int64], Floats]]) -> None:
        """Add blocks of all rows, from `storage.search.vectors.iterate_vectors`."""
        for rows, vectors in blocks:
            brick = np.searchsorted(self._rows.starts, rows, side="right") - 1
            along = (vectors - self._mean) @ self._axes
            np.add.at(self._sums, brick, along)
            np.add.at(self._squares, brick, np.square(along))
            np.add.at(self._counts, brick, 1)

    def shifts(self, measured: pd.DataFrame | None = None) -> BrickShifts:
        """Compare every brick with all others.

        Parameters
        ----------
        measured : DataFrame, optional
            What receipts say of the bricks: columns as ``psfsize_r``, indexed by brickname.
        """
        used = self._counts >= FEWEST
        counts = self._counts[used].astype(float)
        means = self._sums[used] / counts[:, None]
        inside = self._squares[used].sum(axis=0) - (counts[:, None] * np.square(means)).sum(axis=0)
        scatter = np.sqrt(inside / max(1.0, counts.sum() - used.sum()))
        grand = self._sums.sum(axis=0) / max(1, self._counts.sum())
        means = (means - grand) / np.where(scatter > 0, scatter, 1.0)
        freedom = means.shape[1]
        squared = np.square(means).sum(axis=1)
        p_value = chdtrc(freedom, counts * squared)
        shift = np.sqrt(np.maximum(squared - freedom / counts, 0))
        table = pd.DataFrame(
            {
                "objects": self._counts[used],
                "shift": shift,
                "p_value": p_value,
                "outlier": _apart(shift) & (p_value < _CHANCE / max(1, used.sum())),
            },
            index=pd.Index(self._rows.bricknames[used], name="brickname"),
        )
        found = _correlations(table.index, _strongest(means, counts), measured)
        return BrickShifts(table, int((~used).sum()), found)


def _apart(shift: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Say which bricks are shifted more than most: real bricks all differ a little."""
    if not len(shift):
        return np.zeros(0, dtype=bool)
    middle = np.median(shift)
    spread = 1.4826 * np.median(np.abs(shift - middle))
    return np.asarray(shift > middle + 5 * spread)


def _strongest(
    means: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the bricks' places along the direction in which their means scatter most."""
    if len(means) < 2:
        return np.zeros(len(means))
    weighted = means * np.sqrt(counts)[:, None]
    _, _, axes = np.linalg.svd(weighted, full_matrices=False)
    return np.asarray(means @ axes[0])


def _correlations(
    names: pd.Index, along: npt.NDArray[np.float64], measured: pd.DataFrame | None
) -> tuple[Correlation, ...]:
    if measured is None:
        return ()
    from scipy.stats import spearmanr  # a second to load

    known = measured.reindex(names)
    found = []
    for column in known.columns:
        values = known[column].to_numpy(dtype=float)
        use = np.isfinite(values)
        if use.sum() >= FEWEST and np.ptp(values[use]) > 0 and np.ptp(along[use]) > 0:
            rho, p_value = spearmanr(along[use], values[use])
            found.append(Correlation(str(column), int(use.sum()), float(rho), float(p_value)))
    return tuple(sorted(found, key=lambda one: -abs(one.rho)))
