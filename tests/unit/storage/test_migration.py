"""Stores of older schemas become new ones, whatever interrupts it, and their old tags say so."""

import shutil
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from small_survey import BANDS, SURVEY, cutouts_of, withdraw_bricks, write_small_survey

from storage import migration
from storage.batches import iterate_batches
from storage.brick_store import ledger, read_objects
from storage.errors import SchemaMismatch, StorageError
from storage.migration import migrate_survey, plan_migrations, schema_of, settle_migration
from storage.repository import list_tags, open_repository, read_session, transaction
from storage.schema import CHUNK_ROWS, SHARD_ROWS
from storage.survey_digest import content_digest_of
from storage.survey_group import read_layout

COUNTS = {"b1": 3, "b2": 70, "b3": 2, "b4": 1}
HALF = 1 / 50  # float16 of old stores moved a pixel by at most so much of its noise


def make_old(store: Path, schema: int) -> icechunk.Repository:
    """Turn the survey of a store into what code of an older schema wrote."""
    repository = open_repository(store / "survey")
    with transaction(repository, "as of old") as session:
        group = zarr.open_group(session.store, path=SURVEY, mode="r+")
        image = group["image"][:]
        half = np.clip(image, -65504, 65504).astype(np.float16)
        rest = image - half.astype(np.float32)
        noise = 1 / np.sqrt(np.maximum(group["invvar"][:], 1e-12))
        excess = np.where(np.abs(rest) > HALF * noise, rest, np.float32(0))
        del group["image"]
        for name, values in {
            "image": half,
            "image_excess": excess,
            "n_excess": np.count_nonzero(excess, axis=(1, 2, 3)).astype(np.int32),
        }.items():
            shape = values.shape[1:]
            rows = CHUNK_ROWS if shape else SHARD_ROWS
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=(rows, *shape),
                shards=(SHARD_ROWS, *shape) if shape else None,
            )
            array[:] = values
        if schema == 1:
            del group["history"]
            for name in ("fingerprint", "verification"):
                del group["bricks"][name]
            group.attrs["schema_version"] = 1
    return repository


@pytest.fixture
def store(tmp_path) -> Path:
    write_small_survey(tmp_path / "store", COUNTS)
    withdraw_bricks(tmp_path / "store", ["b4"])
    return tmp_path / "store"


class Killed(BaseException):
    """What a kill -9 is for code that catches exceptions."""


def pixels(repository: icechunk.Repository) -> np.ndarray:
    session = read_session(repository)
    rows = read_objects(session, SURVEY, catalogue=False)["row"].to_numpy()
    return np.concatenate([b.pixels["image"] for b in iterate_batches(session, SURVEY, rows, 64)])


@pytest.mark.parametrize("schema", [1, 2])
def test_an_old_survey_becomes_a_new_one_with_the_same_bricks_rows_and_pixels(store, schema):
    fresh = open_repository(store / "survey")
    expected = ledger(read_session(fresh), SURVEY)
    repository = make_old(store, schema)
    old = repository.lookup_branch("main")
    [plan] = plan_migrations(repository)
    assert (plan.schema[0], plan.bricks, plan.done) == (str(schema), len(COUNTS), 0)
    done = migrate_survey(repository, SURVEY, bricks_per_commit=2)
    assert done.tag == "dr10-south-0001"
    session = read_session(repository)
    assert schema_of(session, SURVEY) == "2"
    assert read_layout(session, SURVEY).bands == BANDS
    assert ledger(session, SURVEY).equals(expected)
    assert list_tags(repository)[f"dr10-south-schema-{schema}"] == old
    cutouts = [cutouts_of(int(name[1:]), n) for name, n in COUNTS.items() if name != "b4"]
    made, invvar = (np.concatenate([c[name] for c in cutouts]) for name in ("image", "invvar"))
    known = invvar > 0
    moved = np.abs(pixels(repository) - made) * np.sqrt(invvar)
    assert moved[known].max() < 1.01 * HALF
    assert (np.abs(pixels(repository) - made) <= np.maximum(2**-10 * np.abs(made), 1e-3)).all()


def test_after_a_migration_there_is_nothing_to_migrate_and_nothing_is_left(store):
    repository = make_old(store, 1)
    migrate_survey(repository, SURVEY)
    newest = repository.lookup_branch("main")
    assert plan_migrations(repository) == []
    again = migrate_survey(repository, SURVEY)
    assert (again.bricks, again.tag) == (0, "")
    assert repository.lookup_branch("main") == newest
    assert repository.list_branches() == {"main"}


def test_a_migration_that_was_killed_goes_on_and_readers_see_the_old_survey_until_its_end(store):
    repository = make_old(store, 1)
    old = repository.lookup_branch("main")
    undisturbed = store.with_name("copy")
    shutil.copytree(store, undisturbed)
    migrate_survey(open_repository(undisturbed / "survey"), SURVEY)

    def kill(done: int, total: int) -> None:
        assert open_repository(store / "survey").lookup_branch("main") == old
        raise Killed

    for done in (0, 1):
        assert plan_migrations(repository)[0].done == done
        with pytest.raises(Killed):
            migrate_survey(repository, SURVEY, bricks_per_commit=1, tell=kill)
    counted: list[int] = []
    migrate_survey(repository, SURVEY, tell=lambda done, total: counted.append(total - done))
    assert counted == [0]
    digests = {
        content_digest_of(read_session(open_repository(place / "survey")), SURVEY)
        for place in (store, undisturbed)
    }
    assert len(digests) == 1


def test_a_kill_before_the_tag_is_made_good_by_the_next_run(store, monkeypatch):
    repository = make_old(store, 1)
    with monkeypatch.context() as patch:
        patch.setattr(migration, "settle_migration", lambda repository: "")
        migrate_survey(repository, SURVEY)
    assert "dr10-south-0001" not in list_tags(repository)
    assert settle_migration(repository) == "dr10-south-0001"
    assert repository.list_branches() == {"main"}
    assert settle_migration(repository) == ""


def test_a_branch_of_a_snapshot_that_is_no_longer_the_newest_is_begun_anew(store):
    repository = make_old(store, 1)

    def kill(done: int, total: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        migrate_survey(repository, SURVEY, bricks_per_commit=1, tell=kill)
    with transaction(repository, "another survey") as session:
        zarr.create_group(session.store, path="dr9/north", attributes={"schema_version": 2})
    assert {plan.survey: plan.done for plan in plan_migrations(repository)} == {SURVEY: 0}
    migrate_survey(repository, SURVEY)
    assert "dr9" in zarr.open_group(read_session(repository).store, mode="r")


def test_an_old_snapshot_is_refused_by_name_of_its_schema(store):
    repository = make_old(store, 1)
    migrate_survey(repository, SURVEY)
    session = read_session(repository, tag="dr10-south-schema-1")
    with pytest.raises(SchemaMismatch, match=r"has schema 1 .* the version of Brickyard that"):
        read_objects(session, SURVEY)


def test_a_schema_of_the_future_is_refused(store):
    repository = open_repository(store / "survey")
    with transaction(repository, "of the future") as session:
        zarr.open_group(session.store, path=SURVEY, mode="r+").attrs["schema_version"] = 3
    with pytest.raises(StorageError, match="has schema 3, this code knows 1 to 2"):
        plan_migrations(repository)
