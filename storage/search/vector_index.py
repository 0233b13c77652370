"""An index of the embeddings of a survey for nearest neighbours: built in blocks, opened mapped.

Vectors lose the mean of all and get length 1, so that their inner product is a cosine that the
large common part of all embeddings does not hide. Few vectors are searched exactly; many are
sorted into cells around k-means centres, and a search looks into the nearest cells (FAISS;
docs/decisions/0009). Where the files are, and for what they were made, is `index_files`' business.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from storage.errors import SchemaMismatch

INDEX_FILE = "vectors.faiss"
LISTS_FILE = "vectors.ivfdata"  # the cells' contents, where they were merged on disk
MEAN_FILE = "mean.npy"

faiss: Any = _faiss  # its stubs lack what the merge on disk needs

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class IndexConfig:
    """How an index is built; the defaults were measured (docs/decisions/0009).

    Parameters
    ----------
    exact_below : int
        Fewer vectors than this are compared one by one: 2 ms for 20,000.
    cells_per_root : float
        Cells for each square root of the number of vectors.
    most_cells : int
        Limit of the number of cells: centres are found in memory, in time that grows with it.
    train_per_cell : int
        Vectors of the sample that the centres are found from, a cell.
    memory_vectors : int
        Vectors held in memory while building; more are written aside and merged on disk.
    probes : int
        Cells that a search looks into.
    seed : int
    """

    exact_below: int = 20_000
    cells_per_root: float = 4.0
    most_cells: int = 16_384
    train_per_cell: int = 64
    memory_vectors: int = 1_000_000
    probes: int = 128
    seed: int = 0

    def cells(self, total: int) -> int:
        """Return the number of cells for so many vectors; 0 means an exact search."""
        if total < self.exact_below:
            return 0
        return min(self.most_cells, int(self.cells_per_root * total**0.5))

    def sample_size(self, total: int) -> int:
        """Return how many vectors the mean and the centres are found from."""
        return min(total, max(self.exact_below, self.train_per_cell * self.cells(total)))


class VectorIndex:
    """Nearest neighbours among the embeddings of a survey."""

    def __init__(self, index: Any, mean: npt.NDArray[np.float32], probes: int) -> None:
        self._index, self._mean = index, mean
        if not isinstance(index, faiss.IndexIDMap):
            faiss.extract_index_ivf(index).nprobe = probes

    def __len__(self) -> int:
        """Return the number of vectors."""
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        """Return the number of values a vector."""
        return int(self._index.d)

    def search(
        self, vectors: Floats, number: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the nearest vectors of each vector, nearest first.

        Parameters
        ----------
        vectors : ndarray, shape (query, feature)
            Embeddings as the encoder gave them.
        number : int
            Neighbours wanted; the vector itself is one of them where it is in the index.

        Returns
        -------
        similarity : ndarray, shape (query, number), float32
            Cosine after the mean was taken away: 1 is equal, 0 unrelated; -inf where the index
            holds fewer vectors.
        rows : ndarray, shape (query, number), int64
            Rows on the survey's object axis; -1 where the index holds fewer vectors.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.width:
            raise SchemaMismatch(
                f"vectors of shape {vectors.shape} for an index of width {self.width}: search with "
                "embeddings by the encoder that the index was made for"
            )
        similarity, rows = self._index.search(centred(vectors, self._mean), number)
        return np.where(rows < 0, -np.inf, similarity).astype(np.float32), rows


def centred(vectors: Floats, mean: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Take the mean away and give every vector length 1; a vector equal to the mean becomes 0."""
    result = np.subtract(vectors, mean, dtype=np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", result, result))
    result /= np.maximum(length, np.finfo(np.float32).tiny)[:, None]
    return result


def build_index(
    folder: Path,
    blocks: Iterable[tuple[npt.NDArray[np.int64], Floats]],
    sample: Floats,
    total: int,
    config: IndexConfig,
    home: Path | None = None,
) -> None:
    """Build an index in an empty folder.

    Parameters
    ----------
    folder : Path
        Gets `INDEX_FILE`, `MEAN_FILE` and, for large indexes, `LISTS_FILE`.
    blocks : iterable of (rows, vectors)
        All vectors, from `storage.search.vectors.iterate_vectors`.
    sample : ndarray, shape (n, feature)
        A random sample of them, of about `config.sample_size(total)`.
    total : int
        Number of vectors that the blocks hold.
    home : Path, optional
        Folder that `folder` will be renamed to.

    Raises
    ------
    SchemaMismatch
        When the blocks hold another number of vectors.
    """
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.save(folder / MEAN_FILE, mean)
    index = _empty_index(centred(sample, mean), config.cells(total), config.seed)
    parts: list[Path] = []
    written = 0
    for rows, vectors in blocks:
        full = index.ntotal + len(rows) > config.memory_vectors
        if full and index.ntotal and config.cells(total):
            parts.append(_set_aside(index, folder, len(parts)))
        index.add_with_ids(centred(vectors, mean), np.asarray(rows, dtype=np.int64))
        written += len(rows)
    if written != total:
        raise SchemaMismatch(
            f"{written} vectors came for an index of {total}: the embeddings changed while they "
            "were read; try again"
        )
    if parts:
        parts.append(_set_aside(index, folder, len(parts)))
        _merge(index, parts, folder / LISTS_FILE, (home or folder) / LISTS_FILE)
    faiss.write_index(index, str(folder / INDEX_FILE))
    for part in parts:
        part.unlink()


def open_index(folder: Path, probes: int) -> VectorIndex:
    """Open an index; cells are mapped, and read from disk when a search looks into them."""
    return VectorIndex(_read_index(folder), np.load(folder / MEAN_FILE), probes)


def bytes_needed(total: int, width: int) -> int:
    """Return the size of an index on disk: float16 vectors and 8 bytes for the row of each."""
    return total * (2 * width + 8)


def check_room(folder: Path, total: int, width: int) -> None:
    """Refuse to build where the disk has no room for the index and the parts it is merged from."""
    needed = 2 * bytes_needed(total, width)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SchemaMismatch(
            f"an index of {total} vectors needs {needed / 2**30:.1f} GiB in {folder} while it is "
            f"built and {free / 2**30:.1f} GiB are free: make room, or set BRICKYARD_HOME elsewhere"
        )


def _read_index(folder: Path) -> Any:
    file = str(folder / INDEX_FILE)
    if not (folder / LISTS_FILE).exists():
        return faiss.read_index(file, faiss.IO_FLAG_MMAP)
    try:
        return faiss.read_index(file)  # maps the cells by the path that it was built for
    except RuntimeError:  # the folder was moved
        return faiss.read_index(file, faiss.IO_FLAG_ONDISK_SAME_DIR)


def _empty_index(sample: npt.NDArray[np.float32], cells: int, seed: int) -> Any:
    width = sample.shape[1]
    if not cells:
        return faiss.index_factory(width, "IDMap,SQfp16", faiss.METRIC_INNER_PRODUCT)
    index = faiss.index_factory(width, f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
    inner = faiss.extract_index_ivf(index)
    inner.cp.seed = seed
    inner.cp.min_points_per_centroid = 1  # FAISS warns below 39; the sample is what there is
    inner.cp.max_points_per_centroid = max(1, len(sample) // cells + 1)
    index.train(sample)
    return index


def _set_aside(index: Any, folder: Path, number: int) -> Path:
    """Write what the index holds to a part file and empty it."""
    part = folder / f"part-{number:05d}.faiss"
    faiss.write_index(index, str(part))
    index.reset()
    return part


def _merge(index: Any, parts: list[Path], lists_file: Path, later: Path) -> None:
    """Merge the cells of parts, cell by cell, into one file; the index will look for it `later`."""
    lists = [_cells_of(part) for part in parts]
    inner = faiss.extract_index_ivf(index)
    merged = faiss.OnDiskInvertedLists(inner.nlist, inner.code_size, str(lists_file))
    pointers = faiss.InvertedListsPtrVector()
    for one in lists:
        pointers.push_back(one)
    total = merged.merge_from_multiple(pointers.data(), pointers.size(), False, False)
    inner.ntotal = index.ntotal = total
    merged.filename = str(later)
    inner.replace_invlists(merged, True)
    merged.this.disown()  # the index deletes it


def _cells_of(part: Path) -> Any:
    index = faiss.read_index(str(part), faiss.IO_FLAG_MMAP)  # named: it owns what is extracted
    inner = faiss.extract_index_ivf(index)
    inner.own_invlists = False  # they outlive the index that they came with
    return inner.invlists
