"""An index belongs to its embeddings: built once, whole; again when outdated; never for others."""

import dataclasses
import json
import shutil

import pytest
from embedded_survey import DIGEST, SURVEY, clustered, embed_bricks, make_survey

from storage.errors import SchemaMismatch
from storage.repository import open_repository, read_session
from storage.search import index_files
from storage.search.index_files import (
    HEADER_FILE,
    StaleIndex,
    index_folder,
    load_index,
    read_header,
    refresh_index,
)
from storage.search.vector_index import INDEX_FILE, IndexConfig
from storage.search.vectors import embedded_rows
from tasks.settings import Settings

COUNT = 30


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a home with embeddings, and these: a test copies what takes seconds to write."""
    settings = Settings(home=tmp_path_factory.mktemp("made"))
    values = clustered(make_survey(settings, 2, 2, COUNT), COUNT)
    embed_bricks(settings, values)
    return settings.home, values


@pytest.fixture
def values(made):
    return made[1].copy()


@pytest.fixture
def opened(settings, made):
    """Return a function that opens the embeddings session and its rows anew."""
    shutil.copytree(made[0], settings.home)

    def run():
        store = settings.home / "store"
        both = [read_session(open_repository(store / name)) for name in ("embeddings", "survey")]
        return both[0], embedded_rows(*both, DIGEST, SURVEY)

    return run


def refresh(root, opened):
    return refresh_index(root, *opened(), {"embeddings_snapshot": "SNAP"})


def test_it_is_built_once(tmp_path, opened):
    index, built = refresh(tmp_path, opened)
    assert (len(index), built) == (4 * COUNT, True)
    index, built = refresh(tmp_path, opened)
    assert (len(index), built) == (4 * COUNT, False)
    header = read_header(index_folder(tmp_path, opened()[1]))
    assert header["encoder_digest"] == DIGEST
    assert header["embeddings_snapshot"] == "SNAP"
    assert header["library"].startswith("faiss ")


def test_other_embeddings_need_another_index_and_the_old_one_goes(
    tmp_path, opened, values, settings
):
    refresh(tmp_path, opened)
    before = index_folder(tmp_path, opened()[1])
    name = next(iter(values))
    embed_bricks(settings, values)  # the same: nothing to do
    assert not refresh(tmp_path, opened)[1]
    _, rows = opened()
    fewer = dataclasses.replace(
        rows, starts=rows.starts[1:], counts=rows.counts[1:], digest="0" * 64
    )
    index, built = refresh_index(tmp_path, opened()[0], fewer, {})
    assert (len(index), built) == (3 * COUNT, True)
    assert not before.exists()
    assert name in rows.bricknames


@pytest.mark.parametrize("name", ["encoder_digest", "survey", "embeddings_digest", "total"])
def test_an_index_of_something_else_in_its_place_is_refused(tmp_path, opened, name):
    refresh(tmp_path, opened)
    rows = opened()[1]
    file = index_folder(tmp_path, rows) / HEADER_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: "another"}))
    with pytest.raises(StaleIndex, match=f"another {name}"):
        load_index(tmp_path, rows)
    assert refresh(tmp_path, opened)[1]


def test_a_damaged_index_is_built_again(tmp_path, opened):
    refresh(tmp_path, opened)
    rows = opened()[1]
    file = index_folder(tmp_path, rows) / INDEX_FILE
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(StaleIndex, match="damaged"):
        load_index(tmp_path, rows)
    index, built = refresh(tmp_path, opened)
    assert (len(index), built) == (4 * COUNT, True)


def test_other_settings_build_another_and_probes_do_not(tmp_path, opened):
    refresh(tmp_path, opened)
    rows = opened()[1]
    load_index(tmp_path, rows, IndexConfig(probes=3))
    with pytest.raises(StaleIndex, match="another config"):
        load_index(tmp_path, rows, IndexConfig(seed=1))


def test_a_build_that_breaks_leaves_nothing(tmp_path, opened, monkeypatch):
    def breaks(*_):
        raise OSError("disk")

    monkeypatch.setattr(index_files, "build_index", breaks)
    with pytest.raises(OSError, match="disk"):
        refresh(tmp_path, opened)
    monkeypatch.undo()
    folder = index_folder(tmp_path, opened()[1])
    assert [path.name for path in folder.parent.iterdir()] == [".lock"]
    assert refresh(tmp_path, opened)[1]


def test_leavings_of_a_killed_build_are_cleared(tmp_path, opened):
    folder = index_folder(tmp_path, opened()[1])
    left = folder.parent / ".building-dead"
    (left / "index").mkdir(parents=True)
    refresh(tmp_path, opened)
    assert not left.exists()


def test_no_embeddings_are_an_error(tmp_path, opened):
    session, rows = opened()
    none = dataclasses.replace(rows, starts=rows.starts[:0], counts=rows.counts[:0])
    with pytest.raises(SchemaMismatch, match="run embed"):
        refresh_index(tmp_path, session, none, {})
