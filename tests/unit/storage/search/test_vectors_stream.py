"""The stream of embeddings: every row once, bricks that are out of date left out and counted."""

import shutil

import numpy as np
import pytest
from embedded_survey import DIGEST, SURVEY, clustered, embed_bricks, make_survey

from storage.brick_store import BrickRecord, RowRange, ledger, record_bricks
from storage.repository import open_repository, read_session, transaction
from storage.schema import BrickState
from storage.search.vectors import embedded_rows, iterate_vectors, sample_vectors
from tasks.settings import Settings

COUNT = 30


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a home with a survey, and its bricks: a test copies what takes a second to write."""
    settings = Settings(home=tmp_path_factory.mktemp("made"))
    return settings.home, make_survey(settings, 3, 2, COUNT)


@pytest.fixture
def bricks(settings, made):
    home, bricks = made
    shutil.copytree(home, settings.home)
    return bricks


def sessions(settings):
    store = settings.home / "store"
    return [read_session(open_repository(store / name)) for name in ("embeddings", "survey")]


def rows_of(settings):
    return embedded_rows(*sessions(settings), DIGEST, SURVEY)


@pytest.mark.parametrize("block_rows", [1, 100, 10_000])
def test_every_embedding_comes_once_in_order(settings, bricks, block_rows):
    values = clustered(bricks, COUNT)
    embed_bricks(settings, values)
    rows = rows_of(settings)
    assert (rows.total, rows.left_out) == (6 * COUNT, 0)
    blocks = list(iterate_vectors(sessions(settings)[0], rows, block_rows))
    found = np.concatenate([block[0] for block in blocks])
    assert (np.diff(found) > 0).all()
    assert len(found) == 6 * COUNT
    expected = np.concatenate([values[name] for name in rows.bricknames]).astype(np.float16)
    np.testing.assert_array_equal(np.concatenate([block[1] for block in blocks]), expected)
    assert max(len(block[0]) for block in blocks) <= max(COUNT, block_rows)


def test_bricks_without_embeddings_are_left_out_and_counted(settings, bricks):
    values = clustered(bricks, COUNT)
    embed_bricks(settings, {name: values[name] for name in list(values)[:4]})
    rows = rows_of(settings)
    assert (rows.total, rows.left_out) == (4 * COUNT, 2)
    assert set(rows.bricknames) == set(list(values)[:4])


def test_a_brick_that_changed_since_is_left_out_and_changes_the_digest(settings, bricks):
    embed_bricks(settings, clustered(bricks, COUNT))
    before = rows_of(settings)
    repository = open_repository(settings.home / "store" / "survey")
    table = ledger(read_session(repository), SURVEY)
    name = bricks[0].brickname
    owned = RowRange(int(table.at[name, "row_start"]), int(table.at[name, "rows"]))
    record = BrickRecord(
        name, bricks[0].brickid, BrickState.WRITTEN, owned, COUNT, content_digest="other"
    )
    with transaction(repository, "again") as session:
        record_bricks(session, SURVEY, [record])
    after = rows_of(settings)
    assert (after.total, after.left_out) == (5 * COUNT, 1)
    assert name not in after.bricknames
    assert before.digest != after.digest


def test_the_digest_is_that_of_the_embeddings_alone(settings, bricks):
    embed_bricks(settings, clustered(bricks, COUNT))
    before = rows_of(settings).digest
    embed_bricks(settings, clustered(bricks, COUNT), digest="f" * 64)  # another snapshot id
    assert rows_of(settings).digest == before


def test_a_sample_is_random_seeded_and_no_larger_than_asked_for(settings, bricks):
    values = clustered(bricks, COUNT)
    embed_bricks(settings, values)
    rows, session = rows_of(settings), sessions(settings)[0]
    found, vectors = sample_vectors(session, rows, 40, seed=1)
    assert len(found) == len(vectors) == 40
    assert len(np.unique(found)) == 40
    assert len(np.unique(np.searchsorted(rows.starts, found, side="right"))) >= 4
    np.testing.assert_array_equal(sample_vectors(session, rows, 40, seed=1)[0], found)
    assert (sample_vectors(session, rows, 40, seed=2)[0] != found).any()
    everything, _ = sample_vectors(session, rows, 10_000, seed=1)
    assert len(everything) == rows.total
