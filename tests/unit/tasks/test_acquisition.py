"""Strategies choose what they say, the same for the same seed, and nothing twice."""

import numpy as np
import pytest

from tasks.acquisition import (
    STRATEGIES,
    BadAcquisition,
    Candidates,
    badge,
    choose,
    dirichlet_members,
    disagreement,
    entropy,
    k_centre,
    margin,
    standardised,
)

COUNT, WIDTH, CLASSES = 60, 5, 3


def candidates(count=COUNT, seed=0):
    draw = np.random.default_rng(seed)
    probability = draw.dirichlet(np.ones(CLASSES), count)
    members = draw.dirichlet(np.ones(CLASSES), (4, count))
    known = draw.normal(size=(2, WIDTH))
    return Candidates(probability, draw.normal(size=(count, WIDTH)), members, known, known)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_is_seeded_and_takes_nothing_twice(strategy):
    given = candidates()
    first, again, other = (
        choose(strategy, given, 12, np.random.default_rng(seed), 0.25) for seed in (3, 3, 4)
    )
    assert first.index.tolist() == again.index.tolist()
    assert first.index.tolist() != other.index.tolist()
    assert len(set(first.index.tolist())) == 12
    assert first.index.min() >= 0
    assert first.index.max() < COUNT
    assert first.reason.count("random") == (12 if strategy == "random" else 3)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_more_than_there_is_gives_all(strategy):
    found = choose(strategy, candidates(7), 20, np.random.default_rng(0))
    assert sorted(found.index.tolist()) == list(range(7))


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_none_are_chosen_of_none(strategy):
    assert len(choose(strategy, candidates(7), 0, np.random.default_rng(0)).index) == 0


def test_uncertainty_knows_the_undecided():
    sure, split, flat = [0.98, 0.01, 0.01], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]
    probability = np.array([sure, split, flat])
    assert margin(probability) == pytest.approx([0.03, 1.0, 1.0])
    assert entropy(probability).argmax() == 2
    assert entropy(probability)[2] == pytest.approx(1.0)
    found = choose(
        "entropy", Candidates(probability, np.zeros((3, 2))), 2, np.random.default_rng(0)
    )
    assert found.index.tolist() == [2, 1]


def test_disagreement_is_of_members_not_of_noise():
    contradict = np.array([[[0.99, 0.01]], [[0.01, 0.99]]])
    unclear = np.array([[[0.5, 0.5]], [[0.5, 0.5]]])
    assert disagreement(contradict)[0] > 0.6
    assert disagreement(unclear)[0] == pytest.approx(0.0)


def test_members_of_a_dirichlet_agree_when_it_saw_much():
    generator = np.random.default_rng(0)
    members = dirichlet_members(np.array([[1.0, 1.0], [1000.0, 1000.0]]), 200, generator)
    assert members.shape == (200, 2, 2)
    assert members.sum(axis=2) == pytest.approx(np.ones((200, 2)))
    doubt = disagreement(members)
    assert doubt[0] > 10 * doubt[1]


def test_k_centre_covers_every_clump_before_it_returns_to_one():
    draw = np.random.default_rng(0)
    clump = np.repeat(np.arange(6), 10)
    points = 100.0 * np.eye(6)[clump] + draw.normal(size=(60, 6))
    assert set(clump[k_centre(points, 6, None, 0)]) == set(range(6))
    known = points[clump < 4]
    assert set(clump[k_centre(points, 2, known, 0)]) == {4, 5}


def test_badge_takes_the_unsure_and_leaves_the_sure():
    draw = np.random.default_rng(0)
    unsure = np.arange(100) < 20
    probability = np.where(unsure[:, None], [[0.55, 0.45]], [[0.9999, 0.0001]])
    found = badge(probability, draw.normal(size=(100, 4)), 10, draw)
    assert unsure[found].sum() >= 9  # the sure ones are all alike: one may stand for them


def test_badge_goes_on_when_all_candidates_are_equal():
    equal = np.full((8, 2), 0.5)
    found = badge(equal, np.zeros((8, 3)), 8, np.random.default_rng(0))
    assert sorted(found.tolist()) == list(range(8))


def test_uncertain_and_diverse_takes_one_of_each_group():
    clump = np.repeat(np.arange(5), 20)
    points = 50.0 * np.eye(5)[clump] + np.random.default_rng(0).normal(size=(100, 5))
    probability = np.full((100, 2), 0.5)
    found = choose("k_means", Candidates(probability, points), 5, np.random.default_rng(1))
    assert len(found.index) == 5


def test_rare_search_goes_to_the_nearest_of_the_known():
    points = np.vstack([np.eye(4) * 3.0, [[0.9, 0.1, 0.0, 0.0]]])
    given = Candidates(np.zeros((5, 0)), points, positives=np.array([[1.0, 0.0, 0.0, 0.0]]))
    assert set(choose("rare", given, 2, np.random.default_rng(0)).index.tolist()) == {0, 4}


def test_the_random_share_is_even_over_all_candidates():
    given = candidates(10)
    counts = np.zeros(10)
    for seed in range(400):
        found = choose("margin", given, 4, np.random.default_rng(seed), 0.5)
        counts[found.index[[reason == "random" for reason in found.reason]]] += 1
    assert counts.sum() == 800
    assert counts.min() > 50


def test_a_channel_that_never_changes_does_not_blow_up():
    points = standardised(np.column_stack([np.arange(5.0), np.ones(5)]))
    assert points.std(axis=0) == pytest.approx([1.0, 0.0])


def test_what_cannot_be_done_is_refused():
    given = Candidates(np.full((4, 2), 0.5), np.zeros((4, 3)))
    draw = np.random.default_rng(0)
    with pytest.raises(BadAcquisition, match="no strategy"):
        choose("best", given, 1, draw)
    with pytest.raises(BadAcquisition, match="members"):
        choose("disagreement", given, 1, draw)
    with pytest.raises(BadAcquisition, match="positives"):
        choose("rare", given, 1, draw)
    with pytest.raises(BadAcquisition, match="random_share"):
        choose("margin", given, 1, draw, 1.5)
    with pytest.raises(BadAcquisition, match="one row"):
        Candidates(np.zeros((3, 2)), np.zeros((4, 3)))
