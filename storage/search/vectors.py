"""The embeddings of a survey as a stream of blocks, of bricks that are up to date only.

A brick that was ingested again, or withdrawn, has embeddings of pixels that are gone: it is left
out, and counted, until the embed flow has been there.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr

from storage import arrays, embedding_store
from storage.brick_ledger import ledger
from storage.schema import BrickState

BLOCK_ROWS = (
    65_536  # of a survey's axis: 25 MB of the nano encoder's embeddings, 100 MB of width 768
)
_COLUMNS = ("state", "row_start", "n_objects", "content_digest", "config_digest")

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float16]


@dataclass(frozen=True)
class EmbeddedRows:
    """Which rows of a survey hold embeddings by an encoder that are up to date.

    Parameters
    ----------
    encoder_digest, survey_key : str
    bricknames : ndarray, shape (brick,), str
        In the order of their rows.
    starts, counts : ndarray, shape (brick,), int64
        First row and number of objects of each brick.
    left_out : int
        Bricks of the survey that have no embeddings, or outdated ones.
    digest : str
        Of the above and of what the embeddings were made from: equal digests, equal embeddings.
    """

    encoder_digest: str
    survey_key: str
    bricknames: npt.NDArray[np.object_]
    starts: Rows
    counts: Rows
    left_out: int
    digest: str

    @property
    def total(self) -> int:
        """Return the number of embeddings."""
        return int(self.counts.sum())

    @property
    def group(self) -> str:
        """Return the group of the arrays in the repository of embeddings."""
        return embedding_store.embedding_group(self.encoder_digest, self.survey_key)


def embedded_rows(
    embeddings: icechunk.Session, survey: icechunk.Session, encoder_digest: str, survey_key: str
) -> EmbeddedRows:
    """Compare the ledgers of a survey and of its embeddings.

    Parameters
    ----------
    embeddings, survey : Session
        Of the two repositories of a store.
    """
    table = ledger(survey, survey_key, _COLUMNS)
    written = table[table["state"] == int(BrickState.WRITTEN)]
    embedded = embedding_store.embedding_ledger(embeddings, encoder_digest, survey_key)
    missing = embedding_store.pending(table, embedded).index
    current = written.drop(index=missing).sort_values("row_start")
    return EmbeddedRows(
        encoder_digest=encoder_digest,
        survey_key=survey_key,
        bricknames=current.index.to_numpy(dtype=object),
        starts=current["row_start"].to_numpy(dtype=np.int64),
        counts=current["n_objects"].to_numpy(dtype=np.int64),
        left_out=len(missing),
        digest=_digest(encoder_digest, survey_key, current),
    )


def iterate_vectors(
    session: icechunk.Session, rows: EmbeddedRows, block_rows: int = BLOCK_ROWS
) -> Iterator[tuple[Rows, Vectors]]:
    """Yield all rows with their embeddings, ascending; the memory is that of one block.

    Parameters
    ----------
    session : Session
        Of the repository of embeddings.
    block_rows : int
        Rows of the axis, padding included, that are read at a time; a larger brick is one block.
    """
    array = arrays.get_array(arrays.open_group(session, rows.group), "embedding")
    for bricks in _slabs(rows, block_rows):
        yield _read(array, rows, bricks)


def sample_vectors(
    session: icechunk.Session, rows: EmbeddedRows, size: int, seed: int
) -> tuple[Rows, Vectors]:
    """Return a random sample of embeddings, with their rows, ascending.

    Whole bricks are read, drawn at random until there are some more objects than asked for, and
    the sample is drawn from these: objects of few bricks where the sample is a small one.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows.starts))
    wanted = min(rows.total, 4 * size)  # more than needed, so that a sample has many bricks
    enough = int(np.searchsorted(np.cumsum(rows.counts[order]), wanted)) + 1
    array = arrays.get_array(arrays.open_group(session, rows.group), "embedding")
    drawn = rows.counts[order[:enough]].sum()
    share = min(1.0, size / drawn) if drawn else 1.0
    kept = [_thinned(*_read(array, rows, [brick]), share, rng) for brick in np.sort(order[:enough])]
    if not kept:
        return np.empty(0, np.int64), np.empty((0, array.shape[1]), np.float16)
    found, vectors = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return found[:size], vectors[:size]


def _thinned(
    rows: Rows, vectors: Vectors, share: float, rng: np.random.Generator
) -> tuple[Rows, Vectors]:
    """Keep a random share of the objects of a brick, rounded up."""
    number = min(len(rows), int(np.ceil(share * len(rows))))
    chosen = np.sort(rng.permutation(len(rows))[:number])
    return rows[chosen], vectors[chosen]


def _slabs(rows: EmbeddedRows, block_rows: int) -> Iterator[list[int]]:
    """Group bricks whose rows lie near one another, so that one read brings them all."""
    slab: list[int] = []
    for brick in range(len(rows.starts)):
        stop = rows.starts[brick] + rows.counts[brick]
        if slab and stop - rows.starts[slab[0]] > block_rows:
            yield slab
            slab = []
        slab.append(brick)
    if slab:
        yield slab


def _read(array: "zarr.Array[Any]", rows: EmbeddedRows, bricks: list[int]) -> tuple[Rows, Vectors]:
    starts, counts = rows.starts[bricks], rows.counts[bricks]
    wanted = np.concatenate(
        [np.arange(a, a + n) for a, n in zip(starts, counts, strict=True)]
    ).astype(np.int64)
    return wanted, arrays.take_rows(array, wanted)


def _digest(encoder_digest: str, survey_key: str, current: pd.DataFrame) -> str:
    parts = pd.DataFrame(
        {
            "start": current["row_start"].astype(str),
            "count": current["n_objects"].astype(str),
            "version": embedding_store.brick_version(current),
        }
    )
    lines = parts["start"] + " " + parts["count"] + " " + parts["version"]
    text = "\n".join([encoder_digest, survey_key, *lines])
    return hashlib.sha256(text.encode()).hexdigest()
