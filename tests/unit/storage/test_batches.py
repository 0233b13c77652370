"""Every row once, in chunk order or shuffled, short last batch kept."""

import numpy as np
import pytest
import zarr

from storage.batches import iterate_batches, iterate_centres, read_cutouts
from storage.brick_store import ledger, valid_rows
from storage.errors import CorruptFile, SchemaMismatch
from storage.repository import read_session, transaction
from storage.schema import PIXEL_ARRAYS

SURVEY = "dr10/south"


@pytest.fixture
def survey(repository, ingest, make_block):
    ingest(repository, {f"b{i}": make_block(n, brickid=i) for i, n in enumerate((70, 3, 64))})
    return read_session(repository)


@pytest.fixture
def rows(survey):
    return valid_rows(ledger(survey, SURVEY))


def _truth(session) -> dict[str, np.ndarray]:
    group = zarr.open_group(session.store, path=SURVEY, mode="r")
    return {name: group[name][:] for name in PIXEL_ARRAYS}


@pytest.mark.parametrize("batch_size", [1, 16, 50, 64, 137, 1000])
@pytest.mark.parametrize("seed", [None, 7])
def test_every_row_comes_once_with_its_own_pixels(survey, rows, batch_size, seed):
    shuffle = None if seed is None else np.random.default_rng(seed)
    batches = list(iterate_batches(survey, SURVEY, rows, batch_size, shuffle=shuffle))
    sizes = [len(batch.rows) for batch in batches]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == len(rows) == 137
    found = np.concatenate([batch.rows for batch in batches])
    assert sorted(found) == sorted(rows)
    truth = _truth(survey)
    for batch in batches:
        assert batch.image.dtype == np.float32
        np.testing.assert_array_equal(batch.image, truth["image"][batch.rows])
        np.testing.assert_array_equal(batch.invvar, truth["invvar"][batch.rows])
        np.testing.assert_array_equal(batch.maskbits, truth["maskbits"][batch.rows])


def test_the_central_square_of_every_cutout(survey, rows):
    truth = _truth(survey)
    batches = list(iterate_centres(survey, SURVEY, rows, 50, crop=5))
    np.testing.assert_array_equal(np.concatenate([batch.rows for batch in batches]), rows)
    for batch in batches:
        for name, values in batch.pixels.items():
            np.testing.assert_array_equal(values, truth[name][batch.rows][..., 2:7, 2:7])


def test_batches_stay_valid_while_they_are_held(survey, rows):
    # The memory of a batch is used again only once nobody holds it.
    held = [(batch.rows, batch.image) for batch in iterate_batches(survey, SURVEY, rows, 8)]
    truth = _truth(survey)["image"]
    for batch_rows, image in held:
        np.testing.assert_array_equal(image, truth[batch_rows])


def test_rows_ascend_without_a_shuffle(survey, rows):
    mixed = np.random.default_rng(0).permutation(rows)
    batches = iterate_batches(survey, SURVEY, mixed, 16)
    np.testing.assert_array_equal(np.concatenate([b.rows for b in batches]), rows)


def test_the_same_seed_gives_the_same_order_and_another_seed_another(survey, rows):
    def order(seed: int) -> list[int]:
        shuffle = np.random.default_rng(seed)
        batches = iterate_batches(survey, SURVEY, rows, 16, shuffle=shuffle, fields=["maskbits"])
        return [row for batch in batches for row in batch.rows.tolist()]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != sorted(order(1))


def test_only_the_fields_asked_for_are_read(survey, rows):
    batch = next(iterate_batches(survey, SURVEY, rows, 4, fields=["invvar"]))
    assert list(batch.pixels) == ["invvar"]
    with pytest.raises(KeyError):
        _ = batch.image


def test_padding_reads_as_no_data(survey):
    pixels = read_cutouts(survey, SURVEY, [127])
    assert all((pixels[name] == 0).all() for name in PIXEL_ARRAYS)


def test_single_reads_keep_the_order_asked_for(survey):
    wanted = [130, 5, 69, 5]
    found = read_cutouts(survey, SURVEY, wanted)
    truth = _truth(survey)
    for name in PIXEL_ARRAYS:
        np.testing.assert_array_equal(found[name], truth[name][wanted])


def test_no_rows_give_no_batches_and_empty_arrays(survey):
    assert list(iterate_batches(survey, SURVEY, [], 4)) == []
    assert read_cutouts(survey, SURVEY, [])["image"].shape == (0, 3, 8, 8)


def test_impossible_requests_are_refused(survey):
    with pytest.raises(SchemaMismatch, match="batch size 0"):
        iterate_batches(survey, SURVEY, [0], 0)
    with pytest.raises(SchemaMismatch, match="batch size 0"):
        iterate_centres(survey, SURVEY, [0], 0, crop=4)
    with pytest.raises(SchemaMismatch, match="the cutouts have 8 x 8"):
        iterate_centres(survey, SURVEY, [0], 4, crop=9)
    with pytest.raises(SchemaMismatch, match="choose among"):
        iterate_batches(survey, SURVEY, [0], 4, fields=["flux"])
    with pytest.raises(IndexError, match="ledger of the same snapshot"):
        iterate_batches(survey, SURVEY, [100000], 4)


def test_a_consumer_that_stops_early_leaves_no_thread(survey, rows):
    import threading

    iterator = iterate_batches(survey, SURVEY, rows, 4)
    next(iterator)
    iterator.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_other_codecs_are_refused_not_misread(repository):
    with transaction(repository, "foreign") as session:
        group = zarr.create_group(session.store, path="x/y")
        group.create_array("image", shape=(64, 1, 2, 2), chunks=(64, 1, 2, 2), dtype="float32")
        with pytest.raises(SchemaMismatch, match="as storage.arrays writes them"):
            iterate_batches(session, "x/y", [0], 1, fields=["image"])


def test_a_damaged_chunk_is_an_error_not_noise(repository, survey, tmp_path):
    for chunk in (tmp_path / "survey" / "chunks").iterdir():
        data = bytearray(chunk.read_bytes())
        data[: len(data) // 2] = b"\xff" * (len(data) // 2)
        chunk.write_bytes(bytes(data))
    with pytest.raises(CorruptFile, match="cannot be decoded: ingest its brick again"):
        read_cutouts(read_session(repository), SURVEY, [0], ["invvar"])
