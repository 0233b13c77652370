"""What a round asks about: never what is labelled or in the test split, always the same again."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from measured_survey import sky_patch
from placed_survey import SPLIT, SURVEY, place_galaxies, votes

from storage.label_store import Label, append_labels
from tasks.acquisition import BadAcquisition
from tasks.datasets import freeze_dataset
from tasks.round_choice import Ground, RoundConfig, choose_objects
from tasks.settings import Settings

COUNT, SEEDED = 160, 60
CONFIG = RoundConfig(count=20, strategy="k_centre", random_share=0.25, gold_share=0.2)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Return a survey of which some objects are labelled, with a frozen test split."""
    settings = Settings(home=tmp_path_factory.mktemp("choice"))
    placed = place_galaxies(settings, bricks=1, count=COUNT)
    settings.labels_path.unlink()
    [brick] = sky_patch(1, 1)
    table = votes(brick, COUNT)
    append_labels(settings.labels_path, table[table["objid"] < SEEDED])
    gold = [
        Label(SURVEY, 10000, brick.brickid, objid, "morphology", "spiral", "gold")
        for objid in range(8)
    ]
    append_labels(settings.labels_path, gold)
    return Ground(settings, "morphology", placed.embeddings)


@pytest.fixture(scope="module")
def dataset(ground):
    return freeze_dataset.fn(ground.settings, ground.snapshot, "morphology", SPLIT)


def numbers(chosen):
    return {int(name.rpartition("-")[2]) for name in chosen.reasons}


def test_a_round_has_its_shares_and_is_the_same_again(ground):
    chosen = choose_objects(ground, None, CONFIG, 1, SPLIT)
    assert Counter(chosen.reasons.values()) == {"k_centre": 15, "random": 5}
    assert len(chosen.gold) == 4
    assert len(chosen.items) == 24
    assert {item.gold for item in chosen.items} == {"", "spiral"}
    # nothing that is shown tells which objects are gold
    assert {item.why for item in chosen.items if item.gold} == {"k_centre"}
    assert min(numbers(chosen)) >= SEEDED
    assert choose_objects(ground, None, CONFIG, 1, SPLIT) == chosen
    assert choose_objects(ground, None, CONFIG, 2, SPLIT).reasons != chosen.reasons


def test_objects_of_a_frozen_test_split_are_not_asked_about(ground, dataset):
    many = RoundConfig(count=COUNT, strategy="random", gold_share=0.0)
    chosen = choose_objects(ground, None, many, 1, SPLIT)
    objects = ground.objects()
    free = objects[objects["objid"] >= SEEDED]
    assert len(chosen.items) < len(free)
    # were they labelled, none would be in the test split
    answers = [
        Label(SURVEY, item.release, item.brickid, item.objid, "morphology", "spiral", "x")
        for item in chosen.items
    ]
    other = Settings(home=ground.settings.home / "other", store=ground.settings.store_path)
    append_labels(other.labels_path, answers)
    found = freeze_dataset.fn
    with pytest.raises(ValueError, match="'test': 0"):
        found(other, ground.snapshot, "morphology", SPLIT)


def test_without_a_model_uncertainty_is_not_guessed(ground):
    margin = RoundConfig(count=5, strategy="margin", gold_share=0.0)
    assert choose_objects(ground, None, margin, 1, SPLIT).strategy == "random"


def test_rare_objects_are_sought_beside_known_ones(ground):
    rare = RoundConfig(count=5, strategy="rare", rare_class="edge-on", random_share=0.0)
    known = ground.consensus()
    chosen = choose_objects(ground, None, rare, 1, SPLIT)
    assert set(chosen.reasons.values()) == {"rare"}
    objects = ground.objects()
    vectors = ground.vectors(objects)
    vectors = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-9)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    like = vectors[objects["object_id"].isin(known.index[known == "edge-on"]).to_numpy()]
    near = pd.Series((vectors @ like.T).max(axis=1), index=objects["object_id"])
    free = near[~near.index.isin(known.index)]
    assert near[list(chosen.reasons)].mean() > free.mean()
    with pytest.raises(BadAcquisition, match="label one"):
        choose_objects(ground, None, RoundConfig(strategy="rare", rare_class="other"), 1, SPLIT)


def test_nothing_is_left_when_all_is_labelled(ground, tmp_path):
    other = Settings(home=tmp_path, store=ground.settings.store_path)
    append_labels(other.labels_path, votes(sky_patch(1, 1)[0], COUNT))
    full = Ground(other, "morphology", ground.embeddings)
    assert choose_objects(full, None, CONFIG, 1, SPLIT).items == ()


def test_a_wrong_configuration_is_refused():
    with pytest.raises(ValueError, match="shares"):
        RoundConfig(random_share=1.5)
