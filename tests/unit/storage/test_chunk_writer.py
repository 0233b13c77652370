"""The chunk writer leaves in the store just what Zarr would have left, or refuses."""

import asyncio

import numpy as np
import pytest
from zarr.buffer import default_buffer_prototype

from storage import arrays
from storage.chunk_writer import ChunkWriter
from storage.embedding_store import (
    EmbeddingLayout,
    create_embeddings,
    embedding_group,
    reserve_rows,
)
from storage.errors import SchemaMismatch
from storage.repository import transaction
from storage.schema import SHARD_ROWS, embedding_specs
from storage.shard_layout import chunk_key

SURVEY, DIGEST, WIDTH = "dr10/south", "f" * 64, 5
ROWS = 3 * SHARD_ROWS


@pytest.fixture
def session(repository):
    with transaction(repository, "room") as session:
        create_embeddings(session, SURVEY, EmbeddingLayout(DIGEST, WIDTH))
        reserve_rows(session, DIGEST, SURVEY, ROWS)
        yield session


@pytest.fixture
def group(session):
    return arrays.open_group(session, embedding_group(DIGEST, SURVEY), "r+")


@pytest.fixture
def chunked(group):
    return {spec.name: arrays.get_array(group, spec.name) for spec in embedding_specs()}


def _values(chunked, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {
        name: rng.integers(-9, 9, (rows, *array.shape[1:])).astype(array.dtype)
        for name, array in chunked.items()
    }


def _stored(session, key: str) -> bytes:
    buffer = asyncio.run(session.store.get(key, default_buffer_prototype()))
    return buffer.to_bytes()


def test_zarr_reads_the_rows_and_nothing_else_changed(session, chunked):
    writer = ChunkWriter(session, chunked)
    writer.write(0, _values(chunked, SHARD_ROWS))
    values = _values(chunked, 2 * SHARD_ROWS)
    writer.write(SHARD_ROWS, values)
    for name, array in chunked.items():
        np.testing.assert_array_equal(array[:SHARD_ROWS], _values(chunked, SHARD_ROWS)[name])
        np.testing.assert_array_equal(array[SHARD_ROWS:], values[name])


def test_the_bytes_are_those_that_zarr_writes(session, chunked):
    values = _values(chunked, SHARD_ROWS)
    for name, array in chunked.items():
        array[:SHARD_ROWS] = values[name]
    ChunkWriter(session, chunked).write(SHARD_ROWS, values)
    for array in chunked.values():
        assert _stored(session, chunk_key(array, 1)) == _stored(session, chunk_key(array, 0))


def test_a_chunk_that_is_all_fill_replaces_what_was_there(session, chunked):
    writer = ChunkWriter(session, chunked)
    writer.write(0, _values(chunked, SHARD_ROWS))
    fill = {
        name: np.full((SHARD_ROWS, *array.shape[1:]), array.fill_value, array.dtype)
        for name, array in chunked.items()
    }
    writer.write(0, fill)
    for name, array in chunked.items():
        np.testing.assert_array_equal(array[:SHARD_ROWS], fill[name])


@pytest.mark.parametrize(
    ("start", "shape", "dtype"),
    [
        (1, (SHARD_ROWS, WIDTH), "float16"),
        (0, (SHARD_ROWS - 1, WIDTH), "float16"),
        (2 * SHARD_ROWS, (2 * SHARD_ROWS, WIDTH), "float16"),
        (0, (SHARD_ROWS, WIDTH + 1), "float16"),
        (0, (SHARD_ROWS, WIDTH), "float32"),
    ],
)
def test_rows_that_do_not_fit_are_refused(session, chunked, start, shape, dtype):
    writer = ChunkWriter(session, {"embedding": chunked["embedding"]})
    with pytest.raises(SchemaMismatch, match="give whole chunks"):
        writer.write(start, {"embedding": np.zeros(shape, dtype)})
    assert not chunked["embedding"][:].any()


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (16, WIDTH), "shards": (64, WIDTH)},
        {"chunks": (16, 1)},
        {"chunks": (16, WIDTH), "compressors": None},
    ],
)
def test_another_layout_is_refused(session, group, layout):
    array = group.create_array("other", shape=(64, WIDTH), dtype="float32", **layout)
    with pytest.raises(SchemaMismatch, match="whole rows"):
        ChunkWriter(session, {"other": array})
