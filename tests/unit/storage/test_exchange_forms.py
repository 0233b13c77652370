"""Every form comes back as it was written, and tables of others are read or refused clearly."""

import json

import pandas as pd
import pytest

from storage.errors import CorruptFile, SchemaMismatch
from storage.label_exchange import (
    COLUMNS,
    read_csv,
    read_label_studio,
    read_votes_table,
    write_csv,
    write_label_studio,
    write_votes,
)

CHOICES = ("smooth", "edge-on")


@pytest.fixture
def labels():
    rows = [
        (10000, 1, 2, "ann", "smooth", 1.0, 3, "v1", 'a "quoted", comment'),
        (10000, 1, 2, "bob", "edge-on", 1.0, 3, "v1", ""),
        (10000, 1, 9, "zoo", "smooth", 31.5, 0, "", "ü"),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def no_fractions(fractions, people):
    raise AssertionError("the table has counts")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_labels_come_back_as_they_were_written(labels, tmp_path, form):
    path = tmp_path / f"labels.{form}"
    if form == "csv":
        write_csv(labels, path)
        found = read_csv(path)
    else:
        write_label_studio(labels, "morphology", path)
        found = read_label_studio(path)
    pd.testing.assert_frame_equal(found, labels)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_votes_come_back_summed_over_annotators(labels, tmp_path, suffix):
    path = tmp_path / f"votes.{suffix}"
    write_votes(labels, CHOICES, path)
    found = read_votes_table(path, CHOICES, "team", no_fractions)
    said = dict(zip(zip(found["objid"], found["answer"], strict=True), found["count"], strict=True))
    assert said == {(2, "smooth"): 1.0, (2, "edge-on"): 1.0, (9, "smooth"): 31.5}
    assert set(found["annotator"]) == {"team"}


def test_fractions_become_votes_by_the_counter_and_positions_will_do(tmp_path):
    path = tmp_path / "zoo.csv"
    path.write_text(
        "RA,DEC,total_votes,smooth_fraction,smooth_weighted_fraction,edge-on_fraction\n"
        "10.5,2.5,40,0.9,0.75,0.25\n"
    )
    found = read_votes_table(path, CHOICES, "zoo", lambda f, n: f * n[:, None])
    assert dict(zip(found["answer"], found["count"], strict=True)) == {
        "smooth": 30.0,
        "edge-on": 10.0,
    }
    assert found["ra"].tolist() == [10.5, 10.5]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("brickid,objid,other_count\n1,2,3\n", "smooth"),
        ("brickid,objid,smooth_fraction\n1,2,0.5\n", "total_votes"),
        ("name,smooth_count\nx,3\n", "ra and dec"),
    ],
)
def test_a_table_without_what_is_needed_is_refused(tmp_path, text, what):
    path = tmp_path / "zoo.csv"
    path.write_text(text)
    with pytest.raises(SchemaMismatch, match=what):
        read_votes_table(path, CHOICES, "zoo", no_fractions)


def test_label_studio_as_others_write_it(tmp_path):
    path = tmp_path / "export.json"
    choice = {"type": "choices", "value": {"choices": ["smooth"]}}
    box = {"type": "rectanglelabels", "value": {"rectanglelabels": ["x"]}}
    annotations = [
        {"completed_by": {"id": 7, "email": "ann@example.org"}, "result": [box, choice]},
        {"completed_by": 3, "was_cancelled": True, "result": [choice]},
    ]
    task = {"data": {"object_id": "10000-5-6", "image": "x"}, "annotations": annotations}
    path.write_text(json.dumps([task]))
    found = read_label_studio(path)
    assert found[["brickid", "objid", "annotator", "answer"]].values.tolist() == [
        [5, 6, "ann@example.org", "smooth"]
    ]


def test_label_studio_without_objects_or_that_is_none_is_refused(tmp_path):
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{"data": {"image": "x"}, "annotations": []}]))
    with pytest.raises(SchemaMismatch, match="names no object"):
        read_label_studio(path)
    path.write_text("{not json")
    with pytest.raises(CorruptFile, match="Label Studio"):
        read_label_studio(path)


def test_a_label_without_annotator_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("release,brickid,objid,answer\n1,2,3,smooth\n")
    with pytest.raises(SchemaMismatch, match="annotator"):
        read_csv(path)
