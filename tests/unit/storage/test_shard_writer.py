"""Zarr reads what the shard writer wrote, and the shard reader reads what Zarr wrote."""

import asyncio

import numpy as np
import pytest

from storage import arrays
from storage.batches import read_cutouts
from storage.brick_store import allocate, create_survey
from storage.errors import CorruptFile, SchemaMismatch
from storage.repository import transaction
from storage.schema import PIXEL_ARRAYS, SHARD_ROWS
from storage.shard_layout import INDEX_BYTES, codec_of, pack_shard, spans
from storage.shard_writer import ShardWriter

SURVEY = "dr10/south"


@pytest.fixture
def session(repository, layout):
    with transaction(repository, "room") as session:
        create_survey(session, SURVEY, layout)
        allocate(session, SURVEY, {"a": 70})
        yield session


@pytest.fixture
def pixel_arrays(session):
    group = arrays.open_group(session, SURVEY, "r+")
    return {name: arrays.get_array(group, name) for name in PIXEL_ARRAYS}


def _values(pixel_arrays, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    return {
        name: rng.integers(-9, 9, (count, *array.shape[1:])).astype(array.dtype)
        for name, array in pixel_arrays.items()
    }


@pytest.mark.parametrize("count", [SHARD_ROWS, 22, 0])
def test_zarr_reads_the_shards(session, pixel_arrays, count):
    values = _values(pixel_arrays, count)
    writer = ShardWriter(session, pixel_arrays)
    writer.write(SHARD_ROWS, _values(pixel_arrays, SHARD_ROWS))
    writer.write(SHARD_ROWS, values)
    for name, array in pixel_arrays.items():
        found = array[:]
        np.testing.assert_array_equal(found[SHARD_ROWS : SHARD_ROWS + count], values[name])
        assert not found[:SHARD_ROWS].any()
        assert not found[SHARD_ROWS + count :].any()


def test_the_reader_reads_the_shards_of_zarr(session, pixel_arrays):
    values = _values(pixel_arrays, SHARD_ROWS)
    for name, array in pixel_arrays.items():
        array[:SHARD_ROWS] = values[name]
    found = read_cutouts(session, SURVEY, np.arange(SHARD_ROWS)[::-1])
    for name in PIXEL_ARRAYS:
        np.testing.assert_array_equal(found[name], values[name][::-1])


def test_it_can_write_where_an_event_loop_is_running(session, pixel_arrays):
    values = _values(pixel_arrays, 3)

    async def write() -> None:
        ShardWriter(session, pixel_arrays).write(0, values)

    asyncio.run(write())
    np.testing.assert_array_equal(pixel_arrays["image"][:3], values["image"])


def test_empty_chunks_are_not_stored():
    packed = np.frombuffer(pack_shard([b"abc", None, b"de"]), np.uint8)
    assert len(packed) == 5 + INDEX_BYTES
    assert spans(packed, [0, 1, 2, 3], "x") == [(0, 3), None, (3, 5), None]
    assert spans(packed[-INDEX_BYTES:], [2], "x") == [(3, 5)]


@pytest.mark.parametrize("keep", [slice(0, 7), slice(0, -1)])
def test_a_cut_or_damaged_index_is_an_error(keep):
    packed = np.frombuffer(pack_shard([b"abc"]), np.uint8)[keep]
    with pytest.raises(CorruptFile, match="c/0: the index of the shard is damaged"):
        spans(packed, [0], "c/0")


def test_arrays_of_another_layout_are_refused(session):
    group = arrays.open_group(session, SURVEY, "r+")
    with pytest.raises(SchemaMismatch, match="as storage.arrays writes them"):
        codec_of(arrays.get_array(group, "ra"))
