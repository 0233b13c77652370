"""Embeddings lie on the rows of the survey, know what they were made from, and go stale."""

import numpy as np
import pandas as pd
import pytest

from storage.brick_store import RowRange, ledger, valid_rows
from storage.embedding_store import (
    EmbeddedBrick,
    EmbeddingLayout,
    EmbeddingWriter,
    brick_version,
    create_embeddings,
    embedding_group,
    embedding_ledger,
    encoders_of,
    has_embeddings,
    pending,
    read_embeddings,
    record_embedded,
    reserve_rows,
)
from storage.errors import SchemaMismatch
from storage.repository import fork, merge, open_repository, read_session, transaction

SURVEY = "dr10/south"
DIGEST = "0123456789abcdef" + "f" * 48
GROUP = embedding_group(DIGEST, SURVEY)
WIDTH = 6


def _values(brickid: int, n_objects: int) -> np.ndarray:
    return (brickid + np.arange(n_objects * WIDTH).reshape(n_objects, WIDTH) / 64).astype("float32")


def _ids(brickid: int, n_objects: int) -> pd.DataFrame:
    return pd.DataFrame({"release": 10000, "brickid": brickid, "objid": np.arange(n_objects) * 3})


@pytest.fixture
def embed(tmp_path):
    """Return a function that embeds the bricks of a ledger and returns the repository."""

    def run(table: pd.DataFrame):
        repository = open_repository(tmp_path / "embeddings", create=True)
        with transaction(repository, "create") as session:
            create_embeddings(session, SURVEY, EmbeddingLayout(DIGEST, WIDTH, {"scale": 1}))
            reserve_rows(session, DIGEST, SURVEY, int((table["row_start"] + table["rows"]).max()))
        with transaction(repository, "embed") as session:
            forks, done = [], []
            for name, row in table.iterrows():
                rows = RowRange(int(row["row_start"]), int(row["rows"]))
                count, brickid = int(row["n_objects"]), int(row["brickid"])
                child = fork(session)
                values, ids = _values(brickid, count), _ids(brickid, count)
                EmbeddingWriter(child, GROUP).write(rows, values, ids)
                forks.append(child)
                version = brick_version(table)[name]
                done.append(EmbeddedBrick(str(name), rows, count, version, "SNAPSHOT"))
            merge(session, forks)
            record_embedded(session, GROUP, done)
        return repository

    return run


def test_embeddings_come_back_for_any_rows_in_any_order(repository, ingest, make_block, embed):
    ingest(repository, {"a": make_block(66, brickid=1), "b": make_block(2, brickid=2)})
    table = ledger(read_session(repository), SURVEY)
    rows = valid_rows(table)
    session = read_session(embed(table))
    wanted = rows[[67, 0, 65]]
    found, ids = read_embeddings(session, GROUP, wanted)
    assert found.dtype == np.float16
    expected = [_values(2, 2)[1], _values(1, 66)[0], _values(1, 66)[65]]
    np.testing.assert_allclose(found, np.array(expected), rtol=2e-3)
    assert ids["brickid"].tolist() == [2, 1, 1]
    assert ids["objid"].tolist() == [3, 0, 195]
    assert len(read_embeddings(session, GROUP, rows)[0]) == 68


def test_a_brick_ingested_again_is_pending_again(repository, ingest, make_block, embed):
    ingest(repository, {"a": make_block(3, brickid=1), "b": make_block(2, brickid=2)})
    table = ledger(read_session(repository), SURVEY)
    assert list(pending(table, table.iloc[:0]).index) == ["a", "b"]
    embedded = embed(table)
    done = embedding_ledger(read_session(embedded), DIGEST, SURVEY)
    assert pending(table, done).empty
    ingest(repository, {"a": make_block(65, brickid=1, seed=1)}, content="new")
    table = ledger(read_session(repository), SURVEY)
    assert list(pending(table, done).index) == ["a"]
    session = read_session(embed(table))
    assert pending(table, embedding_ledger(session, DIGEST, SURVEY)).empty
    with pytest.raises(SchemaMismatch, match="3 of 3 rows have no embedding"):
        read_embeddings(session, GROUP, np.arange(3))  # the rows that brick a left


def test_embeddings_of_former_objects_are_noticed(repository, ingest, make_block, embed):
    ingest(repository, {"a": make_block(3, brickid=1)})
    session = read_session(embed(ledger(read_session(repository), SURVEY)))
    rows, ids = np.array([2, 0]), _ids(1, 3).iloc[[2, 0]]
    read_embeddings(session, GROUP, rows, expected=ids)
    with pytest.raises(SchemaMismatch, match="1 of 2 rows .* hold embeddings of other objects"):
        read_embeddings(session, GROUP, rows, expected=ids.assign(objid=[6, 1]))


def test_missing_rows_are_an_error_that_says_what_to_run(repository, ingest, make_block, embed):
    ingest(repository, {"a": make_block(3, brickid=1)})
    session = read_session(embed(ledger(read_session(repository), SURVEY)))
    with pytest.raises(SchemaMismatch, match="2 of 3 rows have no embedding .* run embed"):
        read_embeddings(session, GROUP, np.array([0, 3, 6400]))


def test_provenance_is_kept_and_contradictions_are_refused(tmp_path):
    repository = open_repository(tmp_path / "embeddings", create=True)
    layout = EmbeddingLayout(DIGEST, WIDTH, {"scale": 1})
    with transaction(repository, "create") as session:
        assert not has_embeddings(session, DIGEST, SURVEY)
        create_embeddings(session, SURVEY, layout)
        create_embeddings(session, SURVEY, layout)
        assert has_embeddings(session, DIGEST, SURVEY)
        create_embeddings(session, "dr9/north", EmbeddingLayout("e" * 64, WIDTH))
        assert encoders_of(session, SURVEY) == [DIGEST]
        for other in (
            EmbeddingLayout(DIGEST, WIDTH + 1, {"scale": 1}),
            EmbeddingLayout(DIGEST, WIDTH, {"scale": 2}),
            EmbeddingLayout(DIGEST[:16] + "0" * 48, WIDTH, {"scale": 1}),
        ):
            with pytest.raises(SchemaMismatch, match="another digest"):
                create_embeddings(session, SURVEY, other)


@pytest.mark.parametrize(
    ("values", "rows", "reason"),
    [
        (np.zeros((3, WIDTH + 1)), RowRange(0, 64), "one embedding an object"),
        (np.zeros((2, WIDTH)), RowRange(0, 64), "one embedding an object"),
        (np.zeros((3, WIDTH)), RowRange(0, 32), "own range"),
        (np.zeros((3, WIDTH)), RowRange(64, 64), "own range"),
        (np.full((3, WIDTH), np.nan), RowRange(0, 64), "NaN, inf or values beyond float16"),
        (np.full((3, WIDTH), 7e4), RowRange(0, 64), "NaN, inf or values beyond float16"),
    ],
)
def test_bad_embeddings_are_refused(tmp_path, values, rows, reason):
    repository = open_repository(tmp_path / "embeddings", create=True)
    with transaction(repository, "create") as session:
        create_embeddings(session, SURVEY, EmbeddingLayout(DIGEST, WIDTH))
        reserve_rows(session, DIGEST, SURVEY, 64)
        with pytest.raises(SchemaMismatch, match=reason):
            EmbeddingWriter(session, GROUP).write(rows, values, _ids(1, 3))
