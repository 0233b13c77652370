"""Data sets frozen from a small survey; what an earlier one tested on, later ones test on too."""

import shutil

import numpy as np
import pytest
from measured_survey import sky_patch
from placed_survey import SPLIT, place_galaxies, votes, write_galaxies

from lvm.downstream.base import SOURCES
from storage.label_store import append_labels
from tasks import datasets
from tasks.dataset_columns import UnknownNeed, question_classes, question_of
from tasks.datasets import (
    NotEnoughLabels,
    answered_objects,
    freeze_dataset,
    labelled_objects,
    object_ids,
    votes_of,
)
from tasks.settings import Settings

COUNT = 90


@pytest.fixture(scope="module")
def settings(empty_tracking, tmp_path_factory):
    home = tmp_path_factory.mktemp("datasets") / "home"
    shutil.copytree(empty_tracking, home)
    return Settings(home=home)


@pytest.fixture(scope="module")
def placed(settings):
    return place_galaxies(settings, bricks=1, count=COUNT)


def test_every_object_is_in_a_split_or_counted(settings, placed):
    dataset = freeze_dataset.fn(settings, placed.snapshot, "morphology", SPLIT)
    assert sum(dataset.totals().values()) + sum(dataset.left_out.values()) == COUNT
    table = labelled_objects(dataset)
    assert len(table) == sum(dataset.totals().values())
    assert set(table["split"]) == {"train", "val", "test"}
    assert votes_of(table, dataset).sum(axis=1).tolist() == [20.0] * len(table)
    assert dataset.totals() == table["split"].value_counts().to_dict()


def test_a_data_set_is_the_same_whenever_it_is_read(settings, placed):
    dataset = freeze_dataset.fn(settings, placed.snapshot, "morphology", SPLIT)
    append_labels(settings.labels_path, votes(sky_patch(1, 1)[0], 3))  # later votes
    first, again = answered_objects(dataset), answered_objects(dataset)
    assert first.table.equals(again.table)
    assert first.target.max() == 18.0


def test_later_data_sets_keep_the_test_objects_of_earlier_ones(settings, placed, monkeypatch):
    before = freeze_dataset.fn(settings, placed.snapshot, "morphology", SPLIT)
    tested = set(object_ids(answered_objects(before).of("test").table))
    bricks = sky_patch(2, 1)
    grown = write_galaxies(settings, bricks, COUNT)
    append_labels(settings.labels_path, votes(bricks[1], COUNT))
    after = freeze_dataset.fn(settings, grown, "morphology", SPLIT)
    assert tested < set(object_ids(answered_objects(after).of("test").table))
    assert after.test_digest != before.test_digest

    # Even if positions had moved every object out of the test split.
    def moved(ra, dec, ids, config):
        return np.array(["train", "val"] * len(ra))[: len(ra)].astype("U6")

    monkeypatch.setattr(datasets, "assign_splits", moved)
    pinned = freeze_dataset.fn(settings, grown, "morphology", SPLIT)
    assert tested <= set(object_ids(answered_objects(pinned).of("test").table))


def test_sources_come_with_every_object(settings, placed):
    dataset = freeze_dataset.fn(settings, placed.snapshot, "detection", SPLIT)
    found = answered_objects(dataset)
    assert found.target.shape[::2] == (len(found.table), 6)
    # The object itself is in the middle of its cutout of 24 pixels.
    assert np.abs(found.target[:, 0, :2] - 12).max() <= 0.5 + 1e-3
    assert dataset.question == ""


def test_a_part_is_drawn_by_the_names_of_objects(settings, placed):
    found = answered_objects(freeze_dataset.fn(settings, placed.snapshot, "morphology", SPLIT))
    few, more = (set(object_ids(found.drawn(count).table)) for count in (10, 20))
    assert (len(few), len(more)) == (10, 20)
    assert few < more
    assert found.drawn(1000) is found
    assert len(found.drawn(10).target) == 10


def test_a_task_without_needs_takes_every_object(settings, placed):
    found = answered_objects(freeze_dataset.fn(settings, placed.snapshot, "restoration", SPLIT))
    assert found.target is None
    assert found.columns == {}


def test_without_labels_the_error_says_how_to_get_some(settings, placed):
    with pytest.raises(NotEnoughLabels, match="brickyard labels.*galaxy_zoo"):
        freeze_dataset.fn(settings, placed.snapshot, "galaxy_zoo", SPLIT)


def test_a_column_that_the_survey_lacks_is_named(settings, placed):
    options = {"redshift": "z_spec"}
    with pytest.raises(UnknownNeed, match="z_spec"):
        freeze_dataset.fn(settings, placed.snapshot, "parameters", SPLIT, options)


class _Asks:
    name = "made-up"
    config = None

    def __init__(self, *needs):
        self.needs = needs


def test_the_question_of_a_task_is_the_one_whose_votes_it_needs():
    assert question_of(_Asks("morphology_vote", "flux_r")) == "morphology"
    assert question_of(_Asks(SOURCES)) == ""
    assert question_classes(_Asks("morphology_vote"))[0] == "elliptical"
    with pytest.raises(UnknownNeed, match="one question"):
        question_of(_Asks("a_vote", "b_vote"))
