"""The index finds true neighbours, whatever its kind, and says what it cannot know."""

import numpy as np
import pytest

from storage.errors import SchemaMismatch
from storage.search.vector_index import (
    LISTS_FILE,
    IndexConfig,
    build_index,
    bytes_needed,
    centred,
    check_room,
    open_index,
)

WIDTH = 16
EXACT = IndexConfig()
CELLS = IndexConfig(exact_below=10, probes=8)
MERGED = IndexConfig(exact_below=10, probes=8, memory_vectors=700)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(5)
    kinds = rng.normal(size=(40, WIDTH))
    found = kinds[rng.integers(0, 40, 3000)] + 0.4 * rng.normal(size=(3000, WIDTH)) + 7
    return found.astype(np.float16)


@pytest.fixture
def build(tmp_path, vectors):
    """Return a function that builds and opens an index of the vectors; rows go up in threes."""

    def run(config, total=None):
        blocks = (
            (np.arange(start, min(start + 256, 3000)) * 3, vectors[start : start + 256])
            for start in range(0, 3000, 256)
        )
        build_index(tmp_path, blocks, vectors[::2], total or 3000, config)
        return open_index(tmp_path, config.probes)

    return run


def true_neighbours(vectors, queries, number):
    mean = vectors[::2].mean(axis=0, dtype=np.float64).astype(np.float32)
    unit = centred(vectors, mean)
    return np.argsort(-(unit[queries] @ unit.T), axis=1)[:, :number] * 3


def overlap(found, true):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, true, strict=True)])


@pytest.mark.parametrize(("config", "least"), [(EXACT, 0.99), (CELLS, 0.9), (MERGED, 0.9)])
def test_neighbours_are_the_true_ones(build, vectors, config, least):
    index = build(config)
    assert (len(index), index.width) == (3000, WIDTH)
    similarity, rows = index.search(vectors[:200], 10)
    assert overlap(rows, true_neighbours(vectors, np.arange(200), 10)) >= least
    assert (rows[:, 0] == np.arange(200) * 3).mean() > 0.99
    assert (np.diff(similarity, axis=1) <= 1e-5).all()
    assert similarity[:, 0] == pytest.approx(1, abs=2e-3)


def test_looking_into_few_cells_finds_less(build, tmp_path, vectors):
    build(CELLS)
    true = true_neighbours(vectors, np.arange(200), 10)
    few, many = (
        overlap(open_index(tmp_path, n).search(vectors[:200], 10)[1], true) for n in (1, 8)
    )
    assert few < many


def test_an_index_larger_than_memory_equals_one_that_is_not(build, vectors, tmp_path):
    whole = build(CELLS).search(vectors[:50], 5)
    for file in tmp_path.iterdir():
        file.unlink()
    merged = build(MERGED).search(vectors[:50], 5)
    assert (tmp_path / LISTS_FILE).stat().st_size > 0
    assert not list(tmp_path.glob("part-*"))
    np.testing.assert_array_equal(whole[1], merged[1])
    np.testing.assert_allclose(whole[0], merged[0], atol=1e-6)


def test_a_moved_index_still_opens(build, vectors, tmp_path, tmp_path_factory):
    before = build(MERGED).search(vectors[:5], 3)[1]
    other = tmp_path_factory.mktemp("other")
    for file in list(tmp_path.iterdir()):
        file.rename(other / file.name)
    np.testing.assert_array_equal(open_index(other, 8).search(vectors[:5], 3)[1], before)


def test_more_neighbours_than_vectors_are_marked(tmp_path):
    few = np.eye(4, dtype=np.float16)
    build_index(tmp_path, [(np.arange(4), few)], few, 4, EXACT)
    similarity, rows = open_index(tmp_path, 1).search(few[:1], 6)
    assert (rows[0, 4:] == -1).all()
    assert (similarity[0, 4:] == -np.inf).all()


def test_what_all_vectors_have_in_common_does_not_count():
    mean = np.full(4, 100, np.float32)
    unit = centred(mean + np.eye(4, dtype=np.float32)[:2], mean)
    assert unit[0] @ unit[1] == 0
    assert not centred(mean[None], mean).any()  # not NaN


def test_another_number_of_vectors_than_promised_is_refused(build):
    with pytest.raises(SchemaMismatch, match="3000 vectors came for an index of 2999"):
        build(EXACT, total=2999)


def test_vectors_of_another_encoder_are_refused(build):
    with pytest.raises(SchemaMismatch, match="index of width 16"):
        build(EXACT).search(np.zeros((1, 12), np.float32), 3)


def test_cells_grow_with_the_root_of_the_vectors():
    config = IndexConfig()
    assert config.cells(19_999) == 0
    assert config.cells(1_000_000) == 4000
    assert config.cells(76_000_000) == config.most_cells
    assert config.sample_size(100) == 100
    assert config.sample_size(76_000_000) == 64 * config.most_cells


def test_a_full_disk_is_noticed_before_the_work(tmp_path):
    check_room(tmp_path, 1000, 192)
    with pytest.raises(SchemaMismatch, match="make room"):
        check_room(tmp_path, 10**15, 192)
    assert bytes_needed(76_000_000, 192) / 2**30 == pytest.approx(27.7, abs=0.1)
