"""A store grows brick by brick: what did not change is not touched, what did leaves a history."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tiny_bricks import TinyBrick

from flows.ingest import ingest_bricks, withdraw_bricks
from flows.parameters import IngestRun
from storage.brick import IngestConfig
from storage.brick_ledger import brick_history, ledger_of
from storage.brick_store import ledger, read_objects
from storage.bricks import Brick, brick_at, brick_from_id
from storage.cutouts import CutoutConfig
from storage.embedding_store import (
    EmbeddedBrick,
    EmbeddingLayout,
    brick_version,
    create_embeddings,
    embedding_group,
    record_embedded,
)
from storage.errors import StorageError
from storage.repository import open_repository, read_session, transaction
from storage.schema import BrickState
from storage.selection import Selection
from storage.survey_group import read_configurations
from tasks.references import Outcome, Receipt
from tasks.settings import load_settings
from tasks.staleness import find_stale

SURVEY = "dr10/south"
CONFIG = IngestConfig(cutout=CutoutConfig(size=8, edge="drop"))


def neighbour(number: int) -> Brick:
    return brick_from_id(brick_at(150.0, 2.0).brickid + number)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release of three small bricks."""
    root = tmp_path_factory.mktemp("pristine") / "south"
    for number in range(3):
        TinyBrick(root, brick=neighbour(number)).write()
    return root


@pytest.fixture
def release(pristine, tmp_path) -> Path:
    """Return a copy of the release that a test may change."""
    return shutil.copytree(pristine, tmp_path / "release" / "south")


@pytest.fixture
def names() -> list[str]:
    return [neighbour(number).brickname for number in range(3)]


def ingest(release: Path, bricks: list[str] | None = None, **run) -> Receipt:
    return ingest_bricks(str(release), bricks=bricks, config=CONFIG, run=IngestRun(**run))


def store(name: str = "survey"):
    return open_repository(Path(load_settings().store_path) / name)


def outcomes(receipt: Receipt) -> dict[str, Outcome]:
    return {unit.name: unit.outcome for unit in receipt.units}


def test_an_added_brick_touches_no_other(home, release, names):
    first = ingest(release)
    before = ledger(read_session(store()), SURVEY)
    TinyBrick(release, brick=neighbour(3)).write()
    second = ingest(release)
    assert second.counts["written"] == 1
    assert second.counts["already_present"] == 3
    after = ledger(read_session(store()), SURVEY)
    assert after.loc[names].equals(before)
    changed = store().diff(from_snapshot_id=first.snapshot_id, to_snapshot_id=second.snapshot_id)
    for path, chunks in changed.updated_chunks.items():
        if "/bricks/" not in path and "/history/" not in path:
            assert min(chunk[0] for chunk in chunks) >= 3, f"{path}: chunks of older bricks"


def test_a_changed_brick_is_read_again_alone_and_its_past_stays_readable(home, release, names):
    first = ingest(release)
    assert first.tag == "dr10-south-0001"
    TinyBrick(release, brick=neighbour(1), fluxes=(90.0, 40.0, 30.0)).write()
    second = ingest(release)
    assert outcomes(second)[names[1]] is Outcome.WRITTEN
    assert second.counts["already_present"] == 2
    assert second.tag == "dr10-south-0002"
    pixels = {
        tag: xr.open_zarr(read_session(store(), tag=tag).store, group=SURVEY, consolidated=False)
        for tag in (first.tag, second.tag)
    }
    row = int(ledger_of(read_session(store()), SURVEY, [names[1]]).at[names[1], "row_start"])
    centre = {tag: float(data["image"][row, 0, 4, 4]) for tag, data in pixels.items()}
    assert centre == {first.tag: 50.0, second.tag: 90.0}
    history = brick_history(read_session(store()), SURVEY)
    assert history[["brickname", "state"]].to_numpy().tolist() == [
        [names[1], int(BrickState.SUPERSEDED)]
    ]
    old = read_session(store(), snapshot=history.at[0, "last_snapshot"])
    assert len(read_objects(old, SURVEY, bricknames=[names[1]])) == 3


