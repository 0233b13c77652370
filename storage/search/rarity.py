"""How far an embedding is from others: the distance to its k-th nearest in a random sample.

A sample, because it needs one pass and bounded memory, and because it ranks rare objects no worse
than all neighbours do (Sugiyama & Borgwardt 2013): among few, a small group of odd objects cannot
hide behind one another.
"""

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from storage.errors import SchemaMismatch

Floats = npt.NDArray[np.floating[Any]]


class NeighbourDistance:
    """Distances to a sample, in units of the spread of each feature.

    Parameters
    ----------
    rows : ndarray, shape (n,), int64
        Of the sample, so that an object is not its own neighbour.
    sample : ndarray, shape (n, feature)
    neighbours : int
        The k of the k-th nearest.
    """

    def __init__(self, rows: npt.NDArray[np.int64], sample: Floats, neighbours: int) -> None:
        if not 1 <= neighbours < len(rows):
            raise SchemaMismatch(
                f"{neighbours} neighbours among {len(rows)} objects: ask for 1 to {len(rows) - 1}"
            )
        wide = np.asarray(sample, dtype=np.float32)
        self._mean = wide.mean(axis=0)
        spread = wide.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0).astype(np.float32)
        self._rows, self._neighbours = rows, neighbours
        self._index = faiss.IndexFlatL2(wide.shape[1])
        self._index.add(self._scaled(wide))

    def score(self, rows: npt.NDArray[np.int64], vectors: Floats) -> npt.NDArray[np.float32]:
        """Return the distance of each vector to its k-th nearest in the sample but itself.

        Returns
        -------
        ndarray, shape (n,), float32
            Root mean square over the features, in standard deviations.
        """
        squared, places = self._index.search(self._scaled(vectors), self._neighbours + 1)
        itself = (self._rows[places] == rows[:, None]).any(axis=1)
        kth = np.where(itself, squared[:, -1], squared[:, -2])
        return np.asarray(np.sqrt(np.maximum(kth, 0) / vectors.shape[1]), dtype=np.float32)

    def _scaled(self, vectors: Floats) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray((vectors - self._mean) / self._scale, dtype=np.float32)
