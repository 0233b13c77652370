"""Cutouts of a snapshot as batches for the model: the one place where both worlds meet."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lvm.encoder import EncoderConfig
from storage.batches import iterate_batches, read_cutouts
from storage.brick_store import ledger, read_layout, valid_rows
from storage.schema import SHARD_ROWS
from tasks.references import SnapshotRef
from tasks.snapshots import open_snapshot

Rows = npt.NDArray[np.int64]
Columns = Mapping[str, npt.NDArray[Any]]
Tensors = dict[str, torch.Tensor]


def load_cutouts(snapshot: SnapshotRef, rows: Rows) -> dict[str, npt.NDArray[Any]]:
    """Return the cutouts of some rows as one batch for the model, with their `rows`."""
    pixels = read_cutouts(open_snapshot(snapshot), snapshot.survey, rows)
    return {**pixels, "rows": np.asarray(rows)}


class EpochBatches:
    """The batches of one epoch, with a length, in an order that its seed decides."""

    def __init__(self, loader: "CutoutLoader", batch_size: int, seed: tuple[int, int]) -> None:
        self._loader, self._batch_size, self._seed = loader, batch_size, seed

    def __len__(self) -> int:
        """Return the number of batches, a short last one included."""
        return math.ceil(len(self._loader.rows) / self._batch_size)

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield the batches, each with `rows` and the columns of the loader."""
        shuffle = np.random.default_rng(self._seed)
        yield from self._loader.batches(self._batch_size, shuffle)


class CutoutLoader:
    """Rows of a snapshot, and what is known of them, as batches.

    Parameters
    ----------
    snapshot : SnapshotRef
    rows : ndarray, shape (n,), int64, optional
        Rows to load, in ascending order; all objects by default.
    columns : mapping of str to ndarray, shape (n, ...)
        What goes with every row into a batch, such as `target`.
    limit : int
        Keep at most this many rows, drawn with `seed`; 0 keeps all.
    """

    def __init__(
        self,
        snapshot: SnapshotRef,
        rows: Rows | None = None,
        columns: Columns | None = None,
        *,
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        self._session = open_snapshot(snapshot)
        self.snapshot = snapshot
        self.seed = seed
        self.layout = read_layout(self._session, snapshot.survey)
        if rows is None:
            rows = valid_rows(ledger(self._session, snapshot.survey))
        if limit and limit < len(rows):
            rows = np.sort(np.random.default_rng(seed).permutation(rows)[:limit])
        self.rows: Rows = np.asarray(rows, dtype=np.int64)
        self.columns = dict(columns or {})

    def encoder_config(self, config: EncoderConfig) -> EncoderConfig:
        """Return `config` with the bands and the cutout size of the survey."""
        return dataclasses.replace(config, bands=self.layout.bands, cutout_size=self.layout.size)

    def epoch(self, epoch: int, batch_size: int) -> EpochBatches:
        """Return the shuffled batches of an epoch: the same ones for the same epoch and seed."""
        return EpochBatches(self, batch_size, (self.seed, epoch))

    def batches(
        self, batch_size: int, shuffle: np.random.Generator | None = None
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield every row once; in ascending order unless a generator shuffles them."""
        found = iterate_batches(
            self._session, self.snapshot.survey, self.rows, batch_size, shuffle=shuffle
        )
        for batch in found:
            places = np.searchsorted(self.rows, batch.rows)
            extra = {name: values[places] for name, values in self.columns.items()}
            yield {**batch.pixels, "rows": batch.rows, **extra}


class CutoutStream(IterableDataset[Tensors]):
    """The batches of a `CutoutLoader` as tensors; made for `cutout_dataloader`.

    Each worker process reads whole shards that no other reads, and opens the snapshot by itself.
    """

    def __init__(
        self, loader: CutoutLoader, batch_size: int, *, shuffle: bool, num_workers: int
    ) -> None:
        self._snapshot, self._seed = loader.snapshot, loader.seed
        self._rows, self._columns = loader.rows, loader.columns
        self._batch_size, self._shuffle = batch_size, shuffle
        self._shares = max(1, num_workers)
        self.epoch = -1  # CutoutDataLoader counts

    def __len__(self) -> int:
        """Return the number of batches: the last one of every worker may be short."""
        shares = [np.count_nonzero(self._share(number)) for number in range(self._shares)]
        return sum(math.ceil(share / self._batch_size) for share in shares)

    def __iter__(self) -> Iterator[Tensors]:
        """Yield the batches of this process."""
        worker = get_worker_info()
        mine = self._share(worker.id if worker else 0)
        columns = {name: values[mine] for name, values in self._columns.items()}
        loader = CutoutLoader(self._snapshot, self._rows[mine], columns, seed=self._seed)
        shuffle = np.random.default_rng((self._seed, self.epoch)) if self._shuffle else None
        for batch in loader.batches(self._batch_size, shuffle):
            yield {name: torch.from_numpy(values) for name, values in batch.items()}

    def _share(self, number: int) -> npt.NDArray[np.bool_]:
        shards = np.unique(self._rows // SHARD_ROWS, return_inverse=True)[1]
        return np.asarray(shards % self._shares == number)


class CutoutDataLoader(DataLoader[Tensors]):
    """A torch DataLoader that tells its `CutoutStream` which epoch begins."""

    def __iter__(self) -> Any:
        """Start the next epoch; use one iterator at a time."""
        self.dataset.epoch += 1  # type: ignore[attr-defined]
        return super().__iter__()


def cutout_dataloader(
    loader: CutoutLoader,
    batch_size: int,
    *,
    shuffle: bool = True,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> CutoutDataLoader:
    """Return a torch DataLoader over every row of a loader, once an epoch.

    Parameters
    ----------
    loader : CutoutLoader
        Snapshot, rows, columns (numbers only) and seed.
    batch_size : int
        Cutouts a batch. The last batch, with workers the last of each, may be short.
    shuffle : bool
        Shuffle in blocks, otherwise in every epoch, but the same in the same epoch of another
        DataLoader with the same seed and number of workers. Without it rows ascend.
    num_workers : int
        Processes that read. 0 reads in two threads of this process, which is faster unless
        something else of the work holds Python's lock: workers copy every batch.
    pin_memory : bool
        Copy batches to page-locked memory, for a GPU.

    Returns
    -------
    DataLoader
        Of dicts of tensors: ``image`` (n, band, y, x) float32 [unit of the survey], ``invvar``
        alike, ``maskbits`` (n, y, x) int32, ``rows`` (n,) int64, and the columns.
    """
    stream = CutoutStream(loader, batch_size, shuffle=shuffle, num_workers=num_workers)
    return CutoutDataLoader(
        stream,
        batch_size=None,  # the stream makes batches
        num_workers=num_workers,
        pin_memory=pin_memory,
        # A forked process would hold locks of threads that it does not have.
        multiprocessing_context="spawn" if num_workers else None,
    )
