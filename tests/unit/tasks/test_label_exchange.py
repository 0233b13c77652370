"""Labels through files from one home to another: the ledger says the same, and never double."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_survey import SURVEY, write_small_survey

from lvm.questions import GZ2
from storage.label_store import Label, append_labels, read_labels
from tasks.label_exchange import export_exchange, import_exchange, match_positions, standing_rows
from tasks.settings import Settings

ONES = ("ann", "bob")


@pytest.fixture
def home(tmp_path):
    settings = Settings(home=tmp_path / "home")
    return settings, write_small_survey(Path(settings.store_path), {"b1": 6})


@pytest.fixture
def labelled(home):
    settings, snapshot = home
    rows = [
        Label(SURVEY, 10000, 1, objid, "morphology", answer, who, round=2, comment="so")
        for who in ONES
        for objid, answer in enumerate(("spiral", "elliptical", "edge-on"))
    ]
    rows.append(Label(SURVEY, 10000, 1, 0, "morphology", "spiral", "bob", count=-1.0))
    append_labels(settings.labels_path, rows)
    return settings, snapshot


def standing(settings):
    labels = read_labels(settings.labels_path, SURVEY, "morphology")
    columns = ["objid", "annotator", "answer", "count", "comment"]
    return standing_rows(labels)[columns].sort_values(columns).reset_index(drop=True)


@pytest.mark.parametrize("form", ["csv", "label-studio"])
def test_a_file_carries_the_standing_labels_to_another_home(labelled, tmp_path, form):
    settings, snapshot = labelled
    other = Settings(home=tmp_path / "other")
    path = tmp_path / "labels.file.csv"
    export_exchange(settings, SURVEY, path, form, "morphology")
    first = import_exchange(other, snapshot, path, form, "morphology", "")
    again = import_exchange(other, snapshot, path, form, "morphology", "")
    assert sum(item.written for item in first) == 5
    assert sum(item.written + item.corrected for item in again) == 0
    pd.testing.assert_frame_equal(standing(other), standing(settings))


def test_vote_tables_carry_the_sums(labelled, tmp_path):
    settings, snapshot = labelled
    other, path = Settings(home=tmp_path / "other"), tmp_path / "votes.parquet"
    assert export_exchange(settings, SURVEY, path, "galaxy-zoo", "morphology") == 3
    import_exchange(other, snapshot, path, "galaxy-zoo", "morphology", "team")
    found = standing(other)
    assert found.set_index(["objid", "answer"])["count"].to_dict() == {
        (0, "spiral"): 1.0,
        (1, "elliptical"): 2.0,
        (2, "edge-on"): 2.0,
    }


def test_a_galaxy_zoo_table_is_counted_along_the_tree(home, tmp_path):
    settings, snapshot = home
    first, second = GZ2.choices[0], GZ2.choices[1]
    edge, face = "t02_edgeon_a04_yes", "t02_edgeon_a05_no"
    table = pd.DataFrame(
        {
            "brickid": [1],
            "objid": [3],
            "total_classifications": [40],
            f"{first}_weighted_fraction": [0.25],
            f"{second}_weighted_fraction": [0.75],
            f"{edge}_weighted_fraction": [0.2],
            f"{face}_weighted_fraction": [0.8],
        }
    )
    table.to_csv(tmp_path / "zoo.csv", index=False)
    import_exchange(settings, snapshot, tmp_path / "zoo.csv", "galaxy-zoo", "galaxy_zoo", "zoo")
    rows = read_labels(settings.labels_path, SURVEY, "galaxy_zoo")
    votes = dict(zip(rows["answer"], rows["count"], strict=True))
    assert votes == pytest.approx({first: 10.0, second: 30.0, edge: 6.0, face: 24.0})


def test_positions_find_the_nearest_object_or_nothing(home, monkeypatch):
    _, snapshot = home
    objects = pd.DataFrame(
        {
            "release": 1,
            "brickid": 2,
            "objid": [5, 6],
            "ra": [10.0, 359.9999],
            "dec": [60.0, -5.0],
        }
    )
    monkeypatch.setattr("tasks.label_exchange.read_objects", lambda *_, **__: objects)
    arcsec = 1 / 3600
    rows = pd.DataFrame(
        {
            "ra": [10.0 + 2.4 * arcsec, 359.9999, 10.0 + 4 * arcsec],
            "dec": [60.0, -5.0 + 1.4 * arcsec, 60.0],
        }
    )
    found = match_positions(snapshot, rows)
    assert found["objid"].tolist() == [5, 6, -1]
    assert np.array_equal(found["brickid"], [2, 2, -1])
