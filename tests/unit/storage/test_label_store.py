"""Labels are only ever added, all or none, and every moment can be read back."""

import sqlite3
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from storage.errors import SchemaMismatch, StorageError
from storage.label_store import (
    Label,
    append_labels,
    labels_digest,
    read_labels,
    read_object_labels,
    read_votes,
)

SURVEY = "dr10/south"
CLASSES = ("spiral", "elliptical", "edge-on")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "labels.sqlite"


def _label(objid: int, answer: str, **more) -> Label:
    return Label(SURVEY, 10000, 7, objid, "morphology", answer, "ada", **more)


def test_votes_add_up_by_object_and_class(path):
    votes = [_label(1, "spiral"), _label(1, "spiral", count=3.5), _label(1, "elliptical")]
    assert append_labels(path, [*votes, _label(2, "edge-on"), _label(3, "unknown thing")]) == 5
    append_labels(path, [Label(SURVEY, 10000, 7, 2, "quality", "good", "ada")])
    found = read_votes(path, SURVEY, "morphology", CLASSES)
    assert list(found.columns) == ["release", "brickid", "objid", *CLASSES]
    assert found["objid"].tolist() == [1, 2]
    assert found[list(CLASSES)].to_numpy().tolist() == [[4.5, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_a_question_without_answers_gives_an_empty_table_of_the_same_columns(path):
    append_labels(path, [_label(1, "spiral")])
    found = read_votes(path, SURVEY, "other", CLASSES)
    assert list(found.columns) == ["release", "brickid", "objid", *CLASSES]
    assert len(found) == 0


def test_a_data_frame_of_numpy_numbers_is_taken(path):
    table = pd.DataFrame(
        {
            "survey": SURVEY,
            "release": np.array([10000, 10000], np.int32),
            "brickid": np.array([7, 7], np.int32),
            "objid": np.array([1, 2**62], np.int64),
            "question": "morphology",
            "answer": ["spiral", "elliptical"],
            "annotator": "galaxy-zoo",
            "count": np.array([12.5, 3], np.float32),
        }
    )
    append_labels(path, table)
    found = read_votes(path, SURVEY, "morphology", CLASSES)
    assert found["objid"].tolist() == [1, 2**62]
    assert found["spiral"].tolist() == [12.5, 0.0]


def test_unknown_and_absent_columns_are_named(path):
    with pytest.raises(SchemaMismatch, match=r"unknown columns \['colour'\], absent .*'survey'"):
        append_labels(path, pd.DataFrame({"colour": ["red"]}))


@pytest.mark.parametrize(
    "bad", [{"shown": "not json"}, {"answer": ""}, {"objid": 2**63}, {"count": None}]
)
def test_one_bad_label_keeps_all_of_them_out(path, bad):
    append_labels(path, [_label(0, "spiral")])
    fields = {"objid": 2, "answer": "spiral"} | bad
    with pytest.raises(SchemaMismatch, match="none written"):
        append_labels(path, [_label(1, "spiral"), _label(**fields)])
    assert read_labels(path, SURVEY, "morphology")["objid"].tolist() == [0]


def test_all_labels_of_one_object_whatever_the_question(path):
    other = Label(SURVEY, 10000, 7, 1, "quality", "good", "bob")
    append_labels(path, [_label(1, "spiral"), _label(2, "spiral"), other])
    found = read_object_labels(path, SURVEY, 10000, 7, 1)
    assert found["question"].tolist() == ["morphology", "quality"]
    assert len(read_object_labels(path, "dr9/north", 10000, 7, 1)) == 0


def test_the_database_refuses_changes_and_deletion(path):
    append_labels(path, [_label(1, "spiral")])
    for statement in ("UPDATE labels SET answer = 'x'", "DELETE FROM labels"):
        connection = sqlite3.connect(path)
        try:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
        finally:
            connection.close()
    assert read_labels(path, SURVEY, "morphology")["answer"].tolist() == ["spiral"]


def test_as_of_gives_back_an_earlier_moment_with_its_digest(path):
    append_labels(path, [_label(1, "spiral")])
    before = labels_digest(path, SURVEY, "morphology")
    moment = datetime.now(UTC)
    append_labels(path, [_label(1, "elliptical")])
    assert labels_digest(path, SURVEY, "morphology") != before
    assert labels_digest(path, SURVEY, "morphology", as_of=moment) == before
    assert read_votes(path, SURVEY, "morphology", CLASSES, as_of=moment)["spiral"].tolist() == [1]
    with pytest.raises(SchemaMismatch, match="no time zone"):
        read_labels(path, SURVEY, "morphology", as_of=datetime(2026, 1, 1))


def test_reading_before_any_label_says_what_to_do_and_makes_no_file(path):
    with pytest.raises(StorageError, match="add labels first"):
        read_votes(path, SURVEY, "morphology", CLASSES)
    assert not path.exists()
    assert append_labels(path, []) == 0
    assert not path.exists()
