"""The torch DataLoader gives every row once an epoch, in an order that seed and epoch decide."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from storage.brick_store import BrickRecord, allocate, create_survey, record_bricks, write_cutouts
from storage.repository import fork, merge, open_repository, transaction
from storage.schema import BrickState, SurveyLayout, catalogue_columns
from tasks.loaders import CutoutLoader, CutoutStream, cutout_dataloader
from tasks.references import SnapshotRef

SURVEY, SIZE, BANDS = "dr10/south", 4, ("g", "r")
COUNTS = (70, 3, 64)  # objects a brick: five shards, three of them padded
TOTAL = sum(COUNTS)


def _block(count: int, brickid: int) -> xr.Dataset:
    """Return cutouts whose pixels say who they are."""
    shape = (count, len(BANDS), SIZE, SIZE)
    who = brickid * 1000 + np.arange(count)
    columns = catalogue_columns(BANDS)
    ids = {"release": np.int32, "brickid": np.int32, "ra": np.float64, "dec": np.float64}
    arrays = {name: ("object", np.full(count, brickid, dtype)) for name, dtype in ids.items()}
    cube = ("object", "band", "y", "x")
    return xr.Dataset(
        arrays
        | {
            "image": (cube, np.broadcast_to(who[:, None, None, None], shape).astype(np.float32)),
            "invvar": (cube, np.ones(shape, np.float32)),
            "maskbits": (("object", "y", "x"), np.ones((count, SIZE, SIZE), np.int32)),
            "objid": ("object", np.arange(count, dtype=np.int64)),
            "type": ("object", np.zeros(count, np.uint8)),
            "catalogue": (("object", "column"), np.zeros((count, len(columns)), np.float32)),
        },
        coords={"band": list(BANDS), "column": list(columns)},
    )


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> SnapshotRef:
    store: Path = tmp_path_factory.mktemp("store")
    repository = open_repository(store / "survey", create=True)
    counts = {f"b{number}": count for number, count in enumerate(COUNTS)}
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, SurveyLayout(BANDS, SIZE))
        ranges = allocate(session, SURVEY, counts)
    with transaction(repository, "cutouts") as session:
        child, records = fork(session), []
        for number, (name, count) in enumerate(counts.items()):
            write_cutouts(child, SURVEY, ranges[name], _block(count, number))
            records.append(BrickRecord(name, number, BrickState.WRITTEN, ranges[name], count))
        merge(session, [child])
        record_bricks(session, SURVEY, records)
    newest = repository.lookup_branch("main")
    return SnapshotRef(store=str(store), survey=SURVEY, snapshot_id=newest)


@pytest.fixture
def loader(snapshot: SnapshotRef) -> CutoutLoader:
    plain = CutoutLoader(snapshot)
    return CutoutLoader(snapshot, plain.rows, {"target": plain.rows * 2.0}, seed=5)


def _rows(batches: list[dict[str, torch.Tensor]]) -> list[int]:
    return torch.cat([batch["rows"] for batch in batches]).tolist()


def _check_contents(batches: list[dict[str, torch.Tensor]], loader: CutoutLoader) -> None:
    who = np.concatenate([number * 1000 + np.arange(n) for number, n in enumerate(COUNTS)])
    for batch in batches:
        places = np.searchsorted(loader.rows, batch["rows"].numpy())
        assert batch["image"].shape[1:] == (len(BANDS), SIZE, SIZE)
        assert batch["image"].dtype == batch["invvar"].dtype == torch.float32
        assert batch["maskbits"].dtype == torch.int32
        assert batch["image"][:, 1, 2, 3].tolist() == who[places].tolist()
        assert batch["target"].tolist() == (2 * batch["rows"]).tolist()


def test_count_in_is_count_out_with_a_short_last_batch(loader):
    batches = list(cutout_dataloader(loader, 32))
    assert [len(batch["rows"]) for batch in batches] == [32, 32, 32, 32, TOTAL - 128]
    assert sorted(_rows(batches)) == loader.rows.tolist()
    _check_contents(batches, loader)


def test_length_is_the_number_of_batches(loader):
    assert len(cutout_dataloader(loader, 32)) == 5
    assert len(cutout_dataloader(loader, TOTAL)) == 1


def test_epochs_differ_and_the_seed_repeats_them(loader, snapshot):
    one, two = cutout_dataloader(loader, 50), cutout_dataloader(loader, 50)
    epochs = [_rows(list(one)) for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [_rows(list(two)) for _ in range(3)] == epochs
    other = cutout_dataloader(CutoutLoader(snapshot, loader.rows, seed=6), 50)
    assert _rows(list(other)) != epochs[0]


def test_rows_ascend_without_a_shuffle(loader):
    assert _rows(list(cutout_dataloader(loader, 50, shuffle=False))) == loader.rows.tolist()


@pytest.mark.slow
def test_workers_share_the_rows(loader):
    batches = cutout_dataloader(loader, 32, num_workers=2)
    batches.dataset.epoch = 3  # the processes, which take seconds to start, are told of the fifth
    found = list(batches)
    assert len(batches) == len(found)
    assert sorted(_rows(found)) == loader.rows.tolist()
    _check_contents(found, loader)
    assert sorted(_rows([batch]) for batch in found) == sorted(_rows_of_shares(batches.dataset, 4))
    again = list(batches)
    assert sorted(_rows(again)) == loader.rows.tolist()
    assert _rows(again) != _rows(found)


def _rows_of_shares(stream: CutoutStream, epoch: int) -> list[list[int]]:
    """Return the rows of the batches of two workers in an epoch, read in this process."""
    found = []
    for number in range(2):
        part = CutoutLoader(stream._snapshot, stream._rows[stream._share(number)], seed=5)
        shuffle = np.random.default_rng((5, epoch))
        found += [batch["rows"].tolist() for batch in part.batches(32, shuffle)]
    return found


def test_more_workers_than_shards_leave_none_out(loader):
    stream = CutoutStream(loader, 32, shuffle=True, num_workers=9)
    shares = np.array([stream._share(number) for number in range(9)])
    assert (shares.sum(axis=0) == 1).all()
