"""Files of chunks against what Icechunk itself reads, and what is not known."""

import asyncio
import shutil
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from zarr.buffer import default_buffer_prototype

from storage import row_decoder, shard_source
from storage.batches import iterate_batches, read_cutouts
from storage.chunk_files import find_chunk
from storage.errors import CorruptFile
from storage.repository import open_repository, read_session, transaction
from storage.schema import PIXEL_ARRAYS
from storage.shard_layout import chunk_key

SURVEY = "dr10/south"
SHARDS = 5


@pytest.fixture
def survey(repository, ingest, make_block) -> icechunk.Session:
    ingest(repository, {f"b{i}": make_block(n, brickid=i) for i, n in enumerate((70, 3, 120))})
    return read_session(repository)


def array_of(session: icechunk.Session, name: str) -> zarr.Array:
    return zarr.open_group(session.store, mode="r")[f"{SURVEY}/{name}"]


def bytes_of(session: icechunk.Session, name: str, shard: int) -> bytes:
    key = chunk_key(array_of(session, name), shard)
    return asyncio.run(session.store.get(key, default_buffer_prototype())).to_bytes()


def assert_all_found(session: icechunk.Session) -> None:
    for name in PIXEL_ARRAYS:
        for shard in range(SHARDS):
            place = find_chunk(session, f"{SURVEY}/{name}", shard)
            assert place is not None
            buffer = np.empty(place.length, np.uint8)
            with place.open() as chunk:
                chunk.read_into(buffer, 0)
            assert buffer.tobytes() == bytes_of(session, name, shard)


def test_every_shard_is_where_icechunk_has_it(survey):
    assert_all_found(survey)


def test_also_when_manifests_are_split(tmp_path, ingest, make_block, monkeypatch):
    monkeypatch.setattr("storage.repository.MANIFEST_SHARDS", 2)
    repository = open_repository(tmp_path / "split", create=True)
    ingest(repository, {f"b{i}": make_block(n, brickid=i) for i, n in enumerate((70, 3, 120))})
    assert_all_found(read_session(repository))


def test_an_older_snapshot_keeps_its_own_chunks(repository, ingest, make_block, survey):
    before = read_cutouts(survey, SURVEY, [0, 1])["image"].copy()
    ingest(repository, {"b0": make_block(70, brickid=0, seed=9)}, content="changed")
    older = read_session(repository, snapshot=survey.snapshot_id)
    np.testing.assert_array_equal(read_cutouts(older, SURVEY, [0, 1])["image"], before)
    assert_all_found(older)


def test_a_copy_of_the_store_is_read_where_it_lies(survey, tmp_path):
    before = read_cutouts(survey, SURVEY, [0, 69, 130])["image"].copy()
    shutil.copytree(tmp_path / "survey", tmp_path / "copy")
    shutil.rmtree(tmp_path / "survey")
    copied = read_session(open_repository(tmp_path / "copy"))
    assert_all_found(copied)
    np.testing.assert_array_equal(read_cutouts(copied, SURVEY, [0, 69, 130])["image"], before)


def test_what_is_not_in_a_file_is_not_known(repository, survey):
    assert find_chunk(survey, f"{SURVEY}/image", SHARDS) is None  # no such shard
    assert find_chunk(survey, f"{SURVEY}/nothing", 0) is None
    assert find_chunk(survey, f"{SURVEY}/band", 0) is None  # small: in the manifest itself
    with transaction(repository, "open") as session:
        assert find_chunk(session, f"{SURVEY}/image", 0) is None  # may change
    unknown = icechunk.Repository.create(icechunk.in_memory_storage()).readonly_session("main")
    assert find_chunk(unknown, f"{SURVEY}/image", 0) is None


@pytest.mark.parametrize("at", [0, 36, 37], ids=["magic", "specification", "kind"])
def test_a_manifest_of_another_form_is_not_read(survey, tmp_path, at, caplog):
    for manifest in (tmp_path / "survey" / "manifests").iterdir():
        content = bytearray(manifest.read_bytes())
        content[at] += 1
        manifest.write_bytes(bytes(content))
    assert find_chunk(survey, f"{SURVEY}/image", 0) is None
    assert "another form" in caplog.text


@pytest.fixture
def icechunk_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_source, "find_chunk", lambda *_: None)


@pytest.mark.parametrize("rows", [[3], [0, 20, 40, 60], [130, 5, 69, 5], range(190)], ids=str)
def test_icechunk_gives_the_same_cutouts(survey, rows, request):
    from_files = {name: v.copy() for name, v in read_cutouts(survey, SURVEY, rows).items()}
    request.getfixturevalue("icechunk_alone")
    for name, values in read_cutouts(survey, SURVEY, rows).items():
        np.testing.assert_array_equal(values, from_files[name])


def test_arrays_in_files_and_others_together(survey, monkeypatch):
    rows = np.arange(190)
    whole = {name: v.copy() for name, v in read_cutouts(survey, SURVEY, rows).items()}

    def without_masks(session, path, shard):
        return None if path.endswith("maskbits") else find_chunk(session, path, shard)

    monkeypatch.setattr(shard_source, "find_chunk", without_masks)
    for name, values in read_cutouts(survey, SURVEY, rows).items():
        np.testing.assert_array_equal(values, whole[name])


def first_file(session: icechunk.Session) -> Path:
    place = find_chunk(session, f"{SURVEY}/image", 0)
    assert place is not None
    return place.path


def test_a_file_that_ends_early_is_named(survey):
    path = first_file(survey)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptFile, match=f"{path.name} has .* bytes"):
        read_cutouts(survey, SURVEY, [0], ["image"])


def test_a_file_that_was_removed_is_icechunks_error(survey):
    first_file(survey).unlink()
    with pytest.raises(icechunk.IcechunkError):
        read_cutouts(survey, SURVEY, [0], ["image"])


def test_a_file_removed_while_it_is_read_is_read_to_its_end(survey):
    place = find_chunk(survey, f"{SURVEY}/image", 0)
    expected = bytes_of(survey, "image", 0)
    buffer = np.empty(place.length, np.uint8)
    with place.open() as chunk:
        place.path.unlink()
        chunk.read_into(buffer, 0)
    assert buffer.tobytes() == expected


def test_a_shuffled_pass_with_files_and_compiled_loops(survey, monkeypatch):
    monkeypatch.setattr(row_decoder, "KERNEL_ROWS", 1)
    rows = np.arange(190)
    shuffle = np.random.default_rng(0)
    batches = list(iterate_batches(survey, SURVEY, rows, 32, shuffle=shuffle))
    truth = array_of(survey, "image")[:190]
    for batch in batches:
        np.testing.assert_array_equal(batch.image, truth[batch.rows])
