"""Names of snapshots: one for every ingest that changed something, and they never move."""

import pytest

from storage.brick_store import BrickRecord, read_objects, record_bricks
from storage.errors import StorageError
from storage.repository import read_session, snapshot_id, transaction
from storage.schema import BrickState
from storage.snapshot_tags import tag_newest, tags_of

SURVEY = "dr10/south"


@pytest.fixture
def change(repository, ingest, make_block):
    """Return a function that commits a brick as an ingest of this survey does."""
    ingest(repository, {"seed": make_block(1, brickid=99)})

    def commit(name: str, survey: str = SURVEY) -> None:
        with transaction(repository, name, {"survey": survey}) as session:
            record_bricks(session, SURVEY, [BrickRecord(name, 1, BrickState.EMPTY)])

    return commit


def test_runs_are_numbered_and_old_ones_stay_readable(repository, ingest, make_block, change):
    change("a")
    assert tag_newest(repository, SURVEY) == "dr10-south-0001"
    first = snapshot_id(repository)
    ingest(repository, {"b": make_block(4, brickid=2)})
    change("c")
    assert tag_newest(repository, SURVEY) == "dr10-south-0002"
    assert [tag.name for tag in tags_of(repository, SURVEY)] == [
        "dr10-south-0001",
        "dr10-south-0002",
    ]
    assert snapshot_id(repository, tag="dr10-south-0001") == first
    assert len(read_objects(read_session(repository, tag="dr10-south-0001"), SURVEY)) == 1
    assert len(read_objects(read_session(repository), SURVEY)) == 5


def test_a_run_that_changed_nothing_gets_the_tag_that_stands(repository, change):
    change("a")
    tag_newest(repository, SURVEY)
    assert tag_newest(repository, SURVEY) == "dr10-south-0001"
    change("b", survey="dr9/north")
    assert tag_newest(repository, SURVEY) == "dr10-south-0001"
    assert tag_newest(repository, "dr9/north") == "dr9-north-0001"


def test_a_killed_run_is_tagged_by_the_next_one(repository, change):
    change("a")  # and killed before its tag
    change("b", survey="dr9/north")
    assert tag_newest(repository, SURVEY) == "dr10-south-0001"


def test_without_any_ingest_there_is_no_tag(repository, change):
    assert tag_newest(repository, "dr9/south") == ""
    assert tags_of(repository) == []


def test_a_name_of_ones_own(repository, change):
    change("a")
    assert tag_newest(repository, SURVEY, "paper-2") == "paper-2"
    assert tag_newest(repository, SURVEY, "paper-2") == "paper-2"
    change("b")
    with pytest.raises(StorageError, match="another snapshot"):
        tag_newest(repository, SURVEY, "paper-2")
    with pytest.raises(StorageError, match="letters"):
        tag_newest(repository, SURVEY, "a/b")
    assert tags_of(repository)[0].message == "a"
