"""Iterate over the cutouts of a survey as numpy batches, in chunk order or shuffled in blocks.

Random single reads are thirty times slower than reads in chunk order, so a shuffle permutes the
shards, then the cutouts inside blocks of some shards. Threads read ahead of the consumer.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt

from storage.errors import SchemaMismatch
from storage.row_decoder import Rows
from storage.schema import PIXEL_ARRAYS, SHARD_ROWS
from storage.shard_reader import Pixels, ShardReader

# A block of 512 cutouts of 3 x 152 x 152 is 330 MB with all fields. Up to three are in memory: one
# read ahead, one handed out, one that the consumer still holds. They are kept for the next pass.
SHUFFLE_BLOCK_ROWS = 512
READ_THREADS = 2
_BLOCKS_AHEAD = 1


@dataclass(frozen=True)
class Batch:
    """Cutouts as the network wants them; the last batch of a pass may be short.

    Parameters
    ----------
    rows : ndarray, shape (n,), int64
        Rows on the survey's object axis.
    pixels : dict of str to ndarray
        The fields asked for: ``image`` (n, band, y, x) float32 [unit of the survey], ``invvar``
        (n, band, y, x) float32, ``maskbits`` (n, y, x) int32.
    """

    rows: Rows
    pixels: Pixels

    @property
    def image(self) -> npt.NDArray[np.float32]:
        """Return the pixels, float32: within 1/32,000 of their noise."""
        return self.pixels["image"]

    @property
    def invvar(self) -> npt.NDArray[np.float32]:
        """Return the inverse variance, float32; 0 means no data."""
        return self.pixels["invvar"]

    @property
    def maskbits(self) -> npt.NDArray[np.int32]:
        """Return the mask bits, int32."""
        return self.pixels["maskbits"]


def iterate_batches(
    session: icechunk.Session,
    survey_key: str,
    rows: Sequence[int] | Rows,
    batch_size: int,
    *,
    shuffle: np.random.Generator | None = None,
    fields: Sequence[str] = PIXEL_ARRAYS,
) -> Iterator[Batch]:
    """Yield every given row exactly once, in batches.

    Parameters
    ----------
    rows : sequence of int
        Rows to read, each once; `storage.brick_store.valid_rows` gives all. Padding rows read as
        zeros.
    batch_size : int
        Cutouts a batch; the last may be shorter, and is never dropped.
    shuffle : Generator, optional
        Source of the shuffle; without it the rows come in ascending order.
    fields : sequence of str
        Which of "image", "invvar" and "maskbits" to read; fewer is faster.

    Raises
    ------
    SchemaMismatch
        When ``batch_size`` is below 1 or a field is unknown.
    IndexError
        When a row is outside the arrays.
    """
    return _batches(ShardReader(session, survey_key, fields, len(rows)), rows, batch_size, shuffle)


def iterate_centres(
    session: icechunk.Session,
    survey_key: str,
    rows: Sequence[int] | Rows,
    batch_size: int,
    crop: int,
) -> Iterator[Batch]:
    """Yield the central squares of cutouts, for who uses no more; else as `iterate_batches`.

    The rows come in ascending order, with all fields.

    Parameters
    ----------
    crop : int
        Side of the square [pixel]; the object is in its pixel (crop // 2, crop // 2).

    Raises
    ------
    SchemaMismatch
        When ``batch_size`` is below 1 or cutouts are smaller than ``crop``.
    """
    reader = ShardReader(session, survey_key, n_rows=len(rows), crop=crop)
    return _batches(reader, rows, batch_size, None)


def read_cutouts(
    session: icechunk.Session,
    survey_key: str,
    rows: Sequence[int] | Rows,
    fields: Sequence[str] = PIXEL_ARRAYS,
) -> Pixels:
    """Return the cutouts of these rows, in the order given, as one array a field."""
    reader = ShardReader(session, survey_key, fields, len(rows))
    wanted = reader.check_rows(rows)
    parts = list(_iterate(reader, iter([wanted]), max(1, len(wanted))))
    return parts[0].pixels if parts else reader.empty(0)


def _batches(
    reader: ShardReader,
    rows: Sequence[int] | Rows,
    batch_size: int,
    shuffle: np.random.Generator | None,
) -> Iterator[Batch]:
    if batch_size < 1:
        raise SchemaMismatch(f"batch size {batch_size}: give at least 1")
    return _iterate(reader, _blocks(reader.check_rows(rows), batch_size, shuffle), batch_size)


def _blocks(rows: Rows, batch_size: int, shuffle: np.random.Generator | None) -> Iterator[Rows]:
    """Cut the pass into blocks of whole batches, each in its final order."""
    ordered = np.sort(rows)
    if shuffle is None:
        length = batch_size
    else:
        length = batch_size * max(1, SHUFFLE_BLOCK_ROWS // batch_size)
        edges = np.flatnonzero(np.diff(ordered // SHARD_ROWS)) + 1
        shards = np.split(ordered, edges)
        ordered = np.concatenate([shards[i] for i in shuffle.permutation(len(shards))])
    for start in range(0, len(ordered), length):
        block = ordered[start : start + length]
        yield block if shuffle is None else shuffle.permutation(block)


def _iterate(reader: ShardReader, blocks: Iterator[Rows], batch_size: int) -> Iterator[Batch]:
    executor = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read-ahead")
    pending: deque[tuple[Rows, Pixels, list[Future[None]]]] = deque()
    try:
        for block in blocks:
            pending.append((block, *_start(executor, reader, block)))
            if len(pending) > _BLOCKS_AHEAD:
                yield from _finish(*pending.popleft(), batch_size)
        while pending:
            yield from _finish(*pending.popleft(), batch_size)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        reader.close()


def _start(
    executor: ThreadPoolExecutor, reader: ShardReader, block: Rows
) -> tuple[Pixels, list[Future[None]]]:
    pixels = reader.empty(len(block))
    shards = block // SHARD_ROWS
    order = np.argsort(block, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(shards[order])) + 1) if len(block) else []
    futures = [
        executor.submit(reader.read_into, pixels, places, block[places]) for places in groups
    ]
    return pixels, futures


def _finish(
    block: Rows, pixels: dict[str, Any], futures: list[Future[None]], batch_size: int
) -> Iterator[Batch]:
    for future in futures:
        future.result()
    for start in range(0, len(block), batch_size):
        part = slice(start, start + batch_size)
        yield Batch(block[part], {name: values[part] for name, values in pixels.items()})