def test_only_what_depends_on_a_changed_brick_is_stale(home, release, names):
    ingest(release)
    table = ledger(read_session(store()), SURVEY)
    versions = brick_version(table)
    embeddings = open_repository(Path(load_settings().store_path) / "embeddings", create=True)
    with transaction(embeddings, "as if embedded") as session:
        create_embeddings(session, SURVEY, EmbeddingLayout("e" * 64, 4))
        done = [EmbeddedBrick(n, _rows(table, n), 3, versions[n], "S") for n in names]
        record_embedded(session, embedding_group("e" * 64, SURVEY), done)
    assert [(d.current, d.stale, d.missing) for d in find_stale(load_settings(), SURVEY)] == [
        (3, 0, 0)
    ]
    TinyBrick(release, brick=neighbour(2), fluxes=(90.0, 40.0, 30.0)).write()
    TinyBrick(release, brick=neighbour(3)).write()
    ingest(release)
    (found,) = find_stale(load_settings(), SURVEY)
    assert (found.current, found.stale, found.missing) == (2, 1, 1)
    assert found.stale_bricks == (names[2],)


def _rows(table, name):
    from storage.brick_rows import RowRange

    return RowRange(int(table.at[name, "row_start"]), int(table.at[name, "rows"]))


def test_touched_files_are_compared_once_and_then_known(home, release, names):
    first = ingest(release)
    for path in release.rglob("*.fits*"):
        path.touch()
    second = ingest(release)
    assert second.counts["already_present"] == 3
    third = ingest(release)
    assert third.counts["already_present"] == 3
    assert third.snapshot_id == second.snapshot_id
    assert {first.tag, second.tag, third.tag} == {"dr10-south-0001"}


def test_a_withdrawn_brick_stays_out_until_it_is_asked_for_by_name(home, release, names):
    ingest(release)
    done = withdraw_bricks(SURVEY, [names[0]], "satellite trail in r")
    assert (done.objects, done.tag) == (3, "dr10-south-0002")
    assert len(read_objects(read_session(store()), SURVEY)) == 6
    receipt = ingest(release)
    assert outcomes(receipt)[names[0]] is Outcome.SKIPPED
    assert len(read_objects(read_session(store()), SURVEY)) == 6
    back = ingest(release, [names[0]], again=True)
    assert back.counts["written"] == 1
    assert len(read_objects(read_session(store()), SURVEY)) == 9
    states = ledger(read_session(store()), SURVEY)["state"]
    assert set(states) == {int(BrickState.WRITTEN)}
    with pytest.raises(StorageError, match="reason"):
        withdraw_bricks(SURVEY, [names[0]], " ")


def test_one_brick_is_ingested_again_by_name(home, release, names):
    ingest(release)
    receipt = ingest(release, [names[2]], again=True)
    assert outcomes(receipt) == {names[2]: Outcome.WRITTEN}
    assert brick_history(read_session(store()), SURVEY).empty
    assert len(read_objects(read_session(store()), SURVEY)) == 9


def test_the_selection_is_recorded_with_the_snapshot(home, release, names):
    ingest(release)
    config = IngestConfig(cutout=CONFIG.cutout, selection=Selection(max_mag=18.4))
    receipt = ingest_bricks(str(release), bricks=names[:1], config=config)
    assert receipt.counts["written"] == 1
    session = read_session(store(), tag=receipt.tag)
    table = ledger(session, SURVEY)
    known = read_configurations(session, SURVEY)
    limits = [known[digest]["selection"]["max_mag"] for digest in table["config_digest"]]
    assert limits == [18.4, 20.0, 20.0]


def test_a_list_of_bricks_in_a_file(home, release, names, tmp_path):
    listing = tmp_path / "bricks.txt"
    listing.write_text(f"# two of them\n{names[2]}\n{names[0]}\n")
    receipt = ingest(release, brick_list=str(listing))
    assert set(outcomes(receipt)) == {names[0], names[2]}


def test_plain_xarray_reads_the_store(home, release):
    receipt = ingest(release, tag="for-users")
    session = read_session(store(), tag="for-users")
    survey = xr.open_zarr(session.store, group=SURVEY, consolidated=False)
    assert survey["image"].dims == ("object", "band", "y", "x")
    assert survey["image"].attrs["units"] == "nanomaggy"
    assert survey["invvar"].attrs["units"] == "1/nanomaggy^2"
    assert {"ra", "dec", "brickid", "objid", "release", "band", "column"} <= set(survey.coords)
    valid = survey.isel(object=(survey["objid"] >= 0).compute())
    assert valid.sizes["object"] == receipt.objects == 9
    np.testing.assert_array_equal(survey["image"][0, :, 4, 4], [50.0, 100.0, 150.0])


def test_a_run_that_is_refused_leaves_the_log_and_the_store_alone(home, release, tmp_path):
    with pytest.raises(StorageError):
        ingest(tmp_path / "nothing here")
    assert not (home / "store" / "survey").exists()
    shutil.rmtree(release)
    release.mkdir()
    with pytest.raises(StorageError, match="no brick"):
        ingest(release)
